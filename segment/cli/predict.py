"""``segment predict``: a volume in, a mask out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from segment.cli.arguments import check_files
from streamdetect.cli.console import needs_extra, progress, say, write_json
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal

DEFAULT_MODEL = "mitochondria-epfl-plus"


def predict(
    image: Annotated[Path, typer.Argument(metavar="IN", help="The volume: TIFF, slices, HDF5, MRC or Zarr.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The mask to write, 0 and 255: .tif or .ome.zarr.")],
    model: Annotated[
        str, typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model.")
    ] = DEFAULT_MODEL,
    probabilities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write probabilities, 0 to 255: .tif or .ome.zarr.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="D", help="auto, cpu or cuda; auto takes CUDA where it can be had.")
    ] = "auto",
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, in place of what the file says.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Swap dark and bright, for membranes that are bright on a dark ground.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(metavar="N", help="The largest side of a tile in pixels; 1024, or what memory allows.", min=1),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Take the mean over 8 orientations of each tile, for 8 times the time.")
    ] = False,
    axes: Annotated[
        str,
        typer.Option(
            metavar="A", help="Cut slices along these axes and take the mean: z, or zyx for 3 times the time."
        ),
    ] = "z",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Probability at or above which a voxel is foreground; the model's by default."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Segment a volume.

    It may be larger than memory: slices are read, segmented and written as they come.
    """
    with needs_extra("segment"):
        import numpy as np

        from segment.serving.model import SegmentationModel
        from segment.serving.plan import plan_prediction
        from segment.serving.predict import Cancelled, predict_slabs
        from segment.volumes import create_volume, open_volume, parse_voxel_size
        from streamdetect.runtime import Device
    from streamdetect.errors import InputError

    if device not in get_args(Device):
        raise InputError(f"--device {device}: expected {', '.join(get_args(Device))}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: expected a probability, 0 to 1")
    check_files((image, model), {"OUT": out}, probabilities=probabilities, json=json)
    started = time.perf_counter()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        volume = stack.enter_context(
            open_volume(image, voxel_nm=parse_voxel_size(voxel_size) if voxel_size is not None else None)
        )
        writers = {  # refuse a name that they cannot write before the work begins
            name: create_volume(path, volume.shape, np.uint8, volume.voxel_nm)
            for name, path in (("out", out), ("probabilities", probabilities))
            if path is not None
        }
        loaded = SegmentationModel.load(model, device=cast(Device, device), threads=threads)
        plan = plan_prediction(volume, loaded.metadata, axes=axes, tta=tta, tile=tile, invert=invert)
        n_foreground = 0
        try:
            with ExitStack() as written:
                opened = {name: written.enter_context(writer) for name, writer in writers.items()}
                for remark in plan.remarks:
                    say(remark)
                if device == "auto":
                    say(f"--device auto took {loaded.provider}")
                on_progress = written.enter_context(voxel_progress())
                for slab in predict_slabs(
                    volume,
                    loaded,
                    plan,
                    threshold=threshold,
                    scratch=out.parent,
                    on_progress=on_progress,
                    cancelled=stop.is_set,
                ):
                    n_foreground += int(np.count_nonzero(slab.mask))
                    opened["out"].append(slab.mask)
                    if "probabilities" in opened:
                        opened["probabilities"].append(slab.probability)
        except Cancelled:
            raise typer.Exit(EXIT_INTERRUPTED) from None
    seconds = time.perf_counter() - started
    n_voxels = int(np.prod(plan.shape))
    figures: dict[str, Any] = {
        "image": str(image),
        "mask": str(out),
        "probabilities": str(probabilities) if probabilities is not None else None,
        "model": {"name": loaded.metadata.name, "sha256": loaded.sha256},
        "provider": loaded.provider,
        "threads": loaded.threads,
        "shape": list(plan.shape),
        "voxel_nm": list(volume.voxel_nm) if volume.voxel_nm is not None else None,
        "resampled_shape": list(plan.grid_shape),
        "intensity": list(plan.intensity),
        "axes": plan.axes,
        "tta": tta,
        "tile": plan.tile,
        "threshold": loaded.metadata.threshold if threshold is None else threshold,
        "foreground": n_foreground / n_voxels,
        "seconds": seconds,
        "megavoxels_per_s": n_voxels / 1e6 / seconds,
        "remarks": list(plan.remarks),
    }
    typer.echo(
        f"foreground: {100 * figures['foreground']:.2f} % of {n_voxels / 1e6:,.1f} megavoxels, in {seconds:.1f} s "
        f"({figures['megavoxels_per_s']:.2f} megavoxels a second, {loaded.provider})",
        err=json is not None and str(json) == "-",
    )
    say(f"wrote {out}" + (f" and {probabilities}" if probabilities is not None else ""))
    write_json(json, figures)


@contextmanager
def voxel_progress() -> Iterator[Callable[[int, int], None]]:
    """Show voxels done, voxels a second and the time left on a terminal, and nothing in a pipe."""
    from rich.progress import ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Megavoxels(ProgressColumn):
        """Done, in all, and a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            rate = f"  {speed / 1e6:.2f} a second" if speed else ""
            return Text(f"{task.completed / 1e6:,.1f}/{(task.total or 0) / 1e6:,.1f} megavoxels{rate}")

    with progress(Megavoxels(), TimeRemainingColumn()) as bar:
        task = bar.add_task("segmenting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
