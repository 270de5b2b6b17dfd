"""``segment quantize``: a model file in fewer bits, if it scores as well."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer

from segment.cli.arguments import check_files, parse_slices
from streamdetect.cli.console import needs_extra, say, table_console, write_json


def quantize(
    model: Annotated[str, typer.Argument(metavar="M", help="The model: a file, or the name of a shipped one.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A volume like the one that it was trained on.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="What is marked in it: 0 and 1, or 0 and 255.")],
    out: Annotated[Path, typer.Option(metavar="FAST.onnx", help="The model file to write; a card goes beside it.")],
    to: Annotated[
        str, typer.Option(metavar="P", help="int8, for CPUs, or float16, for GPUs; inputs and outputs stay float32.")
    ] = "int8",
    slices: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Slices for the ranges of int8 values; those that the model was trained on."),
    ] = None,
    validate_slices: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Slices to compare both models on; those that the model was chosen on."),
    ] = None,
    test_slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Slices to score once with the finished model.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(help="Foreground IoU that may be lost; nothing is written if it is more.", min=0, max=1)
    ] = 0.005,
    all_bits: Annotated[
        bool,
        typer.Option(
            "--all-bits",
            help="Use all 8 bits of an int8 weight, where every processor that will run it has VNNI; others overflow.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of tiles.", min=0, max=2**32 - 1)] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Make a model faster by computing with fewer bits, and check that it still scores as well.

    Weights and threshold stay as they were trained; only their precision changes.
    """
    with needs_extra("segment-train"):
        from segment.training.card import CARD_MARK
        from segment.training.precision import ALL_BITS, SAFE_BITS, has_vnni
        from segment.training.quantize import ConvertSettings, Precision, convert_model
    from segment.volumes import open_volume, read_labels
    from streamdetect.errors import InputError

    if to not in get_args(Precision):
        raise InputError(f"--to {to}: expected {' or '.join(get_args(Precision))}")
    if to != "int8" and (all_bits or slices is not None):
        raise InputError(f"--to {to}: --slices and --all-bits go with int8 only")
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: a model file's name must end in .onnx")
    card = out.with_suffix(".md")
    check_files((model, image, labels), out=out, card=card, json=json)
    if card.exists() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"--out {out}: its card would overwrite {card}, which is something else; choose another name")
    with open_volume(image) as volume:

        def parse(text: str | None, option: str) -> tuple[int, int] | None:
            return None if text is None else parse_slices(text, volume.shape[0], option)

        settings = ConvertSettings(
            precision=cast(Literal["int8", "float16"], to),
            weight_bits=ALL_BITS if all_bits else SAFE_BITS,
            calibrate=parse(slices, "--slices"),
            validate=parse(validate_slices, "--validate-slices"),
            test=parse(test_slices, "--test-slices"),
            max_loss=max_loss,
            seed=seed,
        )
        marked = read_labels(labels, shape=volume.shape, of=image)
        command = shlex.join(["segment", *sys.argv[1:]])
        converted = convert_model(model, volume, marked, out, settings, command=command)
    conversion = converted.metadata.conversion
    assert conversion is not None
    vnni = has_vnni()
    figures: dict[str, Any] = {
        "precision": conversion.precision,
        "weight_bits": conversion.weight_bits,
        "iou": {"before": conversion.source_iou, "after": conversion.iou},
        "n_voxels": converted.n_voxels,
        "model_mb": dict(zip(("before", "after"), (n / 1e6 for n in converted.n_bytes), strict=True)),
        "megavoxels_per_s": dict(zip(("before", "after"), converted.megavoxels_per_s, strict=True)),
        "vnni": vnni,
        "scores": converted.metadata.scores,
    }
    table_console(json).print(_table(figures))
    if to == "int8" and vnni is False:
        say("this processor has no VNNI: models of 8-bit integers gain less here than on one that has")
    say(f"wrote {out} and its card {card}")
    write_json(json, figures)


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "before", figures["precision"], box=None, pad_edge=False)
    iou, size, speed = (figures[name] for name in ("iou", "model_mb", "megavoxels_per_s"))
    table.add_row("foreground IoU on the slices to validate on", f"{iou['before']:.4f}", f"{iou['after']:.4f}")
    table.add_row("model file, MB", f"{size['before']:.1f}", f"{size['after']:.1f}")
    table.add_row("megavoxels a second, one run each", f"{speed['before']:.1f}", f"{speed['after']:.1f}")
    for name, value in figures["scores"].items():
        if name.startswith("test_axes_"):
            along = name.removeprefix("test_axes_")
            table.add_row(f"test slices, segmented along {along}: IoU", "", f"{value['iou']:.4f}")
    return table
