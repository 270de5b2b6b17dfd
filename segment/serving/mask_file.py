"""A file that marks where a volume is to be segmented, of the volume's shape or coarser."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.stored import Stored, damage_refused
from segment.volumes.volume import open_stored


class MaskFile:
    """Marks of a volume's voxels: a voxel is marked where the file holds anything but 0. Threads may share it.

    Parameters
    ----------
    stored : Stored
    shape : tuple of int
        Of the volume, (z, y, x): the file has the same, or one that is smaller by a whole number along each axis.

    Raises
    ------
    VolumeError
        It has another shape.
    """

    def __init__(self, stored: Stored, shape: tuple[int, int, int]) -> None:
        self._stored, self._lock = stored, threading.Lock()
        factors = [_find_factor(n, m) for n, m in zip(shape, stored.shape, strict=True)]
        self.factors = [factor for factor in factors if factor is not None]
        if len(self.factors) < len(factors):
            raise VolumeError(
                f"--mask {stored.path}: expected the volume's shape {shape}, (z, y, x), or one that is smaller by a "
                f"whole number along each axis, found {stored.shape}; check that the two belong together"
            )

    @classmethod
    def open(cls, path: str | PathLike[str], shape: tuple[int, int, int]) -> MaskFile:
        """Open a file of any format that `open_volume` reads, and of any type of number.

        Raises
        ------
        VolumeError
            It cannot be read, or has another shape.
        """
        stored = open_stored(path)
        try:
            return cls(stored, shape)
        except BaseException:
            stored.close()
            raise

    def __enter__(self) -> MaskFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stored.close()

    def read(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
        """Return which voxels of a box of the volume are marked.

        Parameters
        ----------
        spans : sequence of (int, int)
            Along (z, y, x), the first voxel, and one past the last.

        Raises
        ------
        VolumeError
            The file is damaged there.
        """
        taken = [
            np.minimum(np.arange(start, stop) // factor, n - 1)
            for (start, stop), factor, n in zip(spans, self.factors, self._stored.shape, strict=True)
        ]
        z, y, x = (slice(int(each[0]), int(each[-1]) + 1) for each in taken)
        with self._lock, damage_refused(self._stored.path, f"slices {z.start} to {z.stop - 1} cannot be read"):
            marked = self._stored.read((z, y, x)) != 0
        for axis, (each, part) in enumerate(zip(taken, (z, y, x), strict=True)):
            if self.factors[axis] > 1:
                marked = np.take(marked, each - part.start, axis=axis)
        return marked


def _find_factor(n: int, m: int) -> int | None:
    """Return how many voxels of a volume are one of a coarser one, whose last may have been cut off or filled up.

    Several may fit: the one that divides the side without remainder, else a power of 2, else the smallest.
    """
    if n % m == 0:
        return n // m
    fit = [factor for factor in range(1, n + 1) if m in (n // factor, -(-n // factor))]
    return next((factor for factor in fit if factor.bit_count() == 1), fit[0] if fit else None)
