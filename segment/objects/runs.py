"""Runs: neighbours along x with the same number, of which a label volume has far fewer than voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
NOWHERE = int(np.iinfo(np.int64).max)


class Runs(NamedTuple):
    """Runs in the order of their first voxels.

    Parameters
    ----------
    values : ndarray of unsigned integers, shape (n,)
    z, y, x : ndarray of int64, shape (n,)
        Where they begin.
    lengths : ndarray of int64, shape (n,)
        In voxels.
    """

    values: NDArray[np.unsignedinteger[Any]]
    z: Integers
    y: Integers
    x: Integers
    lengths: Integers


def find_runs(labels: NDArray[np.unsignedinteger[Any]]) -> Runs:
    """Return the runs of a label volume, those of the background left out.

    Examples
    --------
    >>> import numpy as np
    >>> runs = find_runs(np.array([[[0, 7, 7, 2], [2, 0, 0, 0]]], np.uint32))
    >>> [part.tolist() for part in runs]
    [[7, 2, 2], [0, 0, 0], [0, 0, 1], [1, 3, 0], [2, 1, 1]]
    """
    is_start = np.ones(labels.shape, bool)
    np.not_equal(labels[..., 1:], labels[..., :-1], out=is_start[..., 1:])
    starts = np.flatnonzero(is_start)
    values = labels.reshape(-1)[starts]
    lengths = np.diff(starts, append=labels.size)
    is_object = values > 0
    starts = starts[is_object]
    _, height, width = labels.shape
    rows, x = np.divmod(starts, max(width, 1))
    z, y = np.divmod(rows, max(height, 1))
    return Runs(values[is_object], z, y, x, lengths[is_object])


def bound_runs(runs: Runs, rows: NDArray[np.intp], n_objects: int, origin: Sequence[int]) -> Integers:
    """Return the bounding box of each object.

    Parameters
    ----------
    runs : Runs
    rows : ndarray of int, shape (n,)
        Which object each run is part of, 0 to n_objects - 1.
    n_objects : int
    origin : sequence of int
        Where the label volume lies in a larger one, (z, y, x).

    Returns
    -------
    ndarray of int64, shape (n_objects, 6)
        Starts along z, y, x, then stops, in the larger one.
    """
    boxes = no_boxes(n_objects)
    stops = (runs.z + 1, runs.y + 1, runs.x + runs.lengths)
    for axis, (start, stop) in enumerate(zip(runs[1:4], stops, strict=True)):
        np.minimum.at(boxes[:, axis], rows, start + origin[axis])
        np.maximum.at(boxes[:, axis + 3], rows, stop + origin[axis])
    return boxes


def no_boxes(n_objects: int) -> Integers:
    """Return boxes that hold nothing, as a start for the lowest and the highest."""
    boxes = np.zeros((n_objects, 6), np.int64)
    boxes[:, :3] = NOWHERE
    return boxes


def join_boxes(boxes: Integers, rows: NDArray[np.integer[Any]], others: Integers) -> None:
    """Widen boxes, in place, to hold others: box ``rows[i]`` to hold ``others[i]``."""
    np.minimum.at(boxes[:, :3], rows, others[:, :3])
    np.maximum.at(boxes[:, 3:], rows, others[:, 3:])
