"""Which features to take: what `--features auto` does, inside the training recordings only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import InputError
from streamdetect.scoring.metrics import area_under_roc
from streamdetect.training.ensemble import make_ensemble, positive_probability
from streamdetect.training.feature_sets import CANDIDATES
from streamdetect.training.trainer import Trainer, TrainingSettings
from streamdetect.training.windows import LabelledWindows

AUTO = "auto"


def make_trainers(ch_names: tuple[str, ...], sfreq: float, settings: TrainingSettings) -> list[Trainer]:
    """Return a trainer of the features asked for, or for ``auto`` one of each candidate that the recordings allow.

    Parameters
    ----------
    ch_names : tuple of str
        Channels to take.
    sfreq : float
        Sampling rate in Hz.
    settings : TrainingSettings

    Returns
    -------
    list of Trainer

    Raises
    ------
    InputError
        No feature set has the name asked for, or none suits the channels and the sampling rate.
    """
    if settings.features != AUTO:
        return [Trainer(ch_names, sfreq, settings)]
    trainers, refusals = [], []
    for name in CANDIDATES:
        try:
            trainers.append(Trainer(ch_names, sfreq, replace(settings, features=name)))
        except InputError as error:
            refusals.append(error)
    if not trainers:
        raise refusals[0]
    return trainers


def score_features(trainer: Trainer, windows: Sequence[LabelledWindows]) -> float:
    """Return the AUC of a feature set on held-out parts of training recordings, the mean over events.

    Parameters
    ----------
    trainer : Trainer
    windows : sequence of LabelledWindows
        Its windows of the training recordings.

    Returns
    -------
    float
        0 to 1; 0.5 where no event can be scored.

    Notes
    -----
    Held-out windows of all folds are pooled, since a live detector has one threshold for every session.
    Scored with the ensemble's linear discriminant alone, which is fitted in a second and ranks feature sets as the vote
    does (docs/METHOD.md).
    """
    folds, _ = trainer.folds(windows)
    truth: dict[int, list[NDArray[np.bool_]]] = {}
    found: dict[int, list[NDArray[np.float64]]] = {}
    for fold in folds:
        normaliser = trainer.fit_normaliser(trainer.rows(windows, fold.train)[0])
        X, y = trainer.rows(windows, fold.train, normaliser)
        X_test, y_test = trainer.rows(windows, fold.test, normaliser)
        for event, (train_labels, test_labels) in enumerate(zip(y.T, y_test.T, strict=True)):
            if train_labels.all() or not train_labels.any():
                continue
            vote = make_ensemble(trainer.settings.features, n_events=1, seed=0, rows=X, overlap=trainer.overlap)
            lda = dict(vote.estimators)["lda"]
            lda.fit(X.astype(np.float64), train_labels.astype(np.int64))
            truth.setdefault(event, []).append(test_labels)
            found.setdefault(event, []).append(positive_probability(lda, X_test.astype(np.float64)))
    aucs = [area_under_roc(np.concatenate(truth[event]), np.concatenate(found[event])) for event in truth]
    known = [auc for auc in aucs if auc is not None]
    return float(np.mean(known)) if known else 0.5


def choose_features(
    trainers: Sequence[Trainer], label: Callable[[Trainer], list[LabelledWindows]]
) -> tuple[Trainer, list[LabelledWindows], dict[str, float]]:
    """Choose the feature set with the highest score on held-out parts of the training recordings.

    Parameters
    ----------
    trainers : sequence of Trainer
        As `make_trainers` gives them; of equally good ones the first is taken.
    label : callable
        Returns a trainer's windows of the training recordings.

    Returns
    -------
    trainer : Trainer
        The one that was chosen.
    windows : list of LabelledWindows
        Its windows.
    tried : dict of str to float
        The score of each; empty where there was no choice.
    """
    if len(trainers) == 1:
        return trainers[0], label(trainers[0]), {}
    tried: dict[str, float] = {}
    for trainer in trainers:  # one at a time: the windows of all together would not fit into memory
        tried[trainer.features.name] = score_features(trainer, label(trainer))
    chosen = max(trainers, key=lambda trainer: tried[trainer.features.name])
    return chosen, label(chosen), tried
