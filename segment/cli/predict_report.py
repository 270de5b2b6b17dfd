"""What ``segment predict`` shows: what a run would take, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from segment.serving.blockwise import PredictJob
from segment.serving.estimate import estimate_run, time_tiles
from segment.serving.model import SegmentationModel
from segment.volumes import Volume
from streamdetect.cli.console import progress, write_json


def report_estimate(
    job: PredictJob, volume: Volume, model: SegmentationModel, n_workers: int, json: Path | None
) -> None:
    """Say what a run would take."""
    plan = job.plan
    region = job.region or plan.blocks.everywhere
    found = estimate_run(plan, model.metadata, region, volume.dtype.itemsize, len(job.outputs))
    pixels_per_s = time_tiles(model, found.tile)
    seconds = found.n_pixels / pixels_per_s / n_workers
    figures = {
        "blocks": found.n_blocks,
        "block_shape": list(plan.blocks.shape),
        "voxels": found.n_voxels,
        "bytes_read": found.bytes_read,
        "bytes_written": found.bytes_written,
        "network_pixels": found.n_pixels,
        "tile": list(found.tile),
        "pixels_per_s": pixels_per_s,
        "seconds": seconds,
    }
    typer.echo(
        f"{found.n_blocks:,} blocks of {' × '.join(map(str, map(min, plan.blocks.shape, plan.shape)))} voxels, "
        f"{found.n_voxels / 1e6:,.1f} megavoxels in all\n"
        f"reads {_size(found.bytes_read)}, writes {_size(found.bytes_written)} before compression\n"
        f"about {_duration(seconds)} on this machine: {found.n_voxels / 1e6 / seconds:.2f} megavoxels a second, from "
        f"timed tiles of {found.tile[0]} × {found.tile[1]} pixels ({model.provider})",
        err=json is not None and str(json) == "-",
    )
    write_json(json, figures)


def _size(n_bytes: float) -> str:
    """Return a number of bytes as people say it.

    Examples
    --------
    >>> _size(1234567)
    '1.23 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def _duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> _duration(5400)
    '90 minutes'
    """
    for unit, length, limit in (("seconds", 1, 120), ("minutes", 60, 7200), ("hours", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / length:.2g} {unit}" if seconds / length < 10 else f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:,.1f} days"


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


class BlockProgress:
    """How far the blocks are, told in voxels: those that are done, and parts of those in hand.

    Parameters
    ----------
    n_blocks, n_done : int
        In all, and done before.
    n_voxels : int
        In all.
    show : callable
        Takes the voxels that are done, and those in all.
    """

    def __init__(self, n_blocks: int, n_done: int, n_voxels: int, show: Callable[[int, int], None]) -> None:
        self._n_blocks, self._n_done, self._n_voxels, self._show = n_blocks, n_done, n_voxels, show
        self._parts: dict[int, float] = {}

    def on_part(self, index: int, part: float) -> None:
        """Note how much of a block is done, 0 to 1."""
        self._parts[index] = part
        self._update()

    def on_done(self, index: int) -> None:
        """Note that a block is done."""
        self._parts.pop(index, None)
        self._n_done += 1
        self._update()

    def _update(self) -> None:
        done = self._n_done + sum(list(self._parts.values()))
        self._show(int(self._n_voxels * done / max(self._n_blocks, 1)), self._n_voxels)


@contextmanager
def block_progress(n_blocks: int, n_done: int, n_voxels: int) -> Iterator[BlockProgress]:
    """Show a bar as `voxel_progress` does, for blocks; the parameters are those of `BlockProgress`."""
    with voxel_progress() as show:
        yield BlockProgress(n_blocks, n_done, n_voxels, show)
