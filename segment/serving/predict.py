"""A volume through the network, block by block: the only file that knows the order of the steps."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError, VolumeError
from segment.intensity import Voxels, name_volume
from segment.serving.model import SegmentationModel
from segment.serving.plan import Block, Plan, plan_prediction
from segment.serving.resample import Resampled, resample_back
from segment.volumes.voxel_size import VoxelSize

SCRATCH_IN_MEMORY = 64 * 2**20  # bytes of blocks that wait for their slab to be complete; more go to a file
MAX_GATHERED = 16 * 2**20  # voxels that are handed over at a time

OnProgress = Callable[[int, int], None]  # voxels done, voxels in all
Mask = NDArray[np.uint8]
_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The work was given up because it was asked to."""


class Slab(NamedTuple):
    """Some consecutive slices of a result.

    Parameters
    ----------
    mask : ndarray of uint8, shape (n, y, x)
        255 where the probability is at or above the threshold, else 0.
    probability : ndarray of uint8, shape (n, y, x)
        Rounded: 255 is 1.
    """

    mask: Mask
    probability: NDArray[np.uint8]


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
    for block, probability in _predict_blocks(volume, model, plan, on_progress, cancelled):
        result[tuple(slice(cut.start, cut.stop) for cut in block)] = probability
    return result


def predict_slabs(
    volume: Voxels,
    model: SegmentationModel,
    plan: Plan,
    *,
    threshold: float | None = None,
    scratch: Path | None = None,
    on_progress: OnProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Slab]:
    """Yield the result in the order of the slices, holding little of it in memory.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
    model : SegmentationModel
    plan : Plan
        Of this volume and this model.
    threshold : float, optional
        Probability at or above which a voxel is foreground; by default the model's.
    scratch : Path, optional
        A folder for a temporary file of up to two bytes a voxel; by default the system's.
    on_progress, cancelled
        As for `predict_volume`.

    Yields
    ------
    Slab
        One slice or more.

    Raises
    ------
    InputError
        There is no room for the temporary file.
    VolumeError
        The volume holds NaN.
    Cancelled
        It was asked to.
    """
    if threshold is None:
        threshold = model.metadata.threshold
    computed = _predict_blocks(volume, model, plan, on_progress, cancelled)
    for blocks in plan.slabs:
        with tempfile.SpooledTemporaryFile(SCRATCH_IN_MEMORY, dir=str(scratch) if scratch else None) as file:
            for _, probability in islice(computed, len(blocks)):
                mask = np.where(probability >= np.float32(threshold), np.uint8(255), np.uint8(0))
                probability *= np.float32(255)
                rounded = np.rint(probability, out=probability).astype(np.uint8)
                with _needs_room(scratch):
                    file.write(mask.data)
                    file.write(rounded.data)
            with _needs_room(scratch):
                file.seek(0)  # writes what is still held back
            yield from _gather(file, blocks, plan.shape)


def predict_block(
    volume: Voxels,
    model: SegmentationModel,
    plan: Plan,
    block: Block,
    on_tile: Callable[[float], None] = lambda part: None,
) -> NDArray[np.float32]:
    """Return the probabilities of one block.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
        The whole of it; what the block needs is read.
    model : SegmentationModel
    plan : Plan
        Of this volume and this model.
    block : Block
        One of the plan's.
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
    margin = 1 if plan.resamples else 0  # what is interpolated back lies up to a voxel beyond the core
    kept = [
        (max(cut.window.start - margin, 0), min(cut.window.stop + margin, n))
        for cut, n in zip(block, plan.grid_shape, strict=True)
    ]
    probability = _predict_on_grid(volume, model, plan, block, kept, on_tile)
    if not plan.resamples:
        return probability
    firsts, spans = [start for start, _ in kept], [(cut.start, cut.stop) for cut in block]
    return resample_back(probability, firsts, spans, plan.ratios, plan.grid_shape)


def _predict_on_grid(
    volume: Voxels,
    model: SegmentationModel,
    plan: Plan,
    block: Block,
    kept: Sequence[tuple[int, int]],
    on_tile: Callable[[float], None],
) -> NDArray[np.float32]:
    """Return the mean probability over the slicing axes in a box of the model's grid that a block's tiles give."""
    reader = _Reader(volume, model, plan, block, kept)
    total = np.zeros([stop - start for start, stop in kept], np.float32)
    n_planes = sum(total.shape["zyx".index(name)] for name in plan.axes)
    n_done = 0
    for axis in ("zyx".index(name) for name in plan.axes):
        inside = tuple(
            slice(kept[other][0] - block[other].window.origin, kept[other][1] - block[other].window.origin)
            for other in range(3)
            if other != axis
        )
        for index, plane in enumerate(np.moveaxis(total, axis, 0)):
            on_tile(n_done / n_planes)
            tile = reader.read_tile(axis, kept[axis][0] + index)
            plane += _predict_tile(tile, model, plan)[inside]
            n_done += 1
    if len(plan.axes) > 1:
        total /= np.float32(len(plan.axes))
    return total


class _Reader:
    """What one block needs of the volume, on the model's grid."""

    def __init__(
        self,
        volume: Voxels,
        model: SegmentationModel,
        plan: Plan,
        block: Block,
        kept: Sequence[tuple[int, int]],
    ) -> None:
        self._offsets = np.array(model.metadata.slice_offsets)
        self._block, self._shape = block, plan.grid_shape
        reach, stride = int(self._offsets.max()), model.metadata.stride
        self._origin, stops, pad = [], [], []
        for axis, (cut, n) in enumerate(zip(block, plan.grid_shape, strict=True)):
            start, stop = kept[axis]
            if "zyx"[axis] in plan.axes:  # neighbouring slices
                start, stop = start - reach, stop + reach
            beyond = 0
            if plan.axes != "zyx"[axis]:  # tiles extend along this axis
                end = cut.window.origin + cut.window.size
                start, stop, beyond = min(start, cut.window.origin), max(stop, end), max(end - n, 0)
                if beyond:
                    start = min(start, n - stride)  # enough to be reflected at the end
            self._origin.append(max(start, 0))
            stops.append(min(stop, n))
            pad.append((0, beyond))
        source = Resampled(volume, plan.ratios) if plan.resamples else volume
        z, y, x = map(slice, self._origin, stops)
        image = source[z, y, x]
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise VolumeError(
                f"{name_volume(volume)}: holds NaN or infinity; replace them, or save it as uint8 or uint16"
            )
        self._image = np.pad(image, pad, mode="reflect") if np.any(pad) else image

    def read_tile(self, axis: int, index: int) -> NDArray[np.float32]:
        """Return a tile of the slice at an index of the grid along an axis, and its neighbours, as the network does."""
        around = np.clip(index + self._offsets, 0, self._shape[axis] - 1) - self._origin[axis]
        within = [
            slice(cut.window.origin - origin, cut.window.origin - origin + cut.window.size)
            for cut, origin in zip(self._block, self._origin, strict=True)
        ]
        slices = []
        for one in around:
            within[axis] = slice(one, one + 1)
            slices.append(self._image[tuple(within)].squeeze(axis))
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


def _predict_blocks(
    volume: Voxels,
    model: SegmentationModel,
    plan: Plan,
    on_progress: OnProgress | None,
    cancelled: Callable[[], bool] | None,
) -> Iterator[tuple[Block, NDArray[np.float32]]]:
    """Yield each block and its probabilities, slab by slab, and tell how many voxels are done."""
    n_voxels = math.prod(plan.shape)

    def on_tile(n_before: int, n_block: int, part: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled")
        if on_progress is not None:
            on_progress(n_before + int(part * n_block), n_voxels)

    n_done = 0
    for block in (block for slab in plan.slabs for block in slab):
        n_block = math.prod(cut.stop - cut.start for cut in block)
        probability = predict_block(volume, model, plan, block, partial(on_tile, n_done, n_block))
        n_done += n_block
        if on_progress is not None:
            on_progress(n_done, n_voxels)
        yield block, probability


@contextmanager
def _needs_room(folder: Path | None) -> Iterator[None]:
    """Turn a full disk into one line that says which."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder or tempfile.gettempdir()}: a temporary file cannot be written there: {error.strerror or error}; "
            "make room"
        ) from error


def _gather(file: Any, blocks: Sequence[Block], shape: tuple[int, int, int]) -> Iterator[Slab]:
    """Yield the slices of a slab from its blocks, which lie in a file one after the other: mask, then probability."""
    depth = blocks[0][0].stop - blocks[0][0].start
    step = max(1, MAX_GATHERED // (shape[1] * shape[2]))
    for first in range(0, depth, step):
        n = min(step, depth - first)
        slab = Slab(*(np.empty((n, *shape[1:]), np.uint8) for _ in Slab._fields))
        base = 0
        for block in blocks:
            _, rows, columns = block
            size = (rows.stop - rows.start, columns.stop - columns.start)
            area = size[0] * size[1]
            for values in slab:
                file.seek(base + first * area)
                part = np.frombuffer(file.read(n * area), np.uint8).reshape(n, *size)
                values[:, rows.start : rows.stop, columns.start : columns.stop] = part
                base += depth * area
        yield slab
