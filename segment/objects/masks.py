"""Masks, probabilities and numbered objects out of files: as stored, a slab at a time, their values checked."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.intensity import Voxels, name_volume
from segment.volumes.stored import damage_refused
from segment.volumes.volume import open_stored
from segment.volumes.voxel_size import VoxelSize

ADVICE = "give a mask, such as  segment predict  writes"
SLAB_VOXELS = 2**24  # read at a time, and one slice at least

_MASK_VALUES = (1, 255)  # of the foreground; the background is 0


class Numbers:
    """Numbers of a file, of any type and as they are stored, read as they are sliced.

    A `segment.volumes.Volume` holds grey values: it refuses 32 bits, and moves signed numbers to make them unsigned.
    Threads may share it; another process that it is sent to opens the file once.

    Parameters
    ----------
    path : path
        Of any format that `segment.volumes.open_volume` reads.
    voxel_nm : tuple of float, optional
        Size in nm, (z, y, x), in place of what the file says.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x).
    dtype : numpy.dtype
    voxel_nm : tuple of float or None
    path : Path

    Raises
    ------
    VolumeError
        The file cannot be read.
    """

    def __init__(self, path: str | PathLike[str], voxel_nm: VoxelSize | None = None) -> None:
        self._stored = stored = open_stored(path)
        self.shape, self.dtype, self.path = stored.shape, stored.dtype, stored.path
        self.voxel_nm = voxel_nm or stored.voxel_nm
        self._lock = threading.Lock()
        self._source = (os.path.abspath(path), voxel_nm, uuid4().hex)

    def __getitem__(self, key: slice | tuple[slice, ...], /) -> NDArray[Any]:
        """Return a box as a new array, shape (z, y, x); the key as for a `Volume`."""
        parts = key if isinstance(key, tuple) else (key,)
        bounds = [part.indices(n)[:2] for part, n in zip((*parts, *[slice(None)] * 3)[:3], self.shape, strict=True)]
        z, y, x = (slice(start, max(start, stop)) for start, stop in bounds)
        with self._lock, damage_refused(self.path, f"slices {z.start} to {z.stop - 1} cannot be read"):
            return self._stored.read((z, y, x))

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, self._source

    def close(self) -> None:
        """Close the file."""
        self._stored.close()


@lru_cache(maxsize=2)
def _open_again(path: str, voxel_nm: VoxelSize | None, _opened: str) -> Numbers:
    """Open a file for all that is sent to this process about it, until it is opened anew where it is sent from."""
    return Numbers(path, voxel_nm)


@contextmanager
def open_numbers(path: str | PathLike[str], *, voxel_nm: VoxelSize | None = None) -> Iterator[Numbers]:
    """Open a mask, probabilities or numbered objects, and close it when the block ends.

    Parameters
    ----------
    path, voxel_nm
        As for `Numbers`.
    """
    numbers = Numbers(path, voxel_nm)
    try:
        yield numbers
    finally:
        numbers.close()


def mask_slabs(
    volume: Voxels,
    first: int = 0,
    stop: int | None = None,
    *,
    threshold: float | None = None,
    advice: str = ADVICE,
) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Read a mask in slabs along z, or make one of probabilities.

    Parameters
    ----------
    volume : Numbers or ndarray, shape (z, y, x)
        A mask: 0 and 255, or 0 and 1. Probabilities where a threshold is given: uint8 or uint16, whose highest value
        stands for 1, or floats from 0 to 1.
    first, stop : int
        The slices to read, `stop` not among them; all by default.
    threshold : float, optional
        Probability at or above which a voxel is foreground, 0 to 1.
    advice : str
        What the message should say to do about a volume that is no mask.

    Yields
    ------
    where : slice
        Along z, in the volume.
    mask : ndarray of bool, shape (n, y, x)

    Raises
    ------
    VolumeError
        The volume holds other values, or is a mask although a threshold is given.
    """
    highest: float = 0
    n_slices, *plane = volume.shape
    stop = n_slices if stop is None else stop
    thickness = max(1, SLAB_VOXELS // max(1, math.prod(plane)))
    for start in range(first, stop, thickness):
        where = slice(start, min(start + thickness, stop))
        slab = volume[where]
        if threshold is None:
            mask, highest = to_mask(volume, slab, highest=highest, advice=advice)
        else:
            mask = slab >= _lowest_foreground(volume, slab, threshold)
            highest = max(highest, slab.max(initial=0))
        yield where, mask
    if threshold is not None and highest == 1 and volume.dtype.kind == "u":
        raise VolumeError(
            f"{name_volume(volume)}: expected probabilities, found only 0 and 1, a mask: leave the threshold out"
        )


def read_mask(
    volume: Voxels, first: int = 0, stop: int | None = None, *, threshold: float | None = None, advice: str = ADVICE
) -> NDArray[np.bool_]:
    """Read a mask into memory.

    Parameters
    ----------
    volume, first, stop, threshold, advice
        As for `mask_slabs`.

    Returns
    -------
    ndarray of bool, shape (stop - first, y, x)
        It may hold no foreground.

    Raises
    ------
    VolumeError
        As `mask_slabs`.

    Examples
    --------
    >>> import numpy as np
    >>> read_mask(np.array([[[0, 255]]], np.uint8))
    array([[[False,  True]]])
    """
    stop = volume.shape[0] if stop is None else stop
    mask = np.zeros((max(0, stop - first), *volume.shape[1:]), bool)
    for where, slab in mask_slabs(volume, first, stop, threshold=threshold, advice=advice):
        mask[where.start - first : where.stop - first] = slab
    return mask


def to_mask(
    volume: Voxels, values: NDArray[Any], *, highest: float = 0, advice: str = ADVICE
) -> tuple[NDArray[np.bool_], float]:
    """Make a mask of some values of a volume.

    Parameters
    ----------
    volume : Numbers or ndarray
        Where they are from, for the message.
    values : ndarray, shape (z, y, x)
        0 and 255, or 0 and 1.
    highest : float
        What stands for foreground in values seen before; 0 where there was none.
    advice : str
        As for `mask_slabs`.

    Returns
    -------
    mask : ndarray of bool, shape (z, y, x)
    highest : float
        What stands for foreground, as far as is known.

    Raises
    ------
    VolumeError
        The values are others.
    """
    mask = values != 0
    top = values.max(initial=0)
    if top not in (0, *_MASK_VALUES) or (highest not in (0, top) and top > 0) or (values[mask] != top).any():
        raise VolumeError(_describe_values(volume, values, highest, advice))
    return mask, max(highest, top)


def to_numbers(volume: Voxels, values: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Return some values of a volume as numbers of objects, without a copy.

    Parameters
    ----------
    volume : Numbers or ndarray
        Where they are from, for the message.
    values : ndarray of integers
        Each object has its own number, the background is 0.

    Raises
    ------
    VolumeError
        They are no integers, or negative ones.
    """
    if values.dtype.kind not in "uib" or values.min(initial=0) < 0:
        found = "negative numbers" if values.dtype.kind == "i" else str(values.dtype)
        raise VolumeError(
            f"{name_volume(volume)}: expected objects numbered from 1, the background 0, found {found}: run  segment "
            "instances  on a mask, which numbers the objects"
        )
    return values.view(f"u{values.dtype.itemsize}")


def refuse_mask(volume: Voxels, known: NDArray[np.unsignedinteger[Any]]) -> None:
    """Refuse a mask in place of numbered objects: 8 or 16 bits, with a single number, which is 1 or 255.

    Parameters
    ----------
    volume : Numbers or ndarray
    known : ndarray, shape (n,)
        The numbers in it, without 0.

    Raises
    ------
    VolumeError
        It is one.
    """
    if volume.dtype.itemsize <= 2 and len(known) == 1 and known[0] in _MASK_VALUES:
        raise VolumeError(
            f"{name_volume(volume)}: expected numbered objects, found only 0 and {known[0]}, a mask: run  segment "
            "instances  first, which numbers the objects"
        )


def _describe_values(volume: Voxels, slab: NDArray, highest: float, advice: str) -> str:
    found = sorted({0.0, float(highest), *np.unique(slab).astype(float).tolist()})
    shown = ", ".join(f"{value:g}" for value in found[:4]) + (", …" if len(found) > 4 else "")
    return f"{name_volume(volume)}: expected a mask, 0 and 255 (or 0 and 1), found {shown}: {advice}"


def _lowest_foreground(volume: Voxels, slab: NDArray, threshold: float) -> float:
    """Return the lowest stored value whose probability reaches a threshold."""
    if slab.dtype in (np.uint8, np.uint16):
        # 0.07 * 65535 is 4587.450000000001: rounded, a value that reaches the threshold is not lost to its last digit.
        return math.ceil(round(threshold * np.iinfo(slab.dtype).max, 6))
    if slab.dtype.kind == "f" and slab.min(initial=0) >= 0 and slab.max(initial=0) <= 1:
        return threshold
    found = str(slab.dtype)
    if slab.dtype.kind == "f":
        found = "NaN" if np.isnan(slab).any() else f"{found} beyond 0 to 1"
    raise VolumeError(
        f"{name_volume(volume)}: expected probabilities as uint8 (0 to 255), uint16 (0 to 65535) or floats from 0 to "
        f"1, found {found}: give what  segment predict --probabilities  writes"
    )
