"""Coarser levels of an OME-Zarr image, so that viewers need not read all of it to show it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from segment.volumes.chunks import CHUNK, CHUNK_STEP
from segment.volumes.ome_zarr import describe_image
from segment.volumes.sharded import LEVEL, create_level, write_block
from segment.volumes.voxel_size import VoxelSize
from segment.volumes.writer import disk_refused

Kind = Literal["mask", "mean"]
Factor = tuple[int, int, int]

SHARD = (64, 512, 512)  # voxels along (z, y, x) of a level that are computed at a time and become a file, at most
FULLY_SHOWN = 256  # voxels: a level of which no side is longer is the last


@dataclass(frozen=True)
class Level:
    """One of the coarser levels of an image; it can be pickled.

    Parameters
    ----------
    folder : Path
        Of the image.
    index : int
        1 for the level after the finest.
    factor : tuple of int
        Voxels of the finest level in one of its own along (z, y, x).
    step : tuple of int
        Voxels of the level before, 1 or 2.
    shape, shard : tuple of int
        Its voxels, and those of a file, along (z, y, x).
    kind : {"mask", "mean"}
        A voxel of a mask is 255 where at least half of those that it is made from are, else 0, so that there are no
        other values and an object keeps its size; otherwise it is their mean, rounded.
    """

    folder: Path
    index: int
    factor: Factor
    step: Factor
    shape: tuple[int, int, int]
    shard: tuple[int, int, int]
    kind: Kind

    @property
    def counts(self) -> tuple[int, int, int]:
        """Files along (z, y, x)."""
        z, y, x = (-(-n // size) for n, size in zip(self.shape, self.shard, strict=True))
        return z, y, x

    def __len__(self) -> int:
        """Return the number of files."""
        return math.prod(self.counts)


def plan_pyramid(folder: Path, shape: tuple[int, int, int], voxel_nm: VoxelSize | None, kind: Kind) -> list[Level]:
    """Return the coarser levels of an image, finest first.

    Each halves the axes along which voxels are smallest, until voxels are about as long along all three, and then all
    axes, until no side is longer than 256.

    Parameters
    ----------
    folder : Path
    shape : tuple of int
        Of the finest level, (z, y, x).
    voxel_nm : tuple of float or None
        Of the finest level; where it is unknown, as long along all three axes.
    kind : {"mask", "mean"}

    Examples
    --------
    >>> levels = plan_pyramid(Path("m.ome.zarr"), (100, 1000, 1001), (20.0, 5.0, 5.0), "mask")
    >>> [(level.factor, level.shape) for level in levels]
    [((1, 2, 2), (100, 500, 501)), ((1, 4, 4), (100, 250, 251))]
    """
    levels: list[Level] = []
    factor, sides = (1, 1, 1), voxel_nm or (1.0, 1.0, 1.0)
    while max(shape) > FULLY_SHOWN:
        sizes = [side * n for side, n in zip(sides, factor, strict=True)]
        smallest = min(size for size, n in zip(sizes, shape, strict=True) if n > 1)
        step = _triple(2 if n > 1 and size < 2 * smallest else 1 for size, n in zip(sizes, shape, strict=True))
        shape = _triple(-(-n // by) for n, by in zip(shape, step, strict=True))
        factor = _triple(n * by for n, by in zip(factor, step, strict=True))
        shard = _triple(
            n if n <= chunk else min(-(-n // CHUNK_STEP) * CHUNK_STEP, most)
            for n, chunk, most in zip(shape, CHUNK, SHARD, strict=True)
        )
        levels.append(Level(folder, len(levels) + 1, factor, step, shape, shard, kind))
    return levels


def create_levels(levels: Iterable[Level]) -> None:
    """Make the arrays of levels, 0 everywhere, in place of those that a crash left.

    Raises
    ------
    InputError
        The disk is full, or cannot be written to.
    """
    for level in levels:
        with disk_refused(level.folder):
            shutil.rmtree(level.folder / str(level.index), ignore_errors=True)
            group = zarr.open_group(str(level.folder), mode="r+")
            create_level(group, str(level.index), level.shape, group[LEVEL].dtype, level.shard)  # type: ignore[union-attr]


def write_level_block(level: Level, index: int) -> None:
    """Compute one file of a level from the level before.

    Parameters
    ----------
    level : Level
    index : int
        0 to ``len(level) - 1``. The files of a level can be made in any order, by anyone.

    Raises
    ------
    InputError
        The disk is full, or cannot be written to.
    """
    rest, x = divmod(index, level.counts[2])
    z, y = divmod(rest, level.counts[1])
    group = zarr.open_group(str(level.folder), mode="r+")
    source, target = group[str(level.index - 1)], group[str(level.index)]
    assert isinstance(source, zarr.Array)
    assert isinstance(target, zarr.Array)
    starts = [at * size for at, size in zip((z, y, x), level.shard, strict=True)]
    stops = [min(start + size, n) for start, size, n in zip(starts, level.shard, level.shape, strict=True)]
    values = np.empty([stop - start for start, stop in zip(starts, stops, strict=True)], source.dtype)
    rows, columns = (
        slice(start * by, stop * by) for start, stop, by in zip(starts[1:], stops[1:], level.step[1:], strict=True)
    )
    for first in range(starts[0], stops[0], CHUNK[0]):  # the box that is read is up to 8 times as large
        last = min(first + CHUNK[0], stops[0])
        read = np.asarray(source[first * level.step[0] : last * level.step[0], rows, columns])
        values[first - starts[0] : last - starts[0]] = halve(read, level.step, level.kind)
    write_block(target, (z, y, x), values)


def describe_levels(levels: list[Level], name: str, voxel_nm: VoxelSize | None) -> None:
    """Say in an image's attributes which levels it has.

    Raises
    ------
    InputError
        The disk is full, or cannot be written to.
    """
    if levels:
        with disk_refused(levels[0].folder):
            group = zarr.open_group(str(levels[0].folder), mode="r+")
            group.attrs.update(describe_image(name, voxel_nm, [(1, 1, 1), *(level.factor for level in levels)]))


def halve(values: NDArray[Any], step: Factor, kind: Kind) -> NDArray[Any]:
    """Return an array of half the size along some axes; what is left over at an end counts twice.

    Examples
    --------
    >>> halve(np.array([[[0, 1, 2, 4, 9]]], np.uint8), (1, 1, 2), "mean")
    array([[[1, 3, 9]]], dtype=uint8)
    """
    total = np.pad(values, [(0, -n % by) for n, by in zip(values.shape, step, strict=True)], mode="edge").astype(
        np.uint32
    )
    for axis, by in enumerate(step):
        if by == 2:
            even, odd = (
                tuple(slice(at, None, 2) if other == axis else slice(None) for other in range(3)) for at in (0, 1)
            )
            total = total[even] + total[odd]
    n = math.prod(step)
    if kind == "mask":
        return np.where(2 * total >= 255 * n, 255, 0).astype(values.dtype)
    return ((total + n // 2) // n).astype(values.dtype)


def _triple(values: Iterable[int]) -> tuple[int, int, int]:
    z, y, x = values
    return z, y, x
