"""A volume cut into blocks that fit in memory, and what is done to each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.volumes.chunks import CHUNK, CHUNK_STEP
from segment.volumes.stored import Box

BLOCK_VOXELS = 2**24  # of a block: what is done to it takes some 15 bytes a voxel
MAX_SIDE = 4096  # sums of squares over a block stay below 2**53, which floats hold exactly

_TILE_SIDE = 1024

Shape = tuple[int, int, int]
Result = TypeVar("Result")
OnProgress = Callable[[str, int, int], None]  # what is done; how many of it; of how many


class Engine(Protocol):
    """Calls a function with each index, somewhere: `segment.serving.blockwise.run_here`, or another of its kind."""

    def __call__(
        self,
        function: Callable[[int], Result],
        indices: Iterable[int],
        *,
        on_done: Callable[[int, Result], None],
        cancelled: Callable[[], bool],
    ) -> dict[int, str]:
        """Return what those said that failed, by index."""


@dataclass(frozen=True)
class Grid:
    """The blocks of a volume, numbered along z, then y, then x.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, (z, y, x).
    block : tuple of int
        Of a block; those at the ends may be cut short.

    Examples
    --------
    >>> grid = Grid((20, 30, 40), (16, 32, 32))
    >>> len(grid), grid.box(3)
    (4, (slice(16, 20, None), slice(0, 30, None), slice(32, 40, None)))
    >>> grid.after(0, 0), grid.after(0, 2), grid.after(3, 2)
    (2, 1, None)
    """

    shape: Shape
    block: Shape

    @property
    def counts(self) -> Shape:
        """How many blocks there are along each axis."""
        z, y, x = (-(-n // side) for n, side in zip(self.shape, self.block, strict=True))
        return z, y, x

    def __len__(self) -> int:
        return math.prod(self.counts)

    def where(self, index: int) -> Shape:
        """Return which block it is along each axis."""
        _, n_y, n_x = self.counts
        return index // (n_y * n_x), index // n_x % n_y, index % n_x

    def box(self, index: int, *, below: int = 0, above: int = 0) -> Box:
        """Return where a block lies, and up to so many voxels beyond it on its lower and its upper sides."""
        z, y, x = (
            slice(max(0, at * side - below), min(n, (at + 1) * side + above))
            for at, side, n in zip(self.where(index), self.block, self.shape, strict=True)
        )
        return z, y, x

    def after(self, index: int, axis: int) -> int | None:
        """Return the next block along an axis."""
        _, n_y, n_x = self.counts
        if self.where(index)[axis] + 1 == self.counts[axis]:
            return None
        return index + (n_y * n_x, n_x, 1)[axis]

    def holding(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks that voxels lie in; shape (n, 3) becomes (n,)."""
        z, y, x = (voxels // self.block).T
        _, n_y, n_x = self.counts
        return (z * n_y + y) * n_x + x

    def touched(self, box: Box) -> list[int]:
        """Return the blocks that share voxels with a box that is not empty."""
        _, n_y, n_x = self.counts
        ranges = [range(part.start // side, -(-part.stop // side)) for part, side in zip(box, self.block, strict=True)]
        return [(z * n_y + y) * n_x + x for z, y, x in product(*ranges)]


def choose_blocks(shape: Shape) -> Grid:
    """Cut a volume into whole slices where these are small, else into tiles of them.

    Examples
    --------
    >>> choose_blocks((1000, 1024, 1024)).block
    (16, 1024, 1024)
    >>> choose_blocks((1000, 500, 200)).block
    (160, 512, 200)
    >>> choose_blocks((5000, 9000, 9000)).block
    (16, 1024, 1024)
    """
    n_slices, height, width = (
        n if n <= most else -(-n // CHUNK_STEP) * CHUNK_STEP for n, most in zip(shape, CHUNK, strict=True)
    )
    area = BLOCK_VOXELS // CHUNK[0]  # at most, for blocks as deep as chunks
    if height * width > area or max(height, width) > MAX_SIDE:
        width = min(width, _TILE_SIDE)
        height = min(height, MAX_SIDE, area // width // CHUNK_STEP * CHUNK_STEP)
    depth = min(MAX_SIDE, BLOCK_VOXELS // (height * width) // CHUNK[0] * CHUNK[0])
    return Grid(shape, (min(depth, n_slices), height, width))


@dataclass(frozen=True)
class OverBlocks:
    """Does something to every block, and tells how far it is.

    Parameters
    ----------
    engine : Engine
    name : str
        Of the volume, for messages.
    on_progress : callable
        ``on_progress(step, done, total)``; what it raises ends the work.
    """

    engine: Engine
    name: str
    on_progress: OnProgress = lambda step, done, total: None

    def __call__(
        self,
        step: str,
        function: Callable[[int], Result | InputError],
        n: int,
        on_done: Callable[[int, Result], None] = lambda index, result: None,
    ) -> None:
        """Call a function with 0 to n - 1.

        Parameters
        ----------
        step : str
            What it does, for the user.
        function : callable
            It returns, and does not raise, an error that need not be asked for again.
        n : int
        on_done : callable
            Gets each index and what the function returned, in this thread.

        Raises
        ------
        InputError
            The function returned it, or failed for good.
        """
        n_done = 0

        def count(index: int, result: Result | InputError) -> None:
            nonlocal n_done
            if isinstance(result, InputError):
                raise result
            on_done(index, result)
            n_done += 1
            self.on_progress(step, n_done, n)

        self.on_progress(step, 0, n)
        failed = self.engine(function, range(n), on_done=count, cancelled=lambda: False)
        if failed:
            index = min(failed)
            raise InputError(f"{self.name}: {step} failed in {len(failed)} of {n} blocks; in {index}: {failed[index]}")
        if n_done < n:
            raise RuntimeError(f"{self.name}: {step} ended with {n_done} of {n} blocks")


def as_box(bounds: NDArray[np.int64]) -> Box:
    """Return the box of three starts and three stops."""
    z, y, x = (slice(start, stop) for start, stop in zip(bounds[:3].tolist(), bounds[3:].tolist(), strict=True))
    return z, y, x


def intersect(one: Box, other: Box) -> Box:
    """Return what two boxes share."""
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return z, y, x


def within(box: Box, outer: Box) -> Box:
    """Return where a box lies in an array of what an outer box holds."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return z, y, x
