"""A volume through the network, block by block: the only file that knows the order of the steps."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.intensity import Voxels, name_volume
from segment.serving.blocks import Block
from segment.serving.metadata import ModelMetadata
from segment.serving.model import SegmentationModel
from segment.serving.plan import Plan, plan_prediction
from segment.serving.resample import Resampled, resample_back
from segment.serving.tiling import Window
from segment.volumes.voxel_size import VoxelSize

OnProgress = Callable[[int, int], None]  # voxels done, voxels in all
OnTile = Callable[[float], None]
R = TypeVar("R")
_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The work was given up because it was asked to."""


def predict_volume(
    volume: Voxels,
    model: SegmentationModel,
    *,
    axes: str = "z",
    tta: bool = False,
    tile: int | None = None,
    intensity: tuple[float, float] | None = None,
    invert: bool = False,
    voxel_nm: VoxelSize | None = None,
    on_progress: OnProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Return the probability of every voxel to be foreground, in memory.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
        Intensities, of a real type.
    model : SegmentationModel
    axes, tta, tile, intensity, invert, voxel_nm
        As for `segment.serving.plan.plan_prediction`; what should be known about the choices is logged as a warning.
    on_progress : callable, optional
        Called with the voxels that are done and those in all, from the thread that calls.
    cancelled : callable, optional
        Asked before each tile whether to give up.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        0 to 1; ``>= model.metadata.threshold`` is the mask.

    Raises
    ------
    InputError
        An argument cannot be used, or fits neither the volume nor the model.
    VolumeError
        The volume is constant, or holds NaN.
    Cancelled
        It was asked to.
    """
    plan = plan_prediction(
        volume,
        model.metadata,
        axes=axes,
        tta=tta,
        tile=tile,
        intensity=intensity,
        invert=invert,
        voxel_nm=voxel_nm,
    )
    for remark in plan.remarks:
        _log.warning("%s", remark)
    result = np.empty(plan.shape, np.float32)
    n_done = 0

    def on_tile(part: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled")
        if on_progress is not None:
            on_progress(n_done + int(part * filled.size), result.size)

    for block in map(plan.blocks.block, range(len(plan.blocks))):
        filled = result[tuple(slice(cut.start, cut.stop) for cut in block)]
        filled[...] = predict_block(volume, model, plan, block, on_tile)
        n_done += filled.size
        if on_progress is not None:
            on_progress(n_done, result.size)
    return result


def predict_block(
    volume: Voxels, model: SegmentationModel, plan: Plan, block: Block, on_tile: OnTile = lambda part: None
) -> NDArray[np.float32]:
    """Return the probabilities of one block: read it, and run the network on it.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
        The whole of it; what the block needs is read.
    model : SegmentationModel
    plan : Plan
        Of this volume and this model.
    block : Block
        One of the plan's, or a part of one.
    on_tile : callable, optional
        Called before each tile with the part of the block that is done, 0 to 1; what it raises ends the work.

    Returns
    -------
    ndarray of float32, shape of the block
        The same to the last bit whichever blocks were computed before, on the same device with as many threads.

    Raises
    ------
    VolumeError
        The volume holds NaN.
    """
    return infer_block(read_block(volume, model.metadata, plan, block), model, plan, on_tile=on_tile)


@dataclass(frozen=True, eq=False)
class BlockImage:
    """What one block needs of the volume, on the model's grid.

    Parameters
    ----------
    block : Block
    values : ndarray, shape (z, y, x)
        With the halo, the neighbouring slices and what is reflected beyond the end of the volume.
    origin : (int, int, int)
        Where on the model's grid they begin.
    """

    block: Block
    values: NDArray[Any]
    origin: tuple[int, int, int]


def read_block(volume: Voxels, metadata: ModelMetadata, plan: Plan, block: Block) -> BlockImage:
    """Read what a block needs of the volume.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
    metadata : ModelMetadata
        Of the model that the plan was made for.
    plan : Plan
    block : Block
        One of the plan's, or a part of one.

    Raises
    ------
    VolumeError
        The volume is damaged there, or holds NaN.
    """
    spans = [needed_span(axis, cut.window, metadata, plan) for axis, cut in enumerate(block)]
    source = Resampled(volume, plan.ratios) if plan.resamples else volume
    (z, y, x), pad = [slice(start, stop) for start, stop, _ in spans], [(0, beyond) for *_, beyond in spans]
    values = source[z, y, x]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise VolumeError(f"{name_volume(volume)}: holds NaN or infinity; replace them, or save it as uint8 or uint16")
    if np.any(pad):
        values = np.pad(values, pad, mode="reflect")
    return BlockImage(block, values, (z.start, y.start, x.start))


def needed_span(axis: int, window: Window, metadata: ModelMetadata, plan: Plan) -> tuple[int, int, int]:
    """Return what a block needs along one axis of the model's grid.

    Returns
    -------
    start, stop : int
        The first voxel, and one past the last.
    beyond : int
        Voxels after them that are made by reflection.
    """
    n, name = plan.grid_shape[axis], "zyx"[axis]
    start, stop, beyond = window.start, window.stop, 0
    if name in plan.axes:  # neighbouring slices
        reach = metadata.slice_offsets[-1]
        start, stop = start - reach, stop + reach
    if plan.axes != name:  # tiles extend along this axis
        end = window.origin + window.size
        start, stop, beyond = min(start, window.origin), max(stop, end), max(end - n, 0)
        if beyond:
            start = min(start, n - metadata.stride)  # enough to be reflected at the end
    return max(start, 0), min(stop, n), beyond


def infer_block(
    image: BlockImage,
    model: SegmentationModel,
    plan: Plan,
    *,
    on_tile: OnTile = lambda part: None,
    turn: AbstractContextManager[Any] | None = None,
) -> NDArray[np.float32]:
    """Return the probabilities of a block that was read.

    Parameters
    ----------
    image : BlockImage
    model : SegmentationModel
    plan : Plan
        Of this volume and this model.
    on_tile : callable, optional
        As for `predict_block`.
    turn : context manager, optional
        Held while the network runs, as a lock where several threads share the model.

    Returns
    -------
    ndarray of float32, shape of the block
    """
    cores = [(cut.window.start, cut.window.stop) for cut in image.block]
    with turn or nullcontext():
        probability = _infer_on_grid(image, cores, model, plan, on_tile)
    if not plan.resamples:
        return probability
    firsts, spans = [start for start, _ in cores], [(cut.start, cut.stop) for cut in image.block]
    return resample_back(probability, firsts, spans, plan.ratios, plan.grid_shape)


def _infer_on_grid(
    image: BlockImage, cores: list[tuple[int, int]], model: SegmentationModel, plan: Plan, on_tile: OnTile
) -> NDArray[np.float32]:
    """Return the mean probability over the slicing axes in the core of a block."""
    total = np.zeros([stop - start for start, stop in cores], np.float32)
    n_planes = sum(total.shape["zyx".index(name)] for name in plan.axes)
    n_done = 0
    for axis in ("zyx".index(name) for name in plan.axes):
        inside = tuple(
            slice(start - cut.window.origin, stop - cut.window.origin)
            for other, ((start, stop), cut) in enumerate(zip(cores, image.block, strict=True))
            if other != axis
        )

        def predict_plane(index: int, axis: int = axis) -> NDArray[np.float32]:
            return _predict_tile(_cut_tile(image, axis, cores[axis][0] + index, model.metadata, plan), model, plan)

        planes = np.moveaxis(total, axis, 0)
        with closing(_map_ahead(predict_plane, range(len(planes)), model.tiles_at_once)) as computed:
            for plane in planes:
                on_tile(n_done / n_planes)
                plane += next(computed)[inside]
                n_done += 1
    if len(plan.axes) > 1:
        total /= np.float32(len(plan.axes))
    return total


def _cut_tile(image: BlockImage, axis: int, index: int, metadata: ModelMetadata, plan: Plan) -> NDArray[np.float32]:
    """Return a tile of the slice at an index of the grid along an axis, and its neighbours, as the network does."""
    around = np.clip(index + np.array(metadata.slice_offsets), 0, plan.grid_shape[axis] - 1) - image.origin[axis]
    within = [
        slice(cut.window.origin - origin, cut.window.origin - origin + cut.window.size)
        for cut, origin in zip(image.block, image.origin, strict=True)
    ]
    slices = []
    for one in around:
        within[axis] = slice(one, one + 1)
        slices.append(image.values[tuple(within)].squeeze(axis))
    return np.stack(slices)[None].astype(np.float32)


def _predict_tile(tile: NDArray[np.float32], model: SegmentationModel, plan: Plan) -> NDArray[np.float32]:
    """Return the probability of one tile, the mean over its orientations where asked for."""
    if not plan.tta:
        return model.predict(tile, *plan.intensity)[0]
    total = np.zeros(tile.shape[2:], np.float32)
    for flip in (False, True):
        flipped = tile[..., ::-1] if flip else tile
        for turns in range(4):
            turned = np.ascontiguousarray(np.rot90(flipped, turns, axes=(2, 3)))
            probability = np.rot90(model.predict(turned, *plan.intensity)[0], -turns)
            total += probability[..., ::-1] if flip else probability
    return total / np.float32(8)


def _map_ahead(function: Callable[[int], R], indices: Iterable[int], n_at_once: int) -> Generator[R]:
    """Yield what a function gives for each index, in order, while it works on those that follow."""
    if n_at_once == 1:
        yield from map(function, indices)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_at_once) as pool:
        try:
            for index in indices:
                waiting.append(pool.submit(function, index))
                if len(waiting) > n_at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
