"""A volume as a grid of blocks of one shape: from the index of a block to what it fills and what it needs.

The first voxel of a block lies at a multiple of the blocks' shape, so that a block is one shard of the arrays that are
written. Nothing is kept for each block: what a block is follows from its index, and there may be millions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from segment.serving.resample import grid_span
from segment.serving.tiling import Window, round_up

Span = tuple[int, int]  # the first voxel along an axis, and one past the last
Region = tuple[Span, Span, Span]  # of the volume, (z, y, x)


@dataclass(frozen=True)
class Cut:
    """What a block is along one axis.

    Parameters
    ----------
    window : Window
        On the model's grid: what the network sees, and what is kept of it.
    start, stop : int
        In the volume: the first voxel that it fills, and one past the last.
    """

    window: Window
    start: int
    stop: int


Block = tuple[Cut, Cut, Cut]


@dataclass(frozen=True)
class Axis:
    """One axis of a volume, cut into blocks.

    Parameters
    ----------
    n, n_grid : int
        Voxels of the volume, and of the model's grid.
    ratio : float
        Voxels of the model's grid in one of the volume's.
    block : int
        Voxels of the volume that a block fills; the last may fill fewer.
    halo, stride : int
        Of the network, on the model's grid.
    is_tiled : bool
        Whether tiles extend along the axis; else slices are cut along it, and nothing else is needed.
    """

    n: int
    n_grid: int
    ratio: float
    block: int
    halo: int
    stride: int
    is_tiled: bool

    def __len__(self) -> int:
        """Return the number of blocks."""
        return -(-self.n // self.block)

    def cut(self, index: int) -> Cut:
        """Return what a block is along this axis."""
        start, stop = index * self.block, min((index + 1) * self.block, self.n)
        first, last = grid_span(start, stop, self.ratio, self.n_grid)
        if not self.is_tiled:
            return Cut(Window(first, last - first, first, last), start, stop)
        origin = max((first - self.halo) // self.stride * self.stride, 0)
        end = min(round_up(last + self.halo, self.stride), round_up(self.n_grid, self.stride))
        return Cut(Window(origin, end - origin, first, last), start, stop)

    def clip(self, cut: Cut, span: Span) -> Cut:
        """Return what is left of a cut within a span of the volume; the network still sees the same."""
        start, stop = max(cut.start, span[0]), min(cut.stop, span[1])
        first, last = grid_span(start, stop, self.ratio, self.n_grid)
        origin, size = (cut.window.origin, cut.window.size) if self.is_tiled else (first, last - first)
        return Cut(Window(origin, size, first, last), start, stop)

    @property
    def largest_core(self) -> int:
        """At most as many voxels of the model's grid are kept of a block."""
        if self.ratio == 1:
            return min(self.block, self.n)
        return min(math.ceil((self.block - 1) * self.ratio) + 2, self.n_grid)

    @property
    def largest_window(self) -> int:
        """The network sees at most as many voxels of the model's grid for a block."""
        if not self.is_tiled:
            return self.largest_core
        margin = 0 if self.ratio == 1 else self.stride
        most = round_up(self.largest_core + 2 * self.halo + margin, self.stride)
        return min(most, round_up(self.n_grid, self.stride))


@dataclass(frozen=True)
class BlockGrid:
    """The blocks of a volume, numbered along x, then y, then z.

    Parameters
    ----------
    axes : tuple of Axis
        (z, y, x).
    """

    axes: tuple[Axis, Axis, Axis]

    def __len__(self) -> int:
        """Return the number of blocks."""
        return math.prod(self.counts)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Blocks along (z, y, x)."""
        z, y, x = map(len, self.axes)
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the volume that a block fills along (z, y, x)."""
        z, y, x = (axis.block for axis in self.axes)
        return z, y, x

    @property
    def everywhere(self) -> Region:
        """All of the volume."""
        z, y, x = ((0, axis.n) for axis in self.axes)
        return z, y, x

    def position(self, index: int) -> tuple[int, int, int]:
        """Return which block along (z, y, x) an index is."""
        _, n_y, n_x = self.counts
        rest, x = divmod(index, n_x)
        z, y = divmod(rest, n_y)
        return z, y, x

    def block(self, index: int) -> Block:
        """Return what a block is.

        Raises
        ------
        IndexError
            There is no such block.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"block {index}: expected 0 to {len(self) - 1}")
        z, y, x = (axis.cut(at) for axis, at in zip(self.axes, self.position(index), strict=True))
        return z, y, x

    def clip(self, block: Block, region: Region) -> Block:
        """Return what is left of a block within a region of the volume that it meets."""
        z, y, x = (axis.clip(cut, span) for axis, cut, span in zip(self.axes, block, region, strict=True))
        return z, y, x

    def within(self, region: Region) -> BlocksWithin:
        """Return the blocks that meet a region."""
        z, y, x = (
            range(start // axis.block, -(-stop // axis.block))
            for axis, (start, stop) in zip(self.axes, region, strict=True)
        )
        return BlocksWithin(self.counts, (z, y, x))


@dataclass(frozen=True)
class BlocksWithin:
    """Indices of the blocks that meet a region, in order; none is kept.

    Parameters
    ----------
    counts : tuple of int
        Blocks of the whole grid along (z, y, x).
    ranges : tuple of range
        Which of them, along each axis.
    """

    counts: tuple[int, int, int]
    ranges: tuple[range, range, range]

    def __len__(self) -> int:
        """Return how many there are."""
        return math.prod(map(len, self.ranges))

    def __iter__(self) -> Iterator[int]:
        """Yield each index."""
        return self.part(0, 1)

    def part(self, part: int, n_parts: int) -> Iterator[int]:
        """Yield the indices of one of several parts that are as long as each other, or differ by one."""
        (z, y, x), (_, n_y, n_x) = self.ranges, self.counts
        for at in range(len(self) * part // n_parts, len(self) * (part + 1) // n_parts):
            rest, column = divmod(at, len(x))
            layer, row = divmod(rest, len(y))
            yield (z[layer] * n_y + y[row]) * n_x + x[column]
