"""Folds that share no signal: whole recordings, or consecutive blocks of the only one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from streamdetect.errors import EventError, InputError
from streamdetect.training.windows import LabelledWindows

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Fold:
    """Indices of the windows of each recording to train on and to test on; empty where there are none."""

    train: tuple[NDArray[np.int64], ...]
    test: tuple[NDArray[np.int64], ...]


def make_folds(windows: Sequence[LabelledWindows], n_folds: int, margin: int) -> tuple[list[Fold], str]:
    """Cut recordings into folds.

    Parameters
    ----------
    windows : sequence of LabelledWindows
        At least one recording.
    n_folds : int
        At most so many folds of whole recordings; exactly so many blocks of a single recording.
    margin : int
        Windows left out of training to each side of a test block.

    Returns
    -------
    folds : list of Fold
    grouped_by : str
        ``recording`` or ``block of one recording``.
    """
    n = len(windows)
    if n > 1:
        whole = [np.arange(len(one.features)) for one in windows]
        groups = np.unique([one.sha256 for one in windows], return_inverse=True)[1]  # a copy goes with its original
        n_groups = int(groups.max()) + 1
        if n_groups == 1:
            raise InputError(
                f"{', '.join(one.name for one in windows)}: the same file {n} times; give it once, or add others"
            )
        splits = GroupKFold(min(n_groups, n_folds)).split(np.arange(n), groups=groups)
        folds = [
            Fold(
                tuple(whole[i] if i in train else _NONE for i in range(n)),
                tuple(whole[i] if i in test else _NONE for i in range(n)),
            )
            for train, test in splits
        ]
        return folds, "recording"
    folds = []
    for train, test in KFold(n_folds).split(np.arange(len(windows[0].features))):
        apart = train[(train < test[0] - margin) | (train > test[-1] + margin)]
        folds.append(Fold((apart,), (test,)))
    return folds, "block of one recording"


def take(windows: Sequence[LabelledWindows], keep: Sequence[NDArray[np.int64]]) -> list[LabelledWindows]:
    """Return the kept windows of each recording, without the recordings of which none is kept."""
    return [one.take(indices) for one, indices in zip(windows, keep, strict=True) if len(indices)]


def check_classes(labels: NDArray[np.bool_], event_names: Sequence[str], where: str) -> None:
    """Refuse windows in which an event is always or never going on.

    Parameters
    ----------
    labels : ndarray of bool, shape (n, n_events)
        Labels to be trained on.
    event_names : sequence of str
        Names of the events.
    where : str
        What the windows are of, for the message.

    Raises
    ------
    EventError
        An event has one class only.
    """
    for name, column in zip(event_names, labels.T, strict=True):
        n_positive = int(column.sum())
        if n_positive in (0, len(column)):
            how = "never" if n_positive == 0 else "always"
            raise EventError(
                f"event {name}: {how} going on in the {len(column)} windows of {where}; training needs windows "
                "with and without it in every fold: give more recordings that hold both"
            )
