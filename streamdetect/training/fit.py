"""Recordings to a thresholded model, ready to be exported."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TypeVar

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from streamdetect import decisions as decision_blocks
from streamdetect.decisions import Decisions
from streamdetect.events import check_events
from streamdetect.scoring.controls import CLOCK_BIN_S
from streamdetect.scoring.metrics import Outcome, score
from streamdetect.scoring.operating import choose_threshold
from streamdetect.settings import DecisionSettings, EventSettings, FeatureSettings, HealthSettings, to_samples
from streamdetect.sources.recording import Recording
from streamdetect.stages.decision import DecisionStage
from streamdetect.stages.metadata import Clock, ModelMetadata, Training, TrainingRecording, name_features
from streamdetect.training.clock import clock_auc, fit_clocks
from streamdetect.training.ensemble import make_ensemble, member_probabilities, patterns
from streamdetect.training.estimator_file import N_KEPT_WINDOWS, pick_evenly
from streamdetect.training.feature_sets import make_features
from streamdetect.training.folds import Fold, check_classes, make_folds
from streamdetect.training.windows import LabelledWindows, choose_channels, label_windows

CLEARANCE = 4e-6  # ONNX Runtime and scikit-learn differ by less than 1e-6
SCORED_HOP_S = 0.02  # held-out decisions are scored at least this far apart
_PACKAGES = ("streamdetect", "numpy", "scipy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "mne")

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


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """All that export and report need.

    Parameters
    ----------
    estimator : BaseEstimator
        The fitted ensemble.
    metadata : ModelMetadata
        What goes into the file.
    windows : ndarray of float32, shape (n, n_features)
        Training windows for the parity gate.
    outcomes : list of Outcome
        Held-out decisions on each training recording.
    clock_auc : dict of str to float or None
        For each event the held-out AUC of the time since the start alone.
    """

    estimator: BaseEstimator
    metadata: ModelMetadata
    windows: NDArray[np.float32]
    outcomes: list[Outcome]
    clock_auc: dict[str, float | None]


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


def clear_threshold(threshold: float, probability: NDArray[np.float64]) -> float:
    """Move a threshold off the probabilities that it would cut in two.

    Parameters
    ----------
    threshold : float
        0 to 1.
    probability : ndarray, shape (n,)
        Probabilities of windows, at least one.

    Returns
    -------
    float
        The nearest value with no probability within `CLEARANCE`, so that no rounding elsewhere flips a decision.

    Examples
    --------
    >>> clear_threshold(0.5, np.array([0.1, 0.9]))
    0.5
    >>> abs(clear_threshold(0.5, np.array([0.1, 0.5, 0.9])) - 0.5) > 1e-6
    True
    """
    edges = np.concatenate(([-1.0], np.sort(probability), [2.0]))
    wide = np.flatnonzero(np.diff(edges) > 2.5 * CLEARANCE)
    nearest = np.clip(threshold, edges[wide] + CLEARANCE, edges[wide + 1] - CLEARANCE)
    nearest = nearest[(nearest >= 0.0) & (nearest <= 1.0)]
    return float(nearest[np.argmin(np.abs(nearest - threshold))]) if len(nearest) else threshold


def train(
    recordings: Sequence[Recording],
    settings: TrainingSettings,
    *,
    name: str,
    channels: Sequence[str] = (),
    exclude: Sequence[str] = (),
    command: str = "",
    on_recording: Callable[[Recording], None] = lambda recording: None,
) -> TrainedModel:
    """Train a detector on recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one.
    settings : TrainingSettings
        What to detect, and how.
    name : str
        Name of the model.
    channels, exclude : sequence of str
        Channels to take (all of the first recording by default) and to leave out.
    command : str
        What the person typed, for the model's provenance.
    on_recording : callable
        Called with each recording when its features are done.

    Returns
    -------
    TrainedModel
        Pass it to `streamdetect.training.export.export_model`.

    Raises
    ------
    InputError
        Channels, events, sampling rates or signals do not allow training; the message says which and why.
    """
    check_events(recordings, settings.events)
    ch_names = choose_channels(recordings, channels, exclude)
    sfreq = recordings[0].info.sfreq
    trainer = Trainer(ch_names, sfreq, settings)
    windows = trainer.label(recordings, on_recording)
    with unconverged_allowed():
        fitted = trainer.fit(windows)
    rows = np.concatenate([one.features.values[one.usable()] for one in windows])
    gate = pick_evenly(rows, N_KEPT_WINDOWS)
    probability = member_probabilities(fitted.estimator, gate)["probability"]
    decisions = tuple(
        replace(one, threshold=clear_threshold(one.threshold, column))
        for one, column in zip(fitted.decisions, probability.T, strict=True)
    )
    outcomes = [detect(outcome, decisions) for outcome in fitted.outcomes]
    thresholds = dict(zip(settings.event_names, (one.threshold for one in decisions), strict=True))
    scores = score(outcomes, thresholds)
    clocks = fit_clocks(windows, settings.event_names)
    metadata = ModelMetadata(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sfreq=sfreq,
        ch_names=ch_names,
        health=trainer.health,
        features=trainer.features,
        feature_names=name_features(trainer.features, ch_names),
        events=settings.events,
        decisions=decisions,
        training=Training(
            recordings=tuple(
                TrainingRecording(
                    name=one.name,
                    sha256=one.sha256,
                    n_windows=len(one.usable(trainer.stride)),
                    n_positive=dict(
                        zip(
                            settings.event_names,
                            one.labels[one.usable(trainer.stride)].sum(axis=0).tolist(),
                            strict=True,
                        )
                    ),
                )
                for one in windows
            ),
            features=settings.features,
            stride_samples=trainer.stride * trainer.features.hop_samples,
            seed=settings.seed,
            versions={"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
            command=command,
        ),
        scores={
            "protocol": f"held-out, by {fitted.grouped_by}; thresholds chosen on the same folds for at most "
            f"{settings.false_alarms_per_min:g} false alarms a minute" + trainer.scored_every,
            **scores,
        },
        patterns={
            member: {event: tuple(values) for event, values in by_event.items()}
            for member, by_event in patterns(fitted.estimator, rows, settings.event_names).items()
        },
        clock=Clock(bin_s=CLOCK_BIN_S, rates={name: clock.rates for name, clock in clocks.items()}),
    )
    held_out_clock = clock_auc(windows, trainer.folds(windows)[0], settings.event_names)
    return TrainedModel(fitted.estimator, metadata, gate, outcomes, held_out_clock)
