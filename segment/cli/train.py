"""``segment train``: an annotated volume in, a model file out."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from segment.cli.arguments import check_files, known_voxel_size, parse_slices
from streamdetect.cli.console import needs_extra, say, table_console, write_json


def train(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The volume: TIFF, slices, HDF5, MRC or Zarr.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="What is marked in it: 0 and 1, or 0 and 255.")],
    out: Annotated[Path, typer.Option(metavar="M.onnx", help="The model file to write; a card goes beside it.")],
    minutes: Annotated[
        float | None, typer.Option(help="How long to train; the schedule fits itself to it. 60 by default.", min=0.05)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Or how often to go through the training voxels.", min=0.001)
    ] = None,
    train_slices: Annotated[
        list[str] | None, typer.Option(metavar="A:B", help="Slices to learn from, B excluded; repeat for more runs.")
    ] = None,
    validate_slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Slices to choose weights and threshold on; the last eighth.")
    ] = None,
    test_slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Slices to score once with the finished model.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, where the file does not say.")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Axes to cut slices along; zyx where voxels are as long as wide, else z.")
    ] = None,
    width: Annotated[int, typer.Option(help="Feature maps at the finest level; multiples of 16 run fastest.")] = 16,
    depth: Annotated[int, typer.Option(help="Levels below the finest.")] = 3,
    stem: Annotated[int, typer.Option(help="1, 2 or 4: pixels along the side of a position of the finest level.")] = 2,
    slice_offsets: Annotated[
        str, typer.Option(metavar="N,N,N", help="Slices fed as channels, around the one that is segmented.")
    ] = "-2,0,2",
    batch: Annotated[int, typer.Option(help="Patches a step.", min=1)] = 4,
    patch: Annotated[int, typer.Option(help="Side of a patch in pixels.", min=16)] = 256,
    learning_rate: Annotated[float, typer.Option(help="Its peak.", min=1e-7, max=1.0)] = 1e-3,
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16; auto takes bfloat16 where the hardware computes in it.")
    ] = "auto",
    patience: Annotated[int, typer.Option(help="Stop after this many validations without a better one.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=2**32 - 1)] = 0,
    target: Annotated[str, typer.Option(help="What is marked, for the model's metadata.")] = "mitochondria",
    start: Annotated[
        str | None, typer.Option(metavar="M", help="Begin with the weights of a model: a file, or a shipped name.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="F.npz", help="Where the run is kept; M.checkpoint.npz by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, with the same options.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="F.html", help="Draw loss, slices and predictions.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Train a network on an annotated volume, and write it as one ONNX file.

    Slices that are trained on, chosen on and scored on lie apart.
    """
    with needs_extra("segment-train"):
        from segment.training.card import CARD_MARK
        from segment.training.fit import fit_model, split_slices
        from segment.training.report import write_report
        from segment.training.train import TrainSettings
        from segment.training.unet import NetworkSettings
    from segment.serving.model import SegmentationModel
    from segment.volumes import open_volume, parse_voxel_size, read_labels
    from streamdetect.errors import InputError

    if minutes is not None and epochs is not None:
        raise InputError("--minutes and --epochs: give one of the two")
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: a model file's name must end in .onnx")
    checkpoint = checkpoint or out.with_suffix(".checkpoint.npz")
    if resume and not checkpoint.is_file():
        raise InputError(f"--resume: there is no checkpoint {checkpoint} to go on from; name it with --checkpoint")
    card = out.with_suffix(".md")
    check_files((image, labels, start), out=out, card=card, checkpoint=checkpoint, report=report, json=json)
    if card.exists() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"--out {out}: its model card would replace {card}, which is something else; rename one")
    network = NetworkSettings(width, depth, stem, _parse_offsets(slice_offsets))
    chosen_axes = _parse_axes(axes) if axes is not None else None
    voxel_given = parse_voxel_size(voxel_size) if voxel_size is not None else None
    with open_volume(image, voxel_nm=voxel_given) as volume:
        voxel_nm = known_voxel_size(volume.voxel_nm, image)
        n_slices = volume.shape[0]
        split = split_slices(
            n_slices,
            [parse_slices(each, n_slices, "--train-slices") for each in train_slices or ()],
            parse_slices(validate_slices, n_slices, "--validate-slices") if validate_slices is not None else None,
            parse_slices(test_slices, n_slices, "--test-slices") if test_slices is not None else None,
        )
        marked = read_labels(labels, shape=volume.shape, of=image)
        isotropic = max(voxel_nm) < 1.2 * min(voxel_nm)
        settings = TrainSettings(
            network=network,
            minutes=None if epochs is not None else minutes or 60.0,
            epochs=epochs,
            batch=batch,
            patch=patch,
            axes=chosen_axes or ("zyx" if isotropic else "z"),
            learning_rate=learning_rate,
            patience=patience,
            precision=precision,
            seed=seed,
        )
        with training_progress() as on_progress:
            fitted = fit_model(
                volume,
                marked,
                labels,
                voxel_nm,
                split,
                settings,
                out,
                target=target,
                checkpoint=checkpoint,
                resume=resume,
                start=start,
                command=shlex.join(["segment", *sys.argv[1:]]),
                on_progress=on_progress,
                on_scoring=lambda which: say(f"segmenting the volume along {which} to score the test slices …"),
            )
        trained, exported = fitted.trained, fitted.exported
        figures: dict[str, Any] = {
            "steps": trained.history.step,
            "seconds": trained.history.seconds,
            "threshold": trained.threshold,
            "scores": fitted.metadata.scores,
            "parity": {"max_difference": exported.max_difference, "n_pixels": exported.n_pixels},
            "model_mb": exported.n_bytes / 1e6,
            "losses": trained.history.losses,
            "validations": trained.history.validations,
        }
        table_console(json).print(_table(figures))
        if report is not None:
            write_report(report, fitted, SegmentationModel.load(out), volume, marked, split)
            say(f"wrote {report}")
        say(f"wrote {out} and its card {card}; the run is kept in {checkpoint}")
        write_json(json, figures)


def _parse_offsets(text: str) -> tuple[int, ...]:
    from streamdetect.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--slice-offsets {text}: expected whole numbers, such as -2,0,2") from None


def _parse_axes(text: str) -> str:
    from streamdetect.errors import InputError

    if not text or set(text) - set("zyx") or len(set(text)) != len(text):
        raise InputError(f"--axes {text}: expected some of the letters z, y and x, such as z or zyx")
    return "".join(sorted(text, key="zyx".index))


@contextmanager
def training_progress() -> Iterator[Callable[[float, dict[str, float]], None]]:
    """Show a bar with loss, IoU and steps a second on a terminal, and a line each tenth of the run in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _print_tenths()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("training", total=1.0)
        yield lambda done, figures: bar.update(task, completed=done, description=_describe_progress(figures))


def _print_tenths() -> Callable[[float, dict[str, float]], None]:
    printed = -1

    def on_progress(done: float, figures: dict[str, float]) -> None:
        nonlocal printed
        if int(10 * done) > printed:
            printed = int(10 * done)
            say(f"{100 * done:3.0f} %  {_describe_progress(figures)}")

    return on_progress


def _describe_progress(figures: dict[str, float]) -> str:
    shown = [f"{name} {figures[name]:.3f}" for name in ("loss", "iou") if not math.isnan(figures[name])]
    return "  ".join([*shown, f"{figures['steps_per_s']:.1f} steps/s"]).replace("iou", "IoU")


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "figure", box=None, pad_edge=False)
    table.add_row("steps", f"{figures['steps']:,} in {figures['seconds'] / 60:.1f} min")
    table.add_row("threshold, chosen on the validation slices", f"{figures['threshold']:.2f}")
    for name, value in figures["scores"].items():
        if isinstance(value, dict):
            along = name.removeprefix("test_axes_")
            table.add_row(f"test slices, segmented along {along}: IoU", f"{value['iou']:.4f}")
        elif isinstance(value, float):
            table.add_row("validation slices: IoU (chosen on them, no score)", f"{value:.4f}")
    parity = figures["parity"]
    table.add_row(
        "ONNX Runtime against Keras", f"{parity['max_difference']:.0e} at most, {parity['n_pixels']:,} pixels"
    )
    table.add_row("model file", f"{figures['model_mb']:.1f} MB")
    return table
