"""``segment demo``: from a stack to measured objects, on a simulated stack or on one's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segment.cli.arguments import known_voxel_size
from streamdetect.cli.console import check_outputs, needs_extra, say, table_console, write_json
from streamdetect.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segment.serving.model import SegmentationModel
    from segment.volumes import Volume, VoxelSize

SHAPE = (96, 256, 256)
VOXEL_NM = (5.0, 5.0, 5.0)
TRAIN, VALIDATE, TEST = (0, 52), (56, 64), (68, 96)
MINUTES = 0.75
WRITTEN = ("mask.tif", "objects.tif", "measurements.csv", "overlay.png")  # of any stack
MIN_VOXELS = 500  # smaller objects are specks: a ball of 50 nm across has as many


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that the demo makes.")] = Path(
        "segment-demo"
    ),
    volume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Segment a stack of your own with the shipped model instead.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of its voxels in nm, where the file does not say.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.", min=0, max=2**31 - 1)] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Simulate a stack, train on a part of it, segment the rest, and measure its mitochondria.

    Takes about a minute on two cores. With --volume, nothing is simulated or trained: the shipped model segments
    the stack.
    """
    began = time.monotonic()
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: cannot be made a folder, there is a file of that name; choose another")
    if volume is not None and volume.resolve() in (out.resolve(), *((out / name).resolve() for name in WRITTEN)):
        raise InputError(f"--out {out}: the demo would overwrite {volume}, which is read; choose another folder")
    figures = _segment_own(volume, voxel_size, out, json) if volume else _segment_simulated(out, seed, json)
    figures["seconds_taken"] = time.monotonic() - began
    say(f"wrote {out}/: stack, mask, numbered objects, measurements.csv, overlay.png; {figures['seconds_taken']:.0f} s")
    if volume is None:
        say(
            "next, on your own data:\n"
            "  segment demo --volume STACK          the shipped model, on your stack\n"
            "  segment train IMAGE LABELS --out M.onnx --start mitochondria-epfl-plus"
        )
    write_json(json, figures)


def _make_folder(out: Path, json: Path | None) -> None:
    """Make the folder once nothing speaks against the work any more."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made a folder: {error.strerror or error}") from error
    check_outputs(out=out / WRITTEN[0], json=json)


def _segment_simulated(out: Path, seed: int, json: Path | None) -> dict[str, Any]:
    """Simulate, train, and score what was held out."""
    with needs_extra("segment"):
        import numpy as np

        from segment.synthetic import simulate_volume
        from segment.volumes import open_volume, read_labels

    _make_folder(out, json)
    say(f"1. simulating a FIB-SEM stack of {' × '.join(map(str, SHAPE))} voxels of {VOXEL_NM[0]:g} nm")
    simulated = simulate_volume(SHAPE, voxel_nm=VOXEL_NM, seed=seed)
    for name, values in (("stack.tif", simulated.image), ("truth.tif", simulated.mitochondria * np.uint8(255))):
        _write_volume(out / name, values, VOXEL_NM)
    truth = read_labels(out / "truth.tif")
    with open_volume(out / "stack.tif") as stack:
        return _train_and_segment(stack, truth, out, seed, json)


def _train_and_segment(
    stack: Volume, truth: NDArray[np.bool_], out: Path, seed: int, json: Path | None
) -> dict[str, Any]:
    from segment.cli.train import training_progress

    with needs_extra("segment-train"):
        from segment.objects.instances import label_objects
        from segment.scoring.metrics import count_voxels, score_objects
        from segment.serving.model import SegmentationModel
        from segment.training.fit import Split, fit_model
        from segment.training.train import TrainSettings
        from segment.training.unet import NetworkSettings

    say(f"2. training a small network on slices {TRAIN[0]} to {TRAIN[1] - 1}, {60 * MINUTES:.0f} s")
    settings = TrainSettings(
        network=NetworkSettings(width=16, depth=3),
        minutes=MINUTES,
        patch=128,
        learning_rate=2e-3,
        average=0.99,
        validate_every_s=10.0,
        seed=seed,
    )
    model_file = out / "demo.onnx"
    with training_progress() as on_progress:
        fitted = fit_model(
            stack,
            truth,
            out / "truth.tif",
            VOXEL_NM,
            Split((TRAIN,), VALIDATE),
            settings,
            model_file,
            on_progress=on_progress,
        )
    exported = fitted.exported
    say(
        f"3. exported {model_file} ({exported.n_bytes / 1e6:.1f} MB): ONNX Runtime and Keras differ by at most "
        f"{exported.max_difference:.0e} on {exported.n_pixels:,} pixels"
    )
    model = SegmentationModel.load(model_file)
    say("4. segmenting the whole stack with the exported file, and measuring its mitochondria")
    mask, n_objects, speed = _segment(stack, model, VOXEL_NM, out)
    held_out = slice(*TEST)
    scores = count_voxels(mask[held_out], truth[held_out]).as_dict()
    numbered = (label_objects(each[held_out], min_voxels=MIN_VOXELS)[0] for each in (mask, truth))
    objects = score_objects(*numbered)
    _draw(out, stack, mask, truth, [TEST[0] + 4, (TEST[0] + TEST[1]) // 2, TEST[1] - 4])
    table = _table(
        ("foreground IoU", f"{scores['iou']:.3f}"),
        ("Dice", f"{scores['dice']:.3f}"),
        ("precision, recall", f"{scores['precision']:.3f}, {scores['recall']:.3f}"),
        (
            "objects: F1 at IoU 0.5",
            f"{objects['f1_50']:.2f} ({objects['n_predicted']} found, {objects['n_true']} true)",
        ),
        ("objects in the whole stack", str(n_objects)),
        ("speed", f"{speed:.2f} megavoxels a second"),
    )
    console = table_console(json)
    console.print(f"Slices {TEST[0]} to {TEST[1] - 1} of a SIMULATED stack, which training did not see:")
    console.print(table)
    return {"simulated": True, "scores": scores, "objects": objects, "n_objects": n_objects, "megavoxels_per_s": speed}


def _segment_own(path: Path, voxel_size: str | None, out: Path, json: Path | None) -> dict[str, Any]:
    """Segment a stack with the shipped model."""
    with needs_extra("segment"):
        from segment.cli.predict import DEFAULT_MODEL
        from segment.serving.model import SegmentationModel
        from segment.volumes import open_volume, parse_voxel_size

    with open_volume(path, voxel_nm=parse_voxel_size(voxel_size) if voxel_size is not None else None) as stack:
        voxel_nm = known_voxel_size(stack.voxel_nm, path)
        model = SegmentationModel.load(DEFAULT_MODEL)
        _make_folder(out, json)
        say(f"segmenting {path} with {DEFAULT_MODEL} ({model.provider})")
        mask, n_objects, speed = _segment(stack, model, voxel_nm, out)
        n_slices = stack.shape[0]
        _draw(out, stack, mask, None, sorted({n_slices // 4, n_slices // 2, 3 * n_slices // 4}))
        share = float(mask.mean())
        console = table_console(json)
        console.print(f"{path}, segmented by {DEFAULT_MODEL}; nothing is known of how well that model fits this stack:")
        console.print(
            _table(
                ("foreground", f"{100 * share:.2f} %"),
                ("objects", str(n_objects)),
                ("speed", f"{speed:.2f} megavoxels a second"),
            )
        )
        return {"simulated": False, "foreground": share, "n_objects": n_objects, "megavoxels_per_s": speed}


def _segment(
    stack: Volume, model: SegmentationModel, voxel_nm: VoxelSize, out: Path
) -> tuple[NDArray[np.bool_], int, float]:
    """Write mask, numbered objects and measurements; return the mask, the number of objects and megavoxels a second."""
    import numpy as np

    from segment.cli.predict_report import voxel_progress
    from segment.objects.instances import label_objects
    from segment.objects.measure import measure_objects, write_measures
    from segment.serving.predict import predict_volume
    from streamdetect.files import whole_file

    began = time.perf_counter()
    with voxel_progress() as on_progress:
        mask = predict_volume(stack, model, on_progress=on_progress) >= model.metadata.threshold
    speed = mask.size / 1e6 / (time.perf_counter() - began)
    objects, n_objects = label_objects(mask, min_voxels=MIN_VOXELS)
    for name, values in (("mask.tif", mask * np.uint8(255)), ("objects.tif", objects)):
        _write_volume(out / name, values, voxel_nm)
    with whole_file(out / "measurements.csv") as partial, partial.open("w", newline="") as file:
        write_measures(file, measure_objects(objects, voxel_nm))
    return mask, n_objects, speed


def _write_volume(path: Path, values: NDArray[Any], voxel_nm: VoxelSize) -> None:
    from segment.volumes import create_volume

    with create_volume(path, values.shape, values.dtype, voxel_nm) as writer:
        writer.append(values)


def _draw(
    out: Path, stack: Volume, mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None, slices: list[int]
) -> None:
    import numpy as np

    from segment.scoring.overlay import overlay_figure
    from streamdetect.files import whole_file

    image = np.concatenate([stack[index : index + 1] for index in slices])
    figure = overlay_figure(
        image, mask[slices], truth[slices] if truth is not None else None, slices=slices, voxel_nm=stack.voxel_nm
    )
    with whole_file(out / "overlay.png") as partial, partial.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)


def _table(*rows: tuple[str, str]) -> Any:
    from rich.table import Table

    table = Table("what", "figure", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table
