"""From a volume's voxels to the model's and back, with coordinates of the whole volume, so that no block shows.

Both grids start at the same corner: the centre of voxel ``i`` of size ``s`` lies at ``(i + 1/2) * s``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.intensity import Voxels, name_volume

MAX_AT_ONCE = 2**22  # voxels of either grid that are resampled at a time; temporary arrays stay small

Shape = tuple[int, int, int]
Ratios = tuple[float, float, float]  # voxels of the model's grid in one of the volume's, along (z, y, x)


@dataclass(frozen=True, eq=False)
class Taps:
    """Which voxels, and how much of each, make a voxel of another grid along one axis.

    Parameters
    ----------
    indices : ndarray of int, shape (n, n_taps)
    weights : ndarray of float32, shape (n, n_taps)
        They add up to 1.
    """

    indices: NDArray[np.intp]
    weights: NDArray[np.float32]

    @property
    def n_both(self) -> int:
        """The larger of the numbers of voxels on either grid."""
        first, last = self.extent
        return max(last - first, len(self.indices))

    def part(self, first: int, last: int) -> Taps:
        """Return those of some consecutive voxels."""
        return Taps(self.indices[first:last], self.weights[first:last])

    @property
    def extent(self) -> tuple[int, int]:
        """The first voxel that is needed, and one past the last."""
        return int(self.indices.min()), int(self.indices.max()) + 1


class Resampled:
    """A volume on the model's grid, computed as it is sliced.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
    ratios : tuple of float
        Voxels of the model's grid in one of the volume's, along each axis; 1 leaves an axis as it is.
    """

    def __init__(self, volume: Voxels, ratios: Ratios) -> None:
        self._volume, self._ratios = volume, ratios
        self.shape = resampled_shape(volume.shape, ratios)
        self.dtype: np.dtype[Any] = volume.dtype if volume.dtype.kind in "ui" else np.dtype(np.float32)
        self.path = name_volume(volume)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Return a box, integers rounded to integers, else as float32. Each slice needs its start and its stop."""
        taps = [
            taps_forward(one.start, one.stop, ratio, n)
            for one, ratio, n in zip(key, self._ratios, self._volume.shape, strict=True)
        ]
        rows, columns = (slice(*one.extent) for one in taps[1:])
        result = np.empty([one.stop - one.start for one in key], self.dtype)
        for first, last in _split(len(taps[0].indices), taps[1].n_both * taps[2].n_both):
            slices = taps[0].part(first, last)
            values = self._volume[slice(*slices.extent), rows, columns]
            values = apply_taps(values, slices, 0, slices.extent[0])
            values = apply_taps(apply_taps(values, taps[1], 1, rows.start), taps[2], 2, columns.start)
            result[first:last] = np.rint(values, out=values) if self.dtype.kind in "ui" else values
        return result


def resample_back(
    values: NDArray[np.float32], firsts: Sequence[int], spans: Sequence[tuple[int, int]], ratios: Ratios, shape: Shape
) -> NDArray[np.float32]:
    """Interpolate a box of the model's grid at the voxels of a box of the volume.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        A box of the model's grid that reaches a voxel beyond the volume's box, or to the end of the grid.
    firsts : sequence of int
        Where it begins, on the model's grid.
    spans : sequence of (int, int)
        The box of the volume: along each axis the first voxel, and one past the last.
    ratios : tuple of float
        Voxels of the model's grid in one of the volume's.
    shape : tuple of int
        Of the whole grid.

    Returns
    -------
    ndarray of float32, shape of the box of the volume
    """
    taps = [taps_back(*span, ratio, n) for span, ratio, n in zip(spans, ratios, shape, strict=True)]
    result = np.empty([stop - start for start, stop in spans], np.float32)
    for first, last in _split(len(result), taps[1].n_both * taps[2].n_both):
        part = apply_taps(values, taps[0].part(first, last), 0, firsts[0])
        part = apply_taps(part, taps[1], 1, firsts[1])
        result[first:last] = apply_taps(part, taps[2], 2, firsts[2])
    return result


def resampled_shape(shape: tuple[int, ...], ratios: Ratios) -> Shape:
    """Return the shape of a volume on the model's grid.

    Examples
    --------
    >>> resampled_shape((10, 100, 100), (8.0, 1.0, 0.5))
    (80, 100, 50)
    """
    z, y, x = (max(1, round(n * ratio)) for n, ratio in zip(shape, ratios, strict=True))
    return z, y, x


def taps_forward(start: int, stop: int, ratio: float, n: int) -> Taps:
    """Return how voxels of the model's grid come from the volume's.

    Parameters
    ----------
    start, stop : int
        Voxels of the model's grid: the first, and one past the last.
    ratio : float
        Voxels of the model's grid in one of the volume's.
    n : int
        Voxels of the volume.

    Returns
    -------
    Taps
        Linear interpolation onto a finer grid; onto a coarser one the mean over the space that a voxel takes, which
        lets nothing alias.

    Examples
    --------
    >>> taps_forward(0, 2, 0.5, 4).weights.tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]
    """
    if ratio >= 1:
        return _linear((np.arange(start, stop) + 0.5) / ratio - 0.5, n)
    low, high = np.arange(start, stop) / ratio, np.arange(start + 1, stop + 1) / ratio
    first = np.floor(low).astype(np.intp)
    n_taps = int(np.ceil(1 / ratio)) + 1
    indices = first[:, None] + np.arange(n_taps)
    weights = np.minimum(high[:, None], indices + 1) - np.maximum(low[:, None], indices)
    weights = np.where(indices < n, np.clip(weights, 0, None), 0)
    empty = weights.sum(axis=1) <= 0  # the last voxel, where rounding up the shape put it beyond the volume
    weights[empty, 0] = 1
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(np.minimum(indices, n - 1), weights.astype(np.float32))


def taps_back(start: int, stop: int, ratio: float, n: int) -> Taps:
    """Return how voxels of the volume's grid come from the model's, by linear interpolation.

    Parameters
    ----------
    start, stop : int
        Voxels of the volume: the first, and one past the last.
    ratio : float
        Voxels of the model's grid in one of the volume's.
    n : int
        Voxels of the model's grid.

    Returns
    -------
    Taps

    Examples
    --------
    >>> taps_back(0, 4, 0.5, 2).weights.tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0]]
    """
    if ratio == 1:
        return Taps(np.arange(start, stop)[:, None], np.ones((stop - start, 1), np.float32))
    return _linear((np.arange(start, stop) + 0.5) * ratio - 0.5, n)


def apply_taps(values: NDArray[Any], taps: Taps, axis: int, first: int) -> NDArray[np.float32]:
    """Resample an array along one axis.

    Parameters
    ----------
    values : ndarray
        Of a real type; along the axis, from voxel ``first`` of the grid that the taps count in.
    taps : Taps
    axis : int
    first : int

    Returns
    -------
    ndarray of float32
        Each value depends on its own taps alone, to the last bit.
    """
    shape = [1] * values.ndim
    shape[axis] = -1
    total: NDArray[np.float32] | None = None
    for indices, weights in zip(taps.indices.T - first, taps.weights.T, strict=True):
        part = np.take(values, indices, axis=axis).astype(np.float32, copy=False)
        part *= weights.reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None  # a grid is made of one tap at least
    return total


def grid_span(start: int, stop: int, ratio: float, n: int) -> tuple[int, int]:
    """Return which voxels of the model's grid `taps_back` needs.

    Parameters
    ----------
    start, stop : int
        Voxels of the volume's grid: the first, and one past the last.
    ratio : float
        Voxels of the model's grid in one of the volume's.
    n : int
        Voxels of the model's grid.

    Returns
    -------
    first, last : int
        The first, and one past the last; where the ratio is 1, exactly those of the volume.

    Examples
    --------
    >>> grid_span(2, 4, 0.5, 10), grid_span(2, 4, 2.0, 10), grid_span(2, 4, 1.0, 10)
    ((0, 3), (4, 8), (2, 4))
    """
    return taps_back(start, stop, ratio, n).extent


def _split(n: int, area: int) -> Iterator[tuple[int, int]]:
    """Yield runs of slices of an area: the first of each, and one past the last."""
    step = max(1, MAX_AT_ONCE // area)
    for first in range(0, n, step):
        yield first, min(first + step, n)


def _linear(at: NDArray[np.floating[Any]], n: int) -> Taps:
    """Interpolate at coordinates; beyond the ends the end voxel repeats."""
    at = np.clip(at, 0, n - 1)
    first = np.floor(at).astype(np.intp)
    part = (at - first).astype(np.float32)
    indices = np.stack([first, np.minimum(first + 1, n - 1)], axis=1)
    return Taps(indices, np.stack([1 - part, part], axis=1))
