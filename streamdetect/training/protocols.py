"""Two ways to score a training: held out, which predicts what a user will see, and the random split of 2019."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from streamdetect.decisions import Decisions
from streamdetect.scoring.controls import N_SURROGATES, PhaseRandomised
from streamdetect.scoring.evaluate import mean_auc
from streamdetect.scoring.metrics import Outcome, score
from streamdetect.sources.recording import Recording
from streamdetect.training.choose import score_features
from streamdetect.training.clock import clock_auc
from streamdetect.training.ensemble import member_probabilities, predict_probability
from streamdetect.training.folds import Fold, take
from streamdetect.training.trainer import Trainer, detect, unconverged_allowed
from streamdetect.training.windows import LabelledWindows

TEST_SIZE_2019 = 0.33  # Oschmann 2019: train_test_split(test_size=0.33) over all windows
_NEEDS_TIME = ("event_recall", "false_alarms_per_min")  # what windows drawn at random cannot have, and the lag


class CrossValidated(NamedTuple):
    """What a training makes of recordings that it has not seen.

    Parameters
    ----------
    outcomes : list of Outcome
        Decisions and detections on each recording, each by a model that was trained without it.
    grouped_by : str
        What the folds kept together.
    thresholds : dict of str to float
        For each event the median of the folds' thresholds.
    chosen : list of str
        The features that each fold chose, from its training recordings alone; empty where there was no choice.
    """

    outcomes: list[Outcome]
    grouped_by: str
    thresholds: dict[str, float]
    chosen: list[str]


def cross_validate(trainer: Trainer, windows: Sequence[LabelledWindows]) -> CrossValidated:
    """Score a whole training, the choice of thresholds included, on recordings that it has not seen.

    Parameters
    ----------
    trainer : Trainer
        What to score.
    windows : sequence of LabelledWindows
        The recordings; with a single one its five consecutive blocks take their place.

    Returns
    -------
    CrossValidated
    """
    folds, grouped_by = trainer.folds(windows)
    parts = _run_nested(trainer, windows, folds)
    return CrossValidated(trainer.join(windows, [part.decided for part in parts]), grouped_by, _median(parts), [])


def cross_validate_choice(
    trainers: Sequence[Trainer], label: Callable[[Trainer], list[LabelledWindows]]
) -> CrossValidated:
    """Score a whole training that chooses its features too, each fold by itself.

    Parameters
    ----------
    trainers : sequence of Trainer
        One a candidate, see `make_trainers`; all decide at the same times.
    label : callable
        Returns a trainer's windows of all recordings.

    Returns
    -------
    CrossValidated
    """
    if len(trainers) == 1:
        return cross_validate(trainers[0], label(trainers[0]))
    scores = []
    for trainer in trainers:
        windows = label(trainer)
        folds, grouped_by = trainer.folds(windows)
        scores.append([score_features(trainer, take(windows, fold.train)) for fold in folds])
    winners = np.argmax(scores, axis=0)
    parts: dict[int, _Part] = {}
    for winner in np.unique(winners).tolist():
        windows = label(trainers[winner])
        own_folds, _ = trainers[winner].folds(windows)
        mine = np.flatnonzero(winners == winner).tolist()
        decided = _run_nested(trainers[winner], windows, [own_folds[i] for i in mine])
        parts.update(zip(mine, decided, strict=True))
    outcomes = trainers[0].join(windows, [parts[i].decided for i in range(len(folds))])
    chosen = [trainers[winner].features.name for winner in winners.tolist()]
    return CrossValidated(outcomes, grouped_by, _median(list(parts.values())), chosen)


def score_held_out(
    trainers: Sequence[Trainer],
    recordings: Sequence[Recording],
    label: Callable[[Trainer], list[LabelledWindows]],
    *,
    with_controls: bool,
) -> tuple[dict[str, Any], list[Outcome], dict[str, dict[str, float | None]]]:
    """Cross-validate a training, and score it with its controls.

    Parameters
    ----------
    trainers : sequence of Trainer
        One a candidate, see `make_trainers`.
    recordings : sequence of Recording
        What to score it on.
    label : callable
        Returns a trainer's windows of all recordings.
    with_controls : bool
        Run the two controls, which take more time than all the rest.

    Returns
    -------
    scores : dict
        As `score` gives it, with ``protocol``, ``grouped_by``, ``thresholds`` and, after a choice, ``chosen``.
    outcomes : list of Outcome
    controls : dict
        As `controls` gives it; empty without controls.
    """
    held_out = cross_validate_choice(trainers, label)
    found = {
        "protocol": "held-out",
        "grouped_by": held_out.grouped_by,
        "thresholds": held_out.thresholds,
        **score(held_out.outcomes, held_out.thresholds),
    }
    if held_out.chosen:
        found["chosen"] = held_out.chosen
    return found, held_out.outcomes, controls(trainers, recordings, label(trainers[0])) if with_controls else {}


class _Part(NamedTuple):
    """What one fold decided on each recording, and its threshold for each event."""

    decided: list[Decisions | None]
    thresholds: dict[str, float]


def _median(parts: Sequence[_Part]) -> dict[str, float]:
    return {name: float(np.median([part.thresholds[name] for part in parts])) for name in parts[0].thresholds}


def _run_nested(trainer: Trainer, windows: Sequence[LabelledWindows], folds: Sequence[Fold]) -> list[_Part]:
    """Train on each fold, thresholds included, and decide on what it holds out."""
    inner = Trainer(trainer.ch_names, trainer.sfreq, replace(trainer.settings, n_jobs=1))

    def run(fold: Fold) -> _Part:
        fitted = inner.fit(take(windows, fold.train))
        decided = [inner.decide(one, test, fitted.model) for one, test in zip(windows, fold.test, strict=True)]
        detected = [
            None if each is None else detect(Outcome("", each, {}, 1.0), fitted.decisions).decisions for each in decided
        ]
        thresholds = [rule.threshold for rule in fitted.decisions]
        return _Part(detected, dict(zip(trainer.settings.event_names, thresholds, strict=True)))

    with unconverged_allowed():
        return trainer.run_folds(run, folds)


def random_split(
    trainer: Trainer, windows: Sequence[LabelledWindows], false_positive_rate: float | None = None
) -> dict[str, Any]:
    """Train on two thirds of all windows drawn at random, decide on the rest, and score, as in 2019.

    Neighbouring windows overlap by more than 95 %: this measures memory, not detection.

    Parameters
    ----------
    trainer : Trainer
        What to score.
    windows : sequence of LabelledWindows
        Every valid window of every recording takes part.
    false_positive_rate : float or None
        Choose thresholds for this share of false positives among the windows without the event: on a third of the
        training windows, drawn at random, by an ensemble trained on the others. None for 0.5, as in 2019.

    Returns
    -------
    dict
        As `score` gives it, with ``thresholds``; what needs whole recordings (event recall, false alarms, lag) is None.
    """
    usable = [one.usable() for one in windows]
    owner = np.repeat(np.arange(len(windows)), [len(keep) for keep in usable])
    X = np.concatenate([one.features.values[keep] for one, keep in zip(windows, usable, strict=True)])
    y = np.concatenate([one.labels[keep] for one, keep in zip(windows, usable, strict=True)])
    train, test = train_test_split(np.arange(len(X)), test_size=TEST_SIZE_2019, random_state=trainer.settings.seed)
    event_names, n_jobs = trainer.settings.event_names, trainer.settings.n_jobs
    thresholds = dict.fromkeys(event_names, 0.5)
    with unconverged_allowed():
        if false_positive_rate is not None:
            inner, choosing = train_test_split(train, test_size=TEST_SIZE_2019, random_state=trainer.settings.seed)
            estimator = trainer.fit_rows(X[inner], y[inner], "all recordings", n_jobs)
            found = predict_probability(estimator, X[choosing]).astype(np.float32)
            for name, truth, probability in zip(event_names, y[choosing].T, found.T, strict=True):
                thresholds[name] = _choose_threshold(probability[~truth], false_positive_rate)
        estimator = trainer.fit_rows(X[train], y[train], "all recordings", n_jobs)
    test.sort()
    row = np.concatenate(usable)[test]
    columns = {name: values.astype(np.float32) for name, values in member_probabilities(estimator, X[test]).items()}
    outcomes = []
    for i, one in enumerate(windows):
        mine = owner[test] == i
        block = one.features.take(row[mine])
        members = {name: values[mine] for name, values in columns.items() if name != "probability"}
        decisions = Decisions(
            trainer.settings.event_names,
            block.samples,
            block.times,
            block.quality,
            columns["probability"][mine],
            members,
        )
        hop_s = trainer.features.hop_samples / trainer.sfreq
        outcomes.append(Outcome(one.name, decisions, one.events, hop_s))
    scores = score(outcomes, thresholds)
    for each in (*scores["events"].values(), scores["mean"]):
        each.update(dict.fromkeys(_NEEDS_TIME), lag_s={"median": None, "p95": None})
    return {"thresholds": thresholds, **scores}


def _choose_threshold(negatives: NDArray[np.float32], false_positive_rate: float) -> float:
    """Return the lowest threshold that at most this share of windows without the event reaches.

    Examples
    --------
    >>> round(_choose_threshold(np.float32([0.1, 0.4, 0.2, 0.3]), 0.25), 6)
    0.3
    """
    descending = np.sort(negatives)[::-1]
    n_allowed = min(int(false_positive_rate * len(descending)), len(descending) - 1)
    return float(np.nextafter(descending[n_allowed], np.float32(np.inf)))


def controls(
    trainers: Sequence[Trainer], recordings: Sequence[Recording], windows: Sequence[LabelledWindows]
) -> dict[str, dict[str, float | None]]:
    """Score the two controls on the folds of `cross_validate`.

    Parameters
    ----------
    trainers : sequence of Trainer
        The training that they are controls of, the choice of features included where there are several.
    recordings : sequence of Recording
        The recordings, to be read once more with random phases.
    windows : sequence of LabelledWindows
        Their windows, of any of the trainers: the clock does not look at features.

    Returns
    -------
    dict
        For ``clock`` and ``phase_randomised`` the AUC of each event; the latter is the mean over `N_SURROGATES`.
    """
    scrambled = []
    for seed in range(N_SURROGATES):
        surrogates = [PhaseRandomised(recording, seed) for recording in recordings]
        found = cross_validate_choice(trainers, _label_all(surrogates))  # type: ignore[arg-type]
        scrambled.append(found.outcomes)
    clock = clock_auc(windows, trainers[0].folds(windows)[0], trainers[0].settings.event_names)
    return {"clock": clock, "phase_randomised": mean_auc(scrambled)}


def _label_all(recordings: Sequence[Recording]) -> Callable[[Trainer], list[LabelledWindows]]:
    return lambda trainer: trainer.label(recordings)
