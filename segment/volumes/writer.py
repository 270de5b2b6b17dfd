"""What takes the slices of a new volume in their order, for each format's module to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import InputError

WriteSlices = Callable[[int, NDArray[Any]], None]


class VolumeWriter:
    """Takes the slices of a volume in their order.

    Parameters
    ----------
    path : Path
        For messages.
    shape : tuple of int
        (z, y, x) of the whole volume.
    dtype : numpy.dtype
    write : callable
        ``write(z, slab)`` writes slices from the index z on.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], write: WriteSlices) -> None:
        self._path, self._shape, self._dtype, self._write = path, shape, dtype, write
        self.n_slices = 0

    def append(self, slab: NDArray[Any]) -> None:
        """Write the next slices.

        Parameters
        ----------
        slab : ndarray, shape (n, y, x)
            Of the volume's dtype.

        Raises
        ------
        InputError
            The disk is full, or cannot be written to.
        RuntimeError
            These are more slices than the volume has, or of another size or type.
        """
        n_left = self._shape[0] - self.n_slices
        if slab.ndim != 3 or slab.shape[1:] != self._shape[1:] or len(slab) > n_left or slab.dtype != self._dtype:
            raise RuntimeError(
                f"{self._path}: expected at most {n_left} more slices of {self._shape[1:]} {self._dtype}, got "
                f"{slab.shape} {slab.dtype}"
            )
        with disk_refused(self._path):
            self._write(self.n_slices, slab)
        self.n_slices += len(slab)

    def check_complete(self) -> None:
        """Refuse a volume that lacks slices.

        Raises
        ------
        RuntimeError
            Fewer slices were appended than the volume has.
        """
        if self.n_slices != self._shape[0]:
            raise RuntimeError(f"{self._path}: expected {self._shape[0]} slices, got {self.n_slices}")


@contextmanager
def disk_refused(path: Path) -> Iterator[None]:
    """Turn a full disk, or one that cannot be written to, into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
