"""Labelled windows to a fitted ensemble with its thresholds: the part of training that cross-validation repeats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from streamdetect import decisions as decision_blocks
from streamdetect.decisions import Decisions
from streamdetect.scoring.metrics import Outcome
from streamdetect.scoring.operating import choose_threshold
from streamdetect.settings import DecisionSettings, EventSettings, FeatureSettings, HealthSettings, to_samples
from streamdetect.sources.recording import Recording
from streamdetect.stages.decision import DecisionStage
from streamdetect.training.ensemble import make_ensemble, member_probabilities
from streamdetect.training.feature_sets import make_features
from streamdetect.training.folds import Fold, check_classes, make_folds
from streamdetect.training.windows import LabelledWindows, label_windows

SCORED_HOP_S = 0.02  # held-out decisions are scored at least this far apart

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class TrainingSettings:
    """What a person may choose about training.

    Parameters
    ----------
    events : tuple of EventSettings
        What to detect.
    features : str
        Name of the feature set.
    stride_s : float
        Distance between the windows that are trained on, in s; neighbouring windows overlap and add nothing.
    false_alarms_per_min : float
        The threshold is the one that finds most events at no more false alarms a minute on held-out recordings.
    dwell_s, refractory_s : float
        How long the threshold must be held, and for how long after a detection there is no other, in s.
    max_gap_s, flat_s : float
        A longer gap resets the filters; a channel that holds its value for longer is flat; in s.
    n_folds : int
        Folds of the cross-validation, at most.
    seed : int
        Seed of every random choice.
    n_jobs : int
        Cores to use.
    """

    events: tuple[EventSettings, ...]
    features: str = "power"
    stride_s: float = 0.1
    false_alarms_per_min: float = 1.0
    dwell_s: float = 0.1
    refractory_s: float = 1.0
    max_gap_s: float = 1.0
    flat_s: float = 2.0
    n_folds: int = 5
    seed: int = 0
    n_jobs: int = 1

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the events."""
        return tuple(event.name for event in self.events)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted ensemble with its decision rule, and what held-out folds made of it.

    Parameters
    ----------
    estimator : BaseEstimator
        The ensemble, fitted on all windows.
    decisions : tuple of DecisionSettings
        One an event; the thresholds were chosen on ``outcomes``.
    outcomes : list of Outcome
        Decisions on each recording by ensembles that were not trained on that part of it.
    grouped_by : str
        What the folds kept together.
    """

    estimator: BaseEstimator
    decisions: tuple[DecisionSettings, ...]
    outcomes: list[Outcome]
    grouped_by: str


class Trainer:
    """Fits the ensemble on recordings that share channels and sampling rate.

    Parameters
    ----------
    ch_names : tuple of str
        Channels to take.
    sfreq : float
        Sampling rate in Hz.
    settings : TrainingSettings

    Raises
    ------
    InputError
        No feature set has the name asked for.
    """

    def __init__(self, ch_names: tuple[str, ...], sfreq: float, settings: TrainingSettings) -> None:
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.settings = settings
        self.features: FeatureSettings = make_features(settings.features, sfreq)
        self.health = HealthSettings(to_samples(settings.max_gap_s, sfreq), to_samples(settings.flat_s, sfreq))
        self.stride = max(1, round(settings.stride_s * sfreq / self.features.hop_samples))
        self._scored_stride = max(1, round(SCORED_HOP_S * sfreq / self.features.hop_samples))
        self._decision = DecisionSettings(
            threshold=0.5,
            dwell_samples=round(settings.dwell_s * sfreq),
            refractory_samples=round(settings.refractory_s * sfreq),
        )

    @property
    def scored_every(self) -> str:
        """What a score must say where it is taken on fewer decisions than the detector makes."""
        hop_s = self._scored_stride * self.features.hop_samples / self.sfreq
        return f"; scored on a decision every {1000 * hop_s:g} ms" if self._scored_stride > 1 else ""

    def label(
        self, recordings: Sequence[Recording], on_recording: Callable[[Recording], None] = lambda recording: None
    ) -> list[LabelledWindows]:
        """Compute features and labels of each recording."""
        labelled = []
        for recording in recordings:
            labelled.append(label_windows(recording, self.ch_names, self.health, self.features, self.settings.events))
            on_recording(recording)
        return labelled

    def folds(self, windows: Sequence[LabelledWindows]) -> tuple[list[Fold], str]:
        """Make folds that keep recordings together, or blocks of the only one with two windows' distance between."""
        margin = 2 * self.features.window_samples // self.features.hop_samples
        return make_folds(windows, self.settings.n_folds, margin)

    def fit(self, windows: Sequence[LabelledWindows]) -> Fitted:
        """Cross-validate, choose thresholds on the held-out folds, and fit on all windows.

        Parameters
        ----------
        windows : sequence of LabelledWindows
            At least one recording.

        Returns
        -------
        Fitted

        Raises
        ------
        EventError
            In some fold an event is always or never going on.
        """
        folds, grouped_by = self.folds(windows)

        def decide_fold(fold: Fold) -> list[Decisions | None]:
            estimator = self.fit_ensemble(windows, fold.train)
            return [self.decide(one, test, estimator) for one, test in zip(windows, fold.test, strict=True)]

        outcomes = self.join(windows, self.run_folds(decide_fold, folds))
        decisions = tuple(
            replace(
                self._decision,
                threshold=choose_threshold(outcomes, name, self._decision, self.settings.false_alarms_per_min),
            )
            for name in self.settings.event_names
        )
        everything = [np.arange(len(one.features)) for one in windows]
        estimator = self.fit_ensemble(windows, everything, n_jobs=self.settings.n_jobs)
        return Fitted(estimator, decisions, [detect(outcome, decisions) for outcome in outcomes], grouped_by)

    def fit_ensemble(
        self, windows: Sequence[LabelledWindows], keep: Sequence[NDArray[np.int64]], n_jobs: int = 1
    ) -> BaseEstimator:
        """Fit the ensemble on the valid windows at the training stride that are among those to keep."""
        kept = [
            np.intersect1d(one.usable(self.stride), indices, assume_unique=True)
            for one, indices in zip(windows, keep, strict=True)
        ]
        X = np.concatenate([one.features.values[indices] for one, indices in zip(windows, kept, strict=True)])
        y = np.concatenate([one.labels[indices] for one, indices in zip(windows, kept, strict=True)])
        where = ", ".join(one.name for one, indices in zip(windows, kept, strict=True) if len(indices))
        return self.fit_rows(X, y, where, n_jobs)

    def fit_rows(self, X: NDArray[np.float32], y: NDArray[np.bool_], where: str, n_jobs: int) -> BaseEstimator:
        """Fit the ensemble on labelled features.

        Raises
        ------
        EventError
            An event is always or never going on.
        """
        check_classes(y, self.settings.event_names, where)
        estimator = make_ensemble(self.settings.features, n_events=y.shape[1], seed=self.settings.seed, n_jobs=n_jobs)
        return estimator.fit(X, y[:, 0].astype(np.int64) if y.shape[1] == 1 else y.astype(np.int64))

    def decide(
        self, windows: LabelledWindows, indices: NDArray[np.int64], estimator: BaseEstimator
    ) -> Decisions | None:
        """Decide on some windows, every 20 ms or at the decision rate if that is slower; None where there are none."""
        indices = indices[(indices + 1) % self._scored_stride == 0]
        if len(indices) == 0:
            return None
        block = windows.features.take(indices)
        valid = block.quality == 0
        columns = {
            name: np.full((len(block), len(self.settings.events)), np.nan, np.float32)
            for name in ("probability", "lda", "rf", "lr")
        }
        if valid.any():
            for name, values in member_probabilities(estimator, block.values[valid]).items():
                columns[name][valid] = values
        probability = columns.pop("probability")
        return Decisions(self.settings.event_names, block.samples, block.times, block.quality, probability, columns)

    def join(self, windows: Sequence[LabelledWindows], parts: Sequence[Sequence[Decisions | None]]) -> list[Outcome]:
        """Join what each fold decided on each recording into one outcome a recording."""
        outcomes = []
        for i, one in enumerate(windows):
            blocks = [fold[i] for fold in parts]
            decided = sorted((block for block in blocks if block is not None), key=lambda block: int(block.samples[0]))
            hop_s = self._scored_stride * self.features.hop_samples / self.sfreq
            outcomes.append(Outcome(one.name, decision_blocks.join(decided), one.events, hop_s))
        return outcomes

    def run_folds(self, run: Callable[[Fold], _Result], folds: Sequence[Fold]) -> list[_Result]:
        """Run the folds side by side, in threads: trees grow without the interpreter's lock, and nothing is copied."""
        with threadpool_limits(1, "blas"):  # the folds are the parallel part; nested threads only get in their way
            return list(Parallel(n_jobs=self.settings.n_jobs, prefer="threads")(delayed(run)(fold) for fold in folds))


@contextmanager
def unconverged_allowed() -> Iterator[None]:
    """Do not warn that 100 steps of logistic regression were too few, as they are without scaled features (`2019`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def detect(outcome: Outcome, decisions: tuple[DecisionSettings, ...]) -> Outcome:
    """Return an outcome with the detections that the decision rule finds in it."""
    return replace(outcome, decisions=DecisionStage(decisions).process(outcome.decisions))
