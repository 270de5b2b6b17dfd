"""What is marked in a volume: foreground or not."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.stored import Stored, damage_refused
from segment.volumes.volume import open_stored

MARKS = (1, 255)  # either is foreground; not both in one file
_SLAB_BYTES = 2**25  # read at a time
_N_LISTED = 6  # of the values in a message


def read_labels(
    path: str | PathLike[str], *, shape: tuple[int, ...] | None = None, of: str | PathLike[str] = "the image"
) -> NDArray[np.bool_]:
    """Read binary labels.

    Parameters
    ----------
    path : path
        Of any format that `open_volume` reads, and of any type of number.
    shape : tuple of int, optional
        (z, y, x) that they must have.
    of : path, optional
        What has that shape, for the message.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        True in the foreground, where the file holds 1 or 255.

    Raises
    ------
    VolumeError
        The file cannot be read; it has another shape; it holds other values than 0 and 1, or 0 and 255; it has no
        foreground.
    """
    stored = open_stored(path)
    try:
        if shape is not None and stored.shape != tuple(shape):
            raise VolumeError(
                f"{stored.path}: expected labels of the shape of {of}, {tuple(shape)}, (z, y, x), found "
                f"{stored.shape}; check that the two belong together"
            )
        return _read_foreground(stored)
    finally:
        stored.close()


def _read_foreground(stored: Stored) -> NDArray[np.bool_]:
    n_slices, height, width = stored.shape
    plane_bytes = height * width * stored.dtype.itemsize
    step = max(1, _SLAB_BYTES // plane_bytes // stored.depth) * stored.depth
    labels = np.empty(stored.shape, np.bool_)
    marks: set[int] = set()
    for start in range(0, n_slices, step):
        stop = min(start + step, n_slices)
        with damage_refused(stored.path, f"slices {start} to {stop - 1} cannot be read"):
            values = stored.read((slice(start, stop), slice(0, height), slice(0, width)))
        np.not_equal(values, 0, out=labels[start:stop])
        n_marked = {mark: np.count_nonzero(values == mark) for mark in MARKS}
        marks |= {mark for mark, n in n_marked.items() if n}
        if len(marks) > 1 or sum(n_marked.values()) != np.count_nonzero(labels[start:stop]):
            raise VolumeError(
                f"{stored.path}: expected labels of 0 and 1, or of 0 and 255, found {_list_values(values, marks)} in "
                f"slices {start} to {stop - 1}; save a mask in which what is marked is 255, in Fiji with Image > "
                "Adjust > Threshold"
            )
    if not labels.any():
        raise VolumeError(
            f"{stored.path}: nothing is marked in the labels, they are 0 everywhere; check that it is the right file"
        )
    return labels


def _list_values(values: NDArray[Any], seen: set[int]) -> str:
    """Return the values in a slab and those seen before it, the first few."""
    found = np.unique(np.concatenate([np.unique(values).astype(float), [*seen]]))
    return ", ".join(f"{value:g}" for value in found[:_N_LISTED]) + (", …" if len(found) > _N_LISTED else "")
