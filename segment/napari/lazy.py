"""A file's voxels as napari slices them: an array that is read where it is looked at."""

from __future__ import annotations

import math
import operator
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.intensity import Voxels

Index = int | slice | EllipsisType


class LazyArray:
    """A volume that takes indices as NumPy does, and reads no more than the box that they span.

    Parameters
    ----------
    source : Voxels
        Takes slices with step 1, as a `segment.volumes.Volume`.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x).
    dtype : numpy.dtype
    ndim, size : int

    Examples
    --------
    >>> values = np.arange(24).reshape(2, 3, 4)
    >>> LazyArray(values)[1, ..., ::-2]
    array([[15, 13],
           [19, 17],
           [23, 21]])
    """

    def __init__(self, source: Voxels) -> None:
        self._source = source
        self.shape, self.dtype = tuple(source.shape), source.dtype
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> NDArray[Any]:
        """Return a part as a new array.

        Raises
        ------
        IndexError
            An index lies outside, or there are too many.
        """
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis not in parts:
            parts.append(Ellipsis)
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (self.ndim + 1 - len(parts))
        if len(parts) != self.ndim:
            raise IndexError(f"expected at most {self.ndim} indices, found {key}")
        box, rest = zip(*(_span(part, n) for part, n in zip(parts, self.shape, strict=True)), strict=True)
        return self._source[box][rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return np.asarray(self[...], dtype)

    def __repr__(self) -> str:
        return f"<LazyArray {self.shape} {self.dtype}>"


def _span(part: Any, n: int) -> tuple[slice, int | slice]:
    """Return the voxels that an index of an axis spans, and the index among them."""
    if isinstance(part, slice):
        chosen = range(n)[part]
        if not chosen:
            return slice(0, 0), slice(None)
        return slice(min(chosen), max(chosen) + 1), slice(None, None, chosen.step)
    index = range(n)[operator.index(part)]
    return slice(index, index + 1), 0
