"""Scores of a segmentation against the truth: voxel by voxel, and object by object.

Voxels are counted slab by slab, so that neither volume has to fit in memory; objects are matched from the sizes of
their overlaps, of which there are few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError

IOU_THRESHOLDS = (0.5, 0.75)


@dataclass(frozen=True, slots=True)
class VoxelCounts:
    """How often prediction and truth agree, voxel by voxel; counts of parts add up.

    Parameters
    ----------
    tp : int
        Voxels that are foreground in both.
    fp : int
        In the prediction only.
    fn : int
        In the truth only.
    tn : int
        In neither.

    Examples
    --------
    >>> counts = VoxelCounts(tp=6, fp=2, fn=1, tn=91)
    >>> counts.n_voxels, counts.iou, counts.dice, counts.precision, round(counts.recall, 3)
    (100, 0.6666666666666666, 0.8, 0.75, 0.857)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        """Return the counts of both parts together."""
        return VoxelCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def n_voxels(self) -> int:
        """How many voxels were compared."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def iou(self) -> float | None:
        """Intersection over union of the foreground (Jaccard), 0 to 1; None where both are empty."""
        return _divide(self.tp, self.tp + self.fp + self.fn)

    @property
    def dice(self) -> float | None:
        """Dice coefficient of the foreground (F1 of voxels), 0 to 1; None where both are empty."""
        return _divide(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Part of the predicted foreground that is true; None where nothing is predicted."""
        return _divide(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Part of the true foreground that is predicted; None where there is none."""
        return _divide(self.tp, self.tp + self.fn)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return scores and counts under the names of the JSON that ``segment evaluate`` writes."""
        names = ("iou", "dice", "precision", "recall", "n_voxels", "tp", "fp", "fn", "tn")
        return {name: getattr(self, name) for name in names}


def count_voxels(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> VoxelCounts:
    """Compare a prediction with the truth, voxel by voxel.

    Parameters
    ----------
    predicted, true : ndarray of bool, the same shape
        The foreground; a whole volume, or a slab of it.

    Returns
    -------
    VoxelCounts

    Raises
    ------
    InputError
        The shapes differ, or the arrays are not boolean.

    Examples
    --------
    >>> import numpy as np
    >>> count_voxels(np.array([True, True, False, False]), np.array([True, False, True, False]))
    VoxelCounts(tp=1, fp=1, fn=1, tn=1)
    """
    if predicted.shape != true.shape:
        raise InputError(f"prediction and truth must have the same shape, found {predicted.shape} and {true.shape}")
    if predicted.dtype != np.bool_ or true.dtype != np.bool_:
        raise InputError(f"prediction and truth must be boolean, found {predicted.dtype} and {true.dtype}")
    tp = int(np.count_nonzero(predicted & true))
    n_predicted, n_true = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    return VoxelCounts(tp, n_predicted - tp, n_true - tp, predicted.size - n_predicted - n_true + tp)


def count_slabs(pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> VoxelCounts:
    """Compare a prediction with the truth, slab by slab.

    Parameters
    ----------
    pairs : iterable of (ndarray of bool, ndarray of bool)
        Slabs of the prediction and of the truth; only one pair is needed at a time.

    Returns
    -------
    VoxelCounts
        Of all of them together.

    Raises
    ------
    InputError
        As `count_voxels`.
    """
    total = VoxelCounts()
    for predicted, true in pairs:
        total += count_voxels(predicted, true)
    return total


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The objects of a prediction and of the truth, and the pairs of them that overlap.

    Parameters
    ----------
    n_predicted, n_true : int
        How many objects there are.
    iou : ndarray of float64, shape (n_pairs,)
        Intersection over union of each predicted and true object that share a voxel.
    predicted, true : ndarray, shape (n_pairs,)
        Their labels.
    """

    n_predicted: int
    n_true: int
    iou: NDArray[np.float64]
    predicted: NDArray[np.unsignedinteger[Any]]
    true: NDArray[np.unsignedinteger[Any]]


def find_overlaps(predicted: NDArray[np.unsignedinteger[Any]], true: NDArray[np.unsignedinteger[Any]]) -> Overlaps:
    """Find out which predicted and true objects overlap, and how much.

    Parameters
    ----------
    predicted, true : ndarray of unsigned integers, the same shape (z, y, x)
        Each object has its own number, the background is 0.

    Returns
    -------
    Overlaps
        Pairs in the order of the true and then the predicted labels.

    Raises
    ------
    InputError
        The shapes differ.

    Notes
    -----
    The table of all objects against all objects is never made: only pairs that occur are counted, slice by slice.
    """
    if predicted.shape != true.shape:
        raise InputError(f"prediction and truth must have the same shape, found {predicted.shape} and {true.shape}")
    n_predicted: Counter[int] = Counter()
    n_true: Counter[int] = Counter()
    n_shared: Counter[tuple[int, int]] = Counter()
    for plane, true_plane in zip(predicted, true, strict=True):
        _count_labels(plane[plane > 0], n_predicted)
        _count_labels(true_plane[true_plane > 0], n_true)
        both = (plane > 0) & (true_plane > 0)
        numbers, index = np.unique(plane[both], return_inverse=True)
        true_numbers, true_index = np.unique(true_plane[both], return_inverse=True)
        codes, counts = np.unique(true_index * len(numbers) + index, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            row, column = divmod(code, len(numbers))
            n_shared[int(true_numbers[row]), int(numbers[column])] += count
    pairs = sorted(n_shared)
    shared = np.array([n_shared[pair] for pair in pairs], dtype=np.float64)
    union = np.array([n_true[one] + n_predicted[other] for one, other in pairs], dtype=np.float64) - shared
    return Overlaps(
        len(n_predicted),
        len(n_true),
        shared / union,
        np.array([other for _, other in pairs], dtype=predicted.dtype),
        np.array([one for one, _ in pairs], dtype=true.dtype),
    )


def score_objects(
    predicted: NDArray[np.unsignedinteger[Any]],
    true: NDArray[np.unsignedinteger[Any]],
    thresholds: Iterable[float] = IOU_THRESHOLDS,
) -> dict[str, float | int | None]:
    """Score objects: a predicted object is right where it and a true one overlap by more than a threshold.

    Parameters
    ----------
    predicted, true : ndarray of unsigned integers, the same shape (z, y, x)
        Each object has its own number, the background is 0.
    thresholds : iterable of float
        Intersection over union (IoU) that a match must exceed; 0.5 or more, below 1.

    Returns
    -------
    dict
        ``n_predicted`` and ``n_true``; and for each threshold, in percent, such as 50: ``n_matched_50``, ``f1_50``,
        ``precision_50`` and ``recall_50``, None where undefined.

    Raises
    ------
    InputError
        The shapes differ, or a threshold is below 0.5 or not below 1.

    Notes
    -----
    Above an IoU of 0.5 no object matches two others, because both would hold more than half of it: the matching is one
    to one without any choice. F1 = 2 matched / (predicted + true). An object that is split or merged counts as wrong.

    References
    ----------
    J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods
    16, 1247-1253, 2019: F1 of objects at thresholds of the IoU.

    Examples
    --------
    >>> import numpy as np
    >>> true = np.array([[[1, 1, 1, 1, 0, 2, 2]]], np.uint32)
    >>> predicted = np.array([[[1, 1, 1, 0, 0, 0, 2]]], np.uint32)
    >>> scores = score_objects(predicted, true)
    >>> scores["n_matched_50"], scores["f1_50"], scores["f1_75"]
    (1, 0.5, 0.0)
    """
    thresholds = tuple(thresholds)
    if not all(0.5 <= threshold < 1 for threshold in thresholds):
        raise InputError(f"thresholds of the IoU must be 0.5 or more and below 1, found {thresholds}")
    overlaps = find_overlaps(predicted, true)
    scores: dict[str, float | int | None] = {"n_predicted": overlaps.n_predicted, "n_true": overlaps.n_true}
    for threshold in thresholds:
        percent = f"{100 * threshold:g}"
        n_matched = int(np.count_nonzero(overlaps.iou > threshold))
        scores[f"n_matched_{percent}"] = n_matched
        scores[f"f1_{percent}"] = _divide(2 * n_matched, overlaps.n_predicted + overlaps.n_true)
        scores[f"precision_{percent}"] = _divide(n_matched, overlaps.n_predicted)
        scores[f"recall_{percent}"] = _divide(n_matched, overlaps.n_true)
    return scores


def _count_labels(labels: NDArray, counted: Counter[int]) -> None:
    numbers, counts = np.unique(labels, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        counted[number] += count


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None
