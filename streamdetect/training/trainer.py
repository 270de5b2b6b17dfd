"""Labelled windows to a fitted ensemble with its thresholds: the part of training that cross-validation repeats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from streamdetect import decisions as decision_blocks
from streamdetect.decisions import Decisions
from streamdetect.scoring.decision_rules import choose_decision, decision_candidates
from streamdetect.scoring.metrics import Outcome, pool
from streamdetect.scoring.scalp import electrode_directions
from streamdetect.settings import (
    ChannelHealthSettings,
    DecisionSettings,
    EventSettings,
    FeatureSettings,
    HealthSettings,
    NormaliserSettings,
    to_samples,
)
from streamdetect.sources.recording import Recording
from streamdetect.stages.decision import DecisionStage
from streamdetect.stages.features import FeatureBlock
from streamdetect.stages.normalise import Normaliser
from streamdetect.training.ensemble import (
    CLIPPED,
    calibrate,
    fit_calibration,
    make_ensemble,
    member_probabilities,
)
from streamdetect.training.feature_sets import make_features
from streamdetect.training.folds import Fold, check_classes, make_folds
from streamdetect.training.windows import LabelledWindows, label_windows

SCORED_HOP_S = 0.02  # held-out decisions are scored at least this far apart

RULES_BLOCK_S = 1.0  # as the correlation windows of PREP
RULES_LAG_S = 0.5  # many streams on one core find time to judge their blocks, which may end together
# From one channel in ten on, and in caps where the next electrode is far away, a repair is a guess.
REPAIRED_SHARE, MIN_CHANNELS_TO_REPAIR = 0.1, 8

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class TrainingSettings:
    """What a person may choose about training.

    Parameters
    ----------
    events : tuple of EventSettings
        What to detect.
    features : str
        Name of the feature set, as `make_features` takes it.
    stride_s : float
        Distance between the windows that are trained on, in s; neighbouring windows overlap and add nothing.
    false_alarms_per_min : float
        The decision rule is the one that finds most events at no more false alarms a minute on held-out recordings.
    dwell_s, refractory_s : float
        How long the threshold must be held, and for how long after a detection there is no other, in s; None to choose
        it together with the threshold.
    max_gap_s, flat_s : float
        A longer gap resets the filters; a channel that holds its value for longer is flat, where there are no channel
        rules; in s.
    channel_rules : bool
        Find bad channels by the rules of `stages.channel_health` and repair them, in training as live; not in ``2019``.
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
    dwell_s: float | None = None
    refractory_s: float | None = None
    max_gap_s: float = 1.0
    flat_s: float = 2.0
    channel_rules: bool = True
    n_folds: int = 5
    seed: int = 0
    n_jobs: int = 1

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the events."""
        return tuple(event.name for event in self.events)


class Detecting(NamedTuple):
    """What turns features into probabilities.

    Parameters
    ----------
    estimator : BaseEstimator
        The fitted ensemble.
    normaliser : NormaliserSettings or None
        With the mean and variance of the windows that the ensemble was fitted on.
    """

    estimator: BaseEstimator
    normaliser: NormaliserSettings | None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted ensemble with its decision rule, and what held-out folds made of it.

    Parameters
    ----------
    model : Detecting
        Normaliser and ensemble, fitted on all windows; the vote calibrated on ``outcomes``.
    decisions : tuple of DecisionSettings
        One an event; threshold, dwell and refractory time were chosen on ``outcomes``.
    outcomes : list of Outcome
        Decisions on each recording by ensembles that were not trained on that part of it.
    grouped_by : str
        What the folds kept together.
    """

    model: Detecting
    decisions: tuple[DecisionSettings, ...]
    outcomes: list[Outcome]
    grouped_by: str


def _make_channel_rules(ch_names: Sequence[str], sfreq: float, hop_samples: int) -> ChannelHealthSettings:
    n_channels = len(ch_names)
    n_hops = max(1, round(RULES_BLOCK_S * sfreq / hop_samples))
    n_repaired = max(1, round(REPAIRED_SHARE * n_channels)) if n_channels >= MIN_CHANNELS_TO_REPAIR else 0
    n_lag = min(n_hops - 1, round(RULES_LAG_S * sfreq / hop_samples))
    directions = electrode_directions(ch_names)
    return ChannelHealthSettings(n_hops * hop_samples, n_repaired, directions, n_lag * hop_samples)


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
        self.features: FeatureSettings = make_features(settings.features, sfreq, ch_names)
        self.health = HealthSettings(
            to_samples(settings.max_gap_s, sfreq),
            to_samples(settings.flat_s, sfreq),
            None
            if settings.features == "2019" or not settings.channel_rules
            else _make_channel_rules(ch_names, sfreq, self.features.hop_samples),
        )
        self.stride = max(1, round(settings.stride_s * sfreq / self.features.hop_samples))
        self.overlap = max(1, self.features.window_samples // (self.stride * self.features.hop_samples))
        self._scored_stride = max(1, round(SCORED_HOP_S * sfreq / self.features.hop_samples))
        self._rules = decision_candidates(sfreq, settings.dwell_s, settings.refractory_s)

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
        """Cross-validate, calibrate and choose decision rules on the held-out folds, and fit on all windows.

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
        outcomes = self.hold_out(windows, folds)
        sigmoids = self._fit_calibration(outcomes)
        outcomes = [calibrate_outcome(outcome, sigmoids) for outcome in outcomes]
        decisions = tuple(
            choose_decision(outcomes, name, self._rules, self.settings.false_alarms_per_min)
            for name in self.settings.event_names
        )
        everything = [np.arange(len(one.features)) for one in windows]
        model = self.fit_ensemble(windows, everything, n_jobs=self.settings.n_jobs)
        if sigmoids:
            model = model._replace(estimator=calibrate(model.estimator, sigmoids))
        return Fitted(model, decisions, [detect(outcome, decisions) for outcome in outcomes], grouped_by)

    def hold_out(self, windows: Sequence[LabelledWindows], folds: Sequence[Fold]) -> list[Outcome]:
        """Decide on what each fold holds out, by ensembles trained on the rest, uncalibrated."""

        def decide_fold(fold: Fold) -> list[Decisions | None]:
            model = self.fit_ensemble(windows, fold.train)
            return [self.decide(one, test, model) for one, test in zip(windows, fold.test, strict=True)]

        return self.join(windows, self.run_folds(decide_fold, folds))

    def _fit_calibration(self, outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
        """Fit Platt's sigmoid of each event on held-out decisions; none for the method of 2019, which has none."""
        if self.settings.features == "2019":
            return []
        pooled = [pool(outcomes, name) for name in self.settings.event_names]
        return [fit_calibration(each.probability, each.labels) for each in pooled]

    def fit_ensemble(
        self, windows: Sequence[LabelledWindows], keep: Sequence[NDArray[np.int64]], n_jobs: int = 1
    ) -> Detecting:
        """Fit normaliser and ensemble on the valid windows at the training stride that are among those to keep."""
        X, y = self.rows(windows, keep)
        normaliser = self.fit_normaliser(X)
        if normaliser is not None:
            X, _ = self.rows(windows, keep, normaliser)
        where = ", ".join(one.name for one, indices in zip(windows, keep, strict=True) if len(indices))
        return Detecting(self.fit_rows(X, y, where, n_jobs), normaliser)

    def rows(
        self,
        windows: Sequence[LabelledWindows],
        keep: Sequence[NDArray[np.int64]],
        normaliser: NormaliserSettings | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return features and labels of the valid windows at the training stride that are among those to keep."""
        kept = [
            (one, np.intersect1d(one.usable(self.stride), indices, assume_unique=True))
            for one, indices in zip(windows, keep, strict=True)
            if len(indices)
        ]
        X = [self.normalise(one.features, normaliser).values[indices] for one, indices in kept]
        return np.concatenate(X), np.concatenate([one.labels[indices] for one, indices in kept])

    def fit_normaliser(self, X: NDArray[np.float32]) -> NormaliserSettings | None:
        """Return the normaliser begun with the mean and variance of training windows; None where there is none."""
        if self.features.normaliser is None:
            return None
        rows = X.astype(np.float64)
        return replace(
            self.features.normaliser, mean=tuple(rows.mean(axis=0).tolist()), variance=tuple(rows.var(axis=0).tolist())
        )

    def normalise(self, block: FeatureBlock, normaliser: NormaliserSettings | None) -> FeatureBlock:
        """Normalise the features of a whole recording as the detector does, from its start on."""
        if normaliser is None:
            return block
        return Normaliser(normaliser, self.features.hop_samples / self.sfreq).process(block)

    def fit_rows(self, X: NDArray[np.float32], y: NDArray[np.bool_], where: str, n_jobs: int) -> BaseEstimator:
        """Fit the ensemble on labelled features.

        Raises
        ------
        EventError
            An event is always or never going on.
        """
        check_classes(y, self.settings.event_names, where)
        estimator = make_ensemble(
            self.settings.features,
            n_events=y.shape[1],
            seed=self.settings.seed,
            rows=X,
            overlap=self.overlap,
            n_jobs=n_jobs,
        )
        return estimator.fit(X, y[:, 0].astype(np.int64) if y.shape[1] == 1 else y.astype(np.int64))

    def decide(self, windows: LabelledWindows, indices: NDArray[np.int64], model: Detecting) -> Decisions | None:
        """Decide on some windows, every 20 ms or at the decision rate if that is slower; None where there are none."""
        indices = indices[(indices + 1) % self._scored_stride == 0]
        if len(indices) == 0:
            return None
        block = self.normalise(windows.features, model.normaliser).take(indices)
        valid = block.quality == 0
        columns = {
            name: np.full((len(block), len(self.settings.events)), np.nan, np.float32)
            for name in ("probability", "lda", "rf", "lr")
        }
        if valid.any():
            for name, values in member_probabilities(model.estimator, block.values[valid]).items():
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


def calibrate_outcome(outcome: Outcome, sigmoids: Sequence[tuple[float, float]]) -> Outcome:
    """Return an outcome with the vote's probabilities calibrated; unchanged where there is no sigmoid."""
    if not sigmoids:
        return outcome
    slope, intercept = np.array(sigmoids).T
    p = np.clip(outcome.decisions.probability.astype(np.float64), CLIPPED, 1 - CLIPPED)
    calibrated = expit(slope * logit(p) + intercept).astype(np.float32)  # NaN stays NaN
    return replace(outcome, decisions=replace(outcome.decisions, probability=calibrated))


def detect(outcome: Outcome, decisions: tuple[DecisionSettings, ...]) -> Outcome:
    """Return an outcome with the detections that the decision rule finds in it."""
    return replace(outcome, decisions=DecisionStage(decisions).process(outcome.decisions))
