"""One block of a run: read, segmented, written, committed; and the engine that does many of them in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError, VolumeError
from segment.serving.background import shows_nothing
from segment.serving.blocks import Region
from segment.serving.mask_file import MaskFile
from segment.serving.model import SegmentationModel
from segment.serving.plan import Plan
from segment.serving.predict import Cancelled, OnTile, infer_block, read_block
from segment.serving.run_folder import BlockRecord, RunFolder
from segment.volumes import Volume, VoxelSize, open_volume
from segment.volumes.sharded import open_sharded, write_block
from streamdetect.runtime import Device

MAX_JOBS = 2  # that a process keeps open
LOOK_S = 0.2  # a signal that reached another thread is handled when this thread looks

R = TypeVar("R")
Progress = Callable[[int, float], None]  # a block, and the part of it that is done


@dataclass(frozen=True)
class PredictJob:
    """All that a process needs to compute any block of a run; it can be pickled.

    Parameters
    ----------
    image : str
        The volume, as `open_volume` takes it.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), in place of what the file says.
    model : str
        The model's file.
    model_sha256 : str
        Of its content.
    device : {"auto", "cpu", "cuda"}
    threads : int or None
        Tiles that are computed at the same time; all cores by default.
    plan : Plan
    threshold : float
        Probability at or above which a voxel is foreground.
    folder : Path
        The run's folder.
    probabilities : bool
        Whether they are written beside the mask.
    region : tuple of (int, int) or None
        Of the volume, (z, y, x): outside of it the result is 0.
    mask : str or None
        A file outside of whose marks the result is 0.
    skip_background : bool
        Leave blocks out that show nothing.
    """

    image: str
    voxel_nm: VoxelSize | None
    model: str
    model_sha256: str
    device: Device
    threads: int | None
    plan: Plan
    threshold: float
    folder: Path
    probabilities: bool = False
    region: Region | None = None
    mask: str | None = None
    skip_background: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the images that are written."""
        return ("mask", "probabilities") if self.probabilities else ("mask",)


def predict_and_commit(
    job: PredictJob, index: int, *, on_part: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> BlockRecord:
    """Compute a block, write it and commit it, unless that was done before.

    Parameters
    ----------
    job : PredictJob
    index : int
        Of the block.
    on_part : callable, optional
        Called with the index and the part that is done, 0 to 1, before each tile.
    cancelled : callable, optional
        Asked before each tile whether to give up.

    Returns
    -------
    BlockRecord
        As it was committed.

    Raises
    ------
    InputError
        No block of the run can be computed here: an input or the model is not there or is another, or the disk is full.
    VolumeError
        The volume is damaged in this block, or holds NaN.
    Cancelled
        It was asked to.

    Notes
    -----
    A process opens volume, model and outputs of a job once. Threads may call it at the same time: while the network is
    busy with one block, others are read and written.
    """
    folder = RunFolder(job.folder)
    done = folder.read_record(index)
    if done is not None:
        return done
    worker = _worker_for(job)

    def on_tile(part: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled")
        if on_part is not None:
            on_part(index, part)

    began = time.perf_counter()
    try:
        values, n_voxels, skipped = worker.compute(index, on_tile)
        position = job.plan.blocks.position(index)
        for array, image in zip(worker.arrays, values, strict=False):
            write_block(array, position, image)
    except Exception as error:
        if isinstance(error, VolumeError) or not isinstance(error, InputError | Cancelled):
            folder.note_failure(index, str(error) or type(error).__name__)
        raise
    record = BlockRecord(
        index=index,
        n_foreground=int(np.count_nonzero(values[0])) if values else 0,
        n_voxels=n_voxels,
        seconds=round(time.perf_counter() - began, 3),
        provider=worker.model.provider,
        attempts=folder.count_failures(index) + 1,
        skipped=skipped,
    )
    folder.commit(record)
    return record


@contextmanager
def kept_open(job: PredictJob, volume: Volume, model: SegmentationModel) -> Iterator[None]:
    """Let `predict_and_commit` use a volume and a model that this process has open, and close what it opens."""
    worker = _Worker(job, volume, model)
    with _opening:
        _workers[job] = worker
    try:
        yield
    finally:
        forget(job)


def forget(job: PredictJob) -> None:
    """Close what this process keeps open of a job."""
    with _opening:
        worker = _workers.pop(job, None)
    if worker is not None:
        worker.close()


def check_worker(job: PredictJob) -> None:
    """Open all that this process needs to compute blocks of a job.

    Raises
    ------
    InputError
        Volume, mask, model or run folder cannot be seen or used from here, or are others.
    """
    _worker_for(job)


class _Worker:
    """What a process keeps open of a job."""

    def __init__(self, job: PredictJob, volume: Volume | None = None, model: SegmentationModel | None = None) -> None:
        self._job, self._turn = job, threading.Lock()
        plan = job.plan
        with ExitStack() as stack:
            self.model = model or SegmentationModel.load(job.model, device=job.device, threads=job.threads)
            if self.model.sha256 != job.model_sha256:
                raise InputError(f"{job.model}: is another model here than where the run was begun")
            try:
                self._volume = volume or stack.enter_context(open_volume(job.image, voxel_nm=job.voxel_nm))
                self._mask = stack.enter_context(MaskFile.open(job.mask, plan.shape)) if job.mask else None
            except VolumeError as error:  # no block can do without
                raise InputError(str(error)) from error
            if self._volume.shape != plan.shape:
                raise InputError(f"{job.image}: expected the shape {plan.shape}, found {self._volume.shape}")
            folder = RunFolder(job.folder)
            self.arrays = [open_sharded(folder.image(name), plan.shape, plan.blocks.shape) for name in job.outputs]
            self.close = stack.pop_all().close

    def compute(self, index: int, on_tile: OnTile) -> tuple[list[NDArray[np.uint8]], int, str]:
        """Return the images of a block and how many voxels were computed; or none, and why it was skipped."""
        job, plan = self._job, self._job.plan
        whole = plan.blocks.block(index)
        block = plan.blocks.clip(whole, job.region) if job.region is not None else whole
        marked: NDArray[np.bool_] | None = None
        if self._mask is not None:
            marked = self._mask.read([(cut.start, cut.stop) for cut in block])
            if not marked.any():
                return [], 0, "mask"
            marked, bounds = _bounds(marked)
            z, y, x = ((cut.start + first, cut.start + last) for cut, (first, last) in zip(block, bounds, strict=True))
            block = plan.blocks.clip(block, (z, y, x))
        image = read_block(self._volume, self.model.metadata, plan, block)
        if job.skip_background and shows_nothing(image.values, plan.intensity):
            return [], 0, "background"
        probability = infer_block(image, self.model, plan, on_tile=on_tile, turn=self._turn)
        if marked is not None:
            probability[~marked] = -1  # below any threshold
        inside = tuple(
            slice(cut.start - all_.start, cut.stop - all_.start) for cut, all_ in zip(block, whole, strict=True)
        )
        images = [np.zeros([cut.stop - cut.start for cut in whole], np.uint8) for _ in job.outputs]
        images[0][inside] = np.where(probability >= np.float32(job.threshold), np.uint8(255), np.uint8(0))
        if job.probabilities:
            images[1][inside] = np.rint(np.maximum(probability, 0, out=probability) * np.float32(255))
        return images, probability.size, ""


def _bounds(marked: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[tuple[int, int]]]:
    """Return the smallest box that holds all marks, and where it lies: the network need not run beyond it."""
    spans = []
    for axis in range(3):
        found = np.flatnonzero(marked.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append((int(found[0]), int(found[-1]) + 1))
    z, y, x = (slice(*span) for span in spans)
    return marked[z, y, x], spans


_workers: dict[PredictJob, _Worker] = {}  # the jobs that this process works for
_opening = threading.Lock()


def _worker_for(job: PredictJob) -> _Worker:
    """Return what this process has open of a job, opened by the thread that comes first."""
    with _opening:
        if job not in _workers:
            while len(_workers) >= MAX_JOBS:
                _workers.pop(next(iter(_workers))).close()
            _workers[job] = _Worker(job)
        return _workers[job]


def run_here(
    function: Callable[[int], R],
    indices: Iterable[int],
    *,
    on_done: Callable[[int, R], None],
    cancelled: Callable[[], bool],
    n_threads: int = 3,
    attempts: int = 3,
    on_retry: Callable[[int, str], None] | None = None,
) -> dict[int, str]:
    """Call a function for each block in some threads of this process.

    Parameters
    ----------
    function : callable
        Takes the index of a block.
    indices : iterable of int
        Taken as threads get free; there may be millions.
    on_done : callable
        Called with the index and what the function returned, from the thread that calls.
    cancelled : callable
        Asked before each block whether to stop.
    n_threads : int
        Blocks that are in hand at the same time.
    attempts : int
        How many times a block is tried.
    on_retry : callable, optional
        Called with the index and what the function said before a block is tried again.

    Returns
    -------
    dict
        What the blocks said that failed each time. Where the work was cancelled, those that failed until then.

    Raises
    ------
    InputError
        From the function, unless it is a `VolumeError`: no other block would fare better.
    """
    failed: dict[int, str] = {}
    waiting = iter(indices)
    running: dict[Future[R], tuple[int, int]] = {}
    with ThreadPoolExecutor(n_threads, thread_name_prefix="block") as pool:
        while True:
            while len(running) < n_threads and not cancelled():
                index = next(waiting, None)
                if index is None:
                    break
                running[pool.submit(function, index)] = (index, 1)
            if not running:
                return failed
            for future in wait(running, LOOK_S, FIRST_COMPLETED).done:
                index, attempt = running.pop(future)
                try:
                    result = future.result()
                except Cancelled:
                    continue
                except Exception as error:
                    if isinstance(error, InputError) and not isinstance(error, VolumeError):
                        raise
                    message = str(error) or type(error).__name__
                    if attempt < attempts and not cancelled():
                        if on_retry is not None:
                            on_retry(index, message)
                        running[pool.submit(function, index)] = (index, attempt + 1)
                    else:
                        failed[index] = message
                else:
                    on_done(index, result)
