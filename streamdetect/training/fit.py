"""Recordings to a thresholded model, ready to be exported."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from streamdetect.events import check_events
from streamdetect.scoring.controls import CLOCK_BIN_S
from streamdetect.scoring.learning import Needs
from streamdetect.scoring.metrics import Outcome, score
from streamdetect.sources.recording import Recording
from streamdetect.stages.metadata import Clock, ModelMetadata, Training, TrainingRecording, name_features
from streamdetect.training.ablation import measure_needs
from streamdetect.training.choose import choose_features, make_trainers
from streamdetect.training.clock import clock_auc, fit_clocks
from streamdetect.training.ensemble import member_probabilities, patterns
from streamdetect.training.estimator_file import N_KEPT_WINDOWS, pick_evenly
from streamdetect.training.trainer import TrainingSettings, detect, unconverged_allowed
from streamdetect.training.windows import choose_channels

CLEARANCE = 4e-6  # ONNX Runtime and scikit-learn differ by less than 1e-6
_PACKAGES = ("streamdetect", "numpy", "scipy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "mne")


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
    needs : Needs or None
        Held-out scores with less signal, fewer features and fewer members, where asked for.
    """

    estimator: BaseEstimator
    metadata: ModelMetadata
    windows: NDArray[np.float32]
    outcomes: list[Outcome]
    clock_auc: dict[str, float | None]
    needs: Needs | None = None


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
    with_needs: bool = False,
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
    with_needs : bool
        Also train with less signal, and without each part of the features: several times the work.
    on_recording : callable
        Called with each recording when its features are done; for ``auto`` once for each feature set that is tried.

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
    with unconverged_allowed():
        trainer, windows, tried = choose_features(
            make_trainers(ch_names, sfreq, settings), lambda one: one.label(recordings, on_recording)
        )
        fitted = trainer.fit(windows)
    normaliser = fitted.model.normaliser
    features = replace(trainer.features, normaliser=normaliser)
    rows = np.concatenate([trainer.normalise(one.features, normaliser).values[one.usable()] for one in windows])
    gate = pick_evenly(rows, N_KEPT_WINDOWS)
    probability = member_probabilities(fitted.model.estimator, gate)["probability"]
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
        features=features,
        feature_names=name_features(features, ch_names),
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
            features_tried=tried,
            stride_samples=trainer.stride * trainer.features.hop_samples,
            seed=settings.seed,
            versions={"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
            command=command,
        ),
        scores={
            "protocol": f"held-out, by {fitted.grouped_by}; thresholds, dwell and refractory times chosen on the same "
            f"folds for at most {settings.false_alarms_per_min:g} false alarms a minute" + trainer.scored_every,
            **scores,
        },
        patterns={
            member: {event: tuple(values) for event, values in by_event.items()}
            for member, by_event in patterns(fitted.model.estimator, rows, settings.event_names).items()
        },
        clock=Clock(bin_s=CLOCK_BIN_S, rates={name: clock.rates for name, clock in clocks.items()}),
    )
    held_out_clock = clock_auc(windows, trainer.folds(windows)[0], settings.event_names)
    needs = None
    if with_needs:
        needs = measure_needs(trainer, lambda one: windows if one is trainer else one.label(recordings))
    return TrainedModel(fitted.model.estimator, metadata, gate, outcomes, held_out_clock, needs)
