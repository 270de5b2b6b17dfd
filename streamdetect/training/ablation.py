"""What a training needs: how many minutes of signal, which of its features, which members of its vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.decisions import Decisions
from streamdetect.errors import EventError
from streamdetect.scoring.evaluate import auc_by_event
from streamdetect.scoring.learning import Needs
from streamdetect.scoring.luck import verdicts
from streamdetect.scoring.metrics import Outcome
from streamdetect.training.feature_sets import ADAPTIVE
from streamdetect.training.folds import Fold
from streamdetect.training.trainer import Trainer, unconverged_allowed
from streamdetect.training.windows import LabelledWindows

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the training signal of each fold


def measure_needs(trainer: Trainer, label: Callable[[Trainer], Sequence[LabelledWindows]]) -> Needs:
    """Train again with a share of the signal, without each part of the features, and vote without each member.

    Parameters
    ----------
    trainer : Trainer
        The full training.
    label : callable
        Returns a trainer's windows of the training recordings.

    Returns
    -------
    Needs

    Notes
    -----
    All scores are on the folds of the full training, without decision rules. A share takes the first part of each
    fold's training signal, as a shorter session would have given it; one in which an event never or always goes on is
    left out. A member is left out of the vote, not of the training: the others do not depend on it.
    """
    windows = label(trainer)
    folds, _ = trainer.folds(windows)
    minutes, by_minutes = [], []
    with unconverged_allowed():
        for share in SHARES:
            shorter = [replace(fold, train=shorten(fold.train, share)) for fold in folds]
            try:
                outcomes = trainer.hold_out(windows, shorter)
            except EventError:
                continue
            minutes.append(_mean_minutes(trainer, windows, shorter))
            by_minutes.append(verdicts(outcomes, seed=trainer.settings.seed))
        rows = [(f"without {name}", auc_by_event(vote_without(outcomes, name))) for name in ("lda", "rf", "lr")]
        for name, rest in smaller_sets(trainer.settings.features):
            smaller = Trainer(trainer.ch_names, trainer.sfreq, replace(trainer.settings, features=rest))
            rest_windows = label(smaller)
            found = auc_by_event(smaller.hold_out(rest_windows, smaller.folds(rest_windows)[0]))
            rows.append((f"without {name}", found))
    return Needs(tuple(minutes), tuple(by_minutes), tuple(rows))


def smaller_sets(features: str) -> list[tuple[str, str]]:
    """Return each part of a feature set with the set that is left without it.

    Examples
    --------
    >>> smaller_sets("mrcp+erd+adaptive")
    [('mrcp', 'erd+adaptive'), ('erd', 'mrcp+adaptive'), ('adaptive', 'mrcp+erd')]
    >>> smaller_sets("power")
    []
    """
    parts = features.split("+")
    rests = [(part, [other for other in parts if other != part]) for part in parts]
    return [(part, "+".join(rest)) for part, rest in rests if rest and rest != [ADAPTIVE]]


def shorten(indices: Sequence[NDArray[np.int64]], share: float) -> tuple[NDArray[np.int64], ...]:
    """Return the first part of the windows of all recordings, one recording after the other.

    Examples
    --------
    >>> [part.tolist() for part in shorten([np.arange(4), np.arange(4)], 0.75)]
    [[0, 1, 2, 3], [0, 1]]
    """
    left = round(share * sum(map(len, indices)))
    kept = []
    for each in indices:
        kept.append(each[:left])
        left -= len(kept[-1])
    return tuple(kept)


def vote_without(outcomes: Sequence[Outcome], member: str) -> list[Outcome]:
    """Return the outcomes with the mean of the other members in place of the vote."""
    voted = []
    for outcome in outcomes:
        rest = [values for name, values in outcome.decisions.members.items() if name != member]
        decisions: Decisions = replace(outcome.decisions, probability=np.mean(rest, axis=0), detections=())
        voted.append(replace(outcome, decisions=decisions))
    return voted


def _mean_minutes(trainer: Trainer, windows: Sequence[LabelledWindows], folds: Sequence[Fold]) -> float:
    n_valid = [sum(int(one.valid[part].sum()) for one, part in zip(windows, fold.train, strict=True)) for fold in folds]
    return float(np.mean(n_valid)) * trainer.features.hop_samples / trainer.sfreq / 60
