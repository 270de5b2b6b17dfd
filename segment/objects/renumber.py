"""Labels of blocks, read with the numbers of the objects that they are part of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from segment.objects.blocks import Grid, as_box, intersect, within
from segment.objects.instances import Labels
from segment.objects.runs import Integers
from segment.volumes.chunks import CHUNK, largest_divisor
from segment.volumes.stored import Box

_LABELS = "labels.zarr"  # of each block, numbered by itself
_OFFSETS, _NUMBERS, _SPLIT = "offsets.npy", "numbers.npy", "split.npz"


class Renumbered:
    """The labels of all blocks, with the numbers of the volume.

    Parameters
    ----------
    scratch : Path
        Where the labels, their numbers and the parts of split objects are.
    grid : Grid
    """

    def __init__(self, scratch: Path, grid: Grid) -> None:
        self._scratch, self._grid = scratch, grid
        self._labels: Any = zarr.open_array(str(scratch / _LABELS), mode="r")
        self._offsets = np.load(scratch / _OFFSETS, mmap_mode="r")
        self._numbers = np.load(scratch / _NUMBERS, mmap_mode="r")
        self._split: dict[str, Integers] = {}
        if (scratch / _SPLIT).exists():
            with np.load(scratch / _SPLIT) as kept:
                self._split = {name: kept[name] for name in kept.files}

    def read(self, box: Box) -> NDArray[np.unsignedinteger[Any]]:
        """Return the numbers in a box."""
        values = np.zeros([part.stop - part.start for part in box], self._numbers.dtype)
        for index in self._grid.touched(box):
            start, stop = self._offsets[index : index + 2]
            if start == stop:
                continue
            shared = intersect(box, self._grid.box(index))
            numbers = np.concatenate([np.zeros(1, self._numbers.dtype), self._numbers[start:stop]])
            values[within(shared, box)] = numbers[self._labels[shared]]
        if self._split:
            self._put_parts(values, box)
        return values

    def _put_parts(self, values: NDArray[Any], box: Box) -> None:
        boxes = self._split["boxes"]
        starts, stops = [part.start for part in box], [part.stop for part in box]
        for row in np.flatnonzero((boxes[:, :3] < stops).all(axis=1) & (boxes[:, 3:] > starts).all(axis=1)):
            whole = as_box(boxes[row])
            shared = intersect(box, whole)
            parts = load_parts(self._scratch, int(self._split["labels"][row]))[within(shared, whole)]
            inside = parts > 0
            numbers = self._split["numbers"][self._split["offsets"][row] :]
            values[within(shared, box)][inside] = numbers[parts[inside] - 1]


def create_labels(scratch: Path, grid: Grid) -> None:
    """Make room for the labels of each block: a file of its own, compressed for speed."""
    zarr.create_array(
        str(scratch / _LABELS),
        shape=grid.shape,
        dtype=np.uint32,
        shards=grid.block,
        chunks=tuple(largest_divisor(side, most) for side, most in zip(grid.block, CHUNK, strict=True)),
        compressors=BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
    )


def save_labels(scratch: Path, box: Box, labels: Labels) -> None:
    """Keep the labels of a block, in a file that appears whole."""
    array: Any = zarr.open_array(str(scratch / _LABELS), mode="r+")
    array[box] = labels


def save_numbers(scratch: Path, offsets: Integers, numbers: Integers) -> None:
    """Keep the number of each component of each block.

    Parameters
    ----------
    scratch : Path
    offsets, numbers : ndarray of int64
        As in `segment.objects.components.VolumeObjects`.
    """
    np.save(scratch / _OFFSETS, offsets)
    fits = numbers.max(initial=0) <= np.iinfo(np.uint32).max
    np.save(scratch / _NUMBERS, numbers.astype(np.uint32 if fits else np.uint64))


def save_parts(scratch: Path, label: int, parts: NDArray[np.integer[Any]]) -> None:
    """Keep the parts of one object, numbered from 1, in its bounding box."""
    np.savez_compressed(_parts_file(scratch, label), parts=parts.astype(np.min_scalar_type(int(parts.max()))))


def load_parts(scratch: Path, label: int) -> NDArray[np.unsignedinteger[Any]]:
    """Return what `save_parts` kept."""
    with np.load(_parts_file(scratch, label)) as kept:
        return kept["parts"]


def _parts_file(scratch: Path, label: int) -> Path:
    return scratch / f"parts{label:08d}.npz"


def number_parts(
    scratch: Path,
    numbers: Integers,
    sizes: Integers,
    firsts: Integers,
    boxes: Integers,
    parts: dict[int, tuple[Integers, Integers]],
    min_voxels: int,
) -> tuple[Integers, int]:
    """Give objects new numbers, some of which were split.

    Parameters
    ----------
    scratch : Path
        Where the parts are, and their numbers go.
    numbers : ndarray of int64, shape (n_rows,)
        Object of each component of each block, from 1.
    sizes, firsts : ndarray of int64, shape (n_objects,)
    boxes : ndarray of int64, shape (n_objects, 6)
    parts : dict
        Sizes and first voxels of the parts of each object that was split.
    min_voxels : int
        Parts of fewer are left out.

    Returns
    -------
    numbers : ndarray of int64, shape (n_rows,)
        As they were given, but new; those of objects that were split are kept with the parts.
    n_objects : int
    """
    n_parts = np.ones(len(sizes), np.int64)
    for label, (part_sizes, _) in parts.items():
        n_parts[label - 1] = len(part_sizes)
    offsets = np.cumsum(n_parts) - n_parts
    all_sizes, all_firsts = np.repeat(sizes, n_parts), np.repeat(firsts, n_parts)
    for label, (part_sizes, part_firsts) in parts.items():
        where = slice(offsets[label - 1], offsets[label - 1] + len(part_sizes))
        all_sizes[where], all_firsts[where] = part_sizes, part_firsts
    (chosen,) = np.nonzero(all_sizes >= min_voxels)
    chosen = chosen[np.argsort(all_firsts[chosen])]
    new = np.zeros(len(all_sizes), np.int64)
    new[chosen] = np.arange(1, len(chosen) + 1)
    split = np.array(sorted(parts), np.int64)
    if len(split):
        part_offsets = np.cumsum(n_parts[split - 1]) - n_parts[split - 1]
        ranges = [new[offsets[label - 1] : offsets[label - 1] + n_parts[label - 1]] for label in split]
        np.savez(
            scratch / _SPLIT,
            labels=split,
            boxes=boxes[split - 1],
            offsets=part_offsets,
            numbers=np.concatenate(ranges),
        )
    return np.concatenate([[0], new[offsets]])[numbers], len(chosen)
