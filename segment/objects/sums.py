"""What is added up over the voxels of numbered objects: whole numbers, so that the blocks' sums make the volume's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError, VolumeError
from segment.intensity import Voxels, name_volume
from segment.objects.blocks import Engine, Grid, OnProgress, OverBlocks, choose_blocks
from segment.objects.masks import refuse_mask, to_numbers
from segment.objects.runs import Integers, Runs, bound_runs, find_runs, join_boxes, no_boxes

STEPS = tuple(step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0))  # to half of the 26 neighbours
PAIRS = tuple(combinations_with_replacement(range(3), 2))  # of axes: zz, zy, zx, yy, yx, xx

_SPLIT_BITS = 32  # squares of positions summed over a long object need more than 64 bits
_FIRSTS = slice(1, 4)
_HIGHS = slice(4, 10)
_LOWS = slice(10, 16)
_CROSSINGS = slice(16, 16 + len(STEPS))
_N_SUMS = 16 + len(STEPS)
_MIN_WAITING = 2**16


@dataclass(frozen=True)
class ObjectSum:
    """What is known about one object.

    Parameters
    ----------
    label : int
    n_voxels : int
    position : tuple of int
        The sum over its voxels of z, of y, of x.
    products : tuple of int
        The sum of zz, zy, zx, yy, yx, xx.
    crossings : tuple of int
        How many times one leaves or enters it on the way from voxel to voxel along each of `STEPS`.
    start, stop : tuple of int
        Its bounding box along (z, y, x).
    """

    label: int
    n_voxels: int
    position: tuple[int, ...]
    products: tuple[int, ...]
    crossings: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]


@dataclass(frozen=True)
class Sums:
    """The sums of some objects, a row each.

    Parameters
    ----------
    labels : ndarray of unsigned integers, shape (n,)
        Ascending, without 0.
    sums : ndarray of int64, shape (n, 29)
    boxes : ndarray of int64, shape (n, 6)
        Starts along z, y, x, then stops.
    """

    labels: NDArray[np.unsignedinteger[Any]]
    sums: Integers
    boxes: Integers

    @property
    def n_voxels(self) -> int:
        """Voxels of all objects."""
        return int(self.sums[:, 0].sum())

    def __iter__(self) -> Iterator[ObjectSum]:
        """Yield what is known about each object, in the order of the labels."""
        for label, sums, box in zip(self.labels.tolist(), self.sums, self.boxes, strict=True):
            row = sums.tolist()
            products = tuple((high << _SPLIT_BITS) + low for high, low in zip(row[_HIGHS], row[_LOWS], strict=True))
            start, stop = tuple(box[:3].tolist()), tuple(box[3:].tolist())
            yield ObjectSum(label, row[0], tuple(row[_FIRSTS]), products, tuple(row[_CROSSINGS]), start, stop)


def sum_volume(
    volume: Voxels,
    *,
    engine: Engine,
    grid: Grid | None = None,
    on_progress: OnProgress = lambda step, done, total: None,
) -> Sums:
    """Add up over numbered objects, block by block, what `segment.objects.measure.measure_object` needs.

    Parameters
    ----------
    volume : Numbers or ndarray of integers, shape (z, y, x)
        Each object has its own number, the background is 0.
    engine : Engine
        What runs over the blocks.
    grid : Grid, optional
        How the volume is cut into blocks.
    on_progress : callable
        ``on_progress(step, done, total)``; what it raises ends the work.

    Returns
    -------
    Sums
        The same whichever the blocks. It is iterable.

    Raises
    ------
    VolumeError
        The volume holds no integers, or negative ones; or it is a mask: 8 or 16 bits, with a single value beside 0,
        which is 1 or 255.
    InputError
        A block failed.

    Notes
    -----
    Holds some 30 bytes for each voxel of the blocks that are worked on, and 300 for each object.
    """
    z, y, x = volume.shape
    grid = grid or choose_blocks((z, y, x))
    total = SumsOfVolume(np.dtype(f"u{volume.dtype.itemsize}"))
    over_blocks = OverBlocks(engine, name_volume(volume), on_progress)
    over_blocks("measuring", partial(_sum_block_of, volume, grid), len(grid), lambda index, found: total.add(found))
    sums = total.result()
    refuse_mask(volume, sums.labels)
    return sums


def _sum_block_of(volume: Voxels, grid: Grid, index: int) -> Sums | InputError:
    values = volume[grid.box(index, below=1, above=1)]
    try:
        labels = to_numbers(volume, values)
    except VolumeError as error:
        return error
    return sum_block(labels, grid, index)


def sum_block(labels: NDArray[np.unsignedinteger[Any]], grid: Grid, index: int) -> Sums:
    """Add up what lies in one block.

    Parameters
    ----------
    labels : ndarray of unsigned integers, shape (z, y, x)
        ``grid.box(index, below=1, above=1)`` of the volume.
    grid : Grid
    index : int
        Of the block.

    Returns
    -------
    Sums
        Of the objects that have voxels in the block.
    """
    box, reach = grid.box(index), grid.box(index, below=1, above=1)
    origin = [side.start for side in box]
    shape = [side.stop - side.start for side in box]
    # Beyond the end of the volume is background.
    around = np.zeros([n + 2 for n in shape], labels.dtype)
    around[tuple(slice(a.start - start + 1, a.stop - start + 1) for a, start in zip(reach, origin, strict=True))] = (
        labels
    )
    core = around[1:-1, 1:-1, 1:-1]
    runs = find_runs(np.ascontiguousarray(core))
    known, rows = np.unique(runs.values, return_inverse=True)
    sums = np.zeros((len(known), _N_SUMS), np.int64)
    _sum_positions(sums, rows, runs, origin)
    sums[:, _CROSSINGS] = _count_crossings(around, known)
    return Sums(known, sums, bound_runs(runs, rows, len(known), origin))


def merge_sums(parts: list[Sums]) -> Sums:
    """Return the sums over several blocks; it does not matter in which order they come."""
    every = np.concatenate([part.labels for part in parts])
    known, rows = np.unique(every, return_inverse=True)
    sums = np.zeros((len(known), _N_SUMS), np.int64)
    np.add.at(sums, rows, np.concatenate([part.sums for part in parts]))
    boxes = no_boxes(len(known))
    join_boxes(boxes, rows, np.concatenate([part.boxes for part in parts]))
    return Sums(known, sums, boxes)


class SumsOfVolume:
    """Takes the sums of blocks, in any order, and merges them whenever enough have come."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._parts = [Sums(np.zeros(0, dtype), np.zeros((0, _N_SUMS), np.int64), np.zeros((0, 6), np.int64))]

    def add(self, found: Sums) -> None:
        """Take the sums of one block."""
        self._parts.append(found)
        if sum(len(part.labels) for part in self._parts[1:]) > max(_MIN_WAITING, len(self._parts[0].labels)):
            self._parts = [merge_sums(self._parts)]

    def result(self) -> Sums:
        """Return the sums of the volume."""
        self._parts = [merge_sums(self._parts)]
        return self._parts[0]


def _sum_positions(sums: Integers, rows: NDArray[np.intp], runs: Runs, origin: list[int]) -> None:
    """Add up 1, positions and products of positions over runs."""

    def total(weights: Integers) -> Integers:
        # Within a block, these stay below 2**53: floats hold them exactly.
        return np.bincount(rows, weights, minlength=len(sums)).astype(np.int64)

    _, z, y, x, lengths = runs
    n = total(lengths)
    x_sums = lengths * x + lengths * (lengths - 1) // 2
    x_squares = lengths * x**2 + x * lengths * (lengths - 1) + (lengths - 1) * lengths * (2 * lengths - 1) // 6
    inside = [total(lengths * z), total(lengths * y), total(x_sums)]
    squares = {
        (0, 0): lengths * z**2,
        (0, 1): lengths * z * y,
        (0, 2): z * x_sums,
        (1, 1): lengths * y**2,
        (1, 2): y * x_sums,
        (2, 2): x_squares,
    }
    sums[:, 0] = n
    for axis in range(3):
        sums[:, _FIRSTS][:, axis] = inside[axis] + origin[axis] * n
    for column, (a, b) in enumerate(PAIRS):
        of_block = total(squares[a, b])
        of_volume = of_block + origin[a] * inside[b] + origin[b] * inside[a] + origin[a] * origin[b] * n
        sums[:, _HIGHS][:, column] = of_volume >> _SPLIT_BITS
        sums[:, _LOWS][:, column] = of_volume & (2**_SPLIT_BITS - 1)


def _count_crossings(around: NDArray[np.unsignedinteger[Any]], known: NDArray[np.unsignedinteger[Any]]) -> Integers:
    """Return how many of each object's voxels and their neighbours, along each step, differ: shape (n, 13)."""
    counts = np.zeros((len(known), len(STEPS)), np.int64)
    flat = around.reshape(-1)
    edge = np.flatnonzero(_is_edge(around))
    values = flat[edge]
    rows = np.searchsorted(known, values)
    _, height, width = around.shape
    for column, (z, y, x) in enumerate(STEPS):
        offset = (z * height + y) * width + x
        for sense in (-offset, offset):
            counts[:, column] += np.bincount(rows[flat[edge + sense] != values], minlength=len(known))
    return counts


def _is_edge(around: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.bool_]:
    """Return which voxels of objects, but for the outermost, have a neighbour of another object or none."""
    is_edge = np.zeros(around.shape, bool)
    for axis in (2, 1, 0):  # what differs along x, then what differs along y or has such neighbours, then along z
        moved, seen = np.moveaxis(around, axis, 0), np.moveaxis(is_edge, axis, 0)
        differs = moved[1:] != moved[:-1]
        before = seen.copy()
        seen[1:] |= before[:-1] | differs
        seen[:-1] |= before[1:] | differs
    for axis in range(3):
        np.moveaxis(is_edge, axis, 0)[[0, -1]] = False
    return is_edge & (around > 0)
