"""How planes are cut into tiles that overlap, so that no border of a tile shows.

A network sees as far as its halo. A tile is computed with a halo around it and gives its core, where every pixel saw
what it would see in the whole plane. At the borders of the plane no halo is needed: there a tile and the plane end
alike, in the network's own padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from segment.errors import InputError
from segment.volumes.chunks import CHUNK, CHUNK_STEP


@dataclass(frozen=True)
class Window:
    """A tile along one axis.

    Parameters
    ----------
    origin, size : int
        What the network sees: the first pixel, a multiple of the stride, and how many; it may reach beyond the end
        of the axis by less than the stride.
    start, stop : int
        The core: the first pixel that is kept, and one past the last.
    """

    origin: int
    size: int
    start: int
    stop: int


def choose_block(n: int, n_grid: int, ratio: float, tile: int, halo: int, stride: int, chunk: int = CHUNK[-1]) -> int:
    """Return how many voxels of the volume blocks fill along an axis, so that a tile has room for each of them.

    Parameters
    ----------
    n, n_grid : int
        Voxels along the axis, 1 or more: of the volume, and of the model's grid.
    ratio : float
        Voxels of the model's grid in one of the volume's.
    tile : int
        The largest size of a window.
    halo : int
        Pixels beside the core that the network needs, a multiple of the stride.
    stride : int
        Origins and sizes of windows are multiples of it, as the network's pooling demands.
    chunk : int
        Voxels along the axis that are compressed together, at most.

    Returns
    -------
    int
        ``n`` or a little more where all fits into a tile; else what makes blocks alike, as few as possible. More than
        a chunk is a multiple of 16, which can be divided into chunks of more than half of what they may have.

    Raises
    ------
    InputError
        The tile leaves no core.

    Examples
    --------
    >>> choose_block(100, 100, 1.0, 512, 96, 16)
    100
    >>> choose_block(1000, 1000, 1.0, 512, 96, 16)
    256
    """
    margin = 0 if ratio == 1 else stride
    check_tile(tile, halo, stride, margin)
    if round_up(n_grid, stride) <= tile:
        return _divisible(n, 1, chunk)
    beyond = 0 if ratio == 1 else math.ceil(ratio)  # of the grid, between its end and the first voxel's centre
    for count in range(1, n + 1):
        block = _divisible(-(-n // count), stride if ratio == 1 else 1, chunk)
        core = block if ratio == 1 else math.ceil((block - 1) * ratio) + 2
        at_end = min(halo, beyond) if -(-n // block) == 2 else halo  # the volume's ends need no halo
        if round_up(core + halo + at_end + margin, stride) <= tile:
            break
    return block


def _divisible(block: int, stride: int, chunk: int) -> int:
    """Return the smallest multiple that is not smaller, and that can be divided into chunks of one size."""
    block = round_up(block, stride)
    return block if block <= chunk else round_up(block, math.lcm(CHUNK_STEP, stride))


def check_tile(tile: int, halo: int, stride: int, margin: int = 0) -> None:
    """Refuse a tile that has no core between its halos, and a margin beside where one is needed.

    Raises
    ------
    InputError
        With the smallest that works.
    """
    if tile // stride * stride <= 2 * halo + margin:
        raise InputError(
            f"--tile {tile}: this model needs {halo} pixels around each tile; the smallest that works is "
            f"{2 * halo + margin + stride}, larger ones are faster"
        )


def round_up(n: int, stride: int) -> int:
    """Return the smallest multiple of the stride that is not smaller.

    Examples
    --------
    >>> round_up(33, 16)
    48
    """
    return -(-n // stride) * stride
