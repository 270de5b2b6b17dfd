"""How the Zarr arrays that are written are divided."""

from __future__ import annotations

CHUNK = (16, 256, 256)  # voxels along (z, y, x) that are compressed together, at most
CHUNK_STEP = 16  # a side that is a multiple of it has a divisor of more than half of what a chunk may have


def largest_divisor(n: int, most: int) -> int:
    """Return the largest divisor that is not larger than a limit.

    Examples
    --------
    >>> largest_divisor(832, 256)
    208
    """
    return next(size for size in range(min(n, most), 0, -1) if n % size == 0)
