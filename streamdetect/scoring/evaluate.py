"""A model on recordings with known events: scores and controls. Needs no training library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamdetect.decisions import join
from streamdetect.detector import Detector
from streamdetect.events import select_annotations
from streamdetect.files import file_sha256
from streamdetect.offline import replay
from streamdetect.scoring.controls import N_SURROGATES, ClockModel, PhaseRandomised, clock_outcome
from streamdetect.scoring.metrics import Outcome, area_under_roc, pool, score
from streamdetect.stages.metadata import ModelMetadata

if TYPE_CHECKING:
    from streamdetect.sources.recording import Recording


def run_detector(recording: Recording, detector: Detector) -> Outcome:
    """Replay a recording and put the truth beside the decisions.

    Parameters
    ----------
    recording : Recording
        With annotations; those that the model's events are made of count.
    detector : Detector
        Reset first.

    Returns
    -------
    Outcome
    """
    metadata = detector.model.metadata
    return Outcome(
        name=recording.info.name,
        decisions=join(list(replay(recording, detector))),
        events={event.name: select_annotations(recording.annotations, event) for event in metadata.events},
        hop_s=metadata.features.hop_samples / metadata.sfreq,
    )


def evaluate(
    recordings: Sequence[Recording],
    detector: Detector,
    *,
    with_controls: bool = True,
    on_recording: Callable[[Recording], None] = lambda recording: None,
) -> tuple[dict[str, Any], list[Outcome], dict[str, dict[str, float | None]]]:
    """Score a model on recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings that the model was not trained on; see `trained_on`.
    detector : Detector
    with_controls : bool
        Run the detector once more on phase-randomised signals.
    on_recording : callable
        Called with each recording when it is done.

    Returns
    -------
    scores : dict
        As `score` gives it.
    outcomes : list of Outcome
    controls : dict
        For ``clock`` and ``phase_randomised`` the AUC of each event; empty without controls.
    """
    metadata = detector.model.metadata
    outcomes = []
    scrambled: list[list[Outcome]] = [[] for _ in range(N_SURROGATES if with_controls else 0)]
    for recording in recordings:
        outcomes.append(run_detector(recording, detector))
        for seed, surrogates in enumerate(scrambled):
            surrogates.append(run_detector(PhaseRandomised(recording, seed), detector))  # type: ignore[arg-type]
        on_recording(recording)
    thresholds = {name: one.threshold for name, one in zip(detector.event_names, metadata.decisions, strict=True)}
    controls = {}
    if with_controls:
        controls["phase_randomised"] = mean_auc(scrambled)
        if metadata.clock.rates:
            clocks = {name: ClockModel(metadata.clock.bin_s, rates) for name, rates in metadata.clock.rates.items()}
            controls["clock"] = auc_by_event([clock_outcome(outcome, clocks) for outcome in outcomes])
    return score(outcomes, thresholds), outcomes, controls


def auc_by_event(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Return the AUC of each event, over all recordings."""
    pooled = {name: pool(outcomes, name) for name in outcomes[0].decisions.event_names}
    return {name: area_under_roc(each.labels, each.probability) for name, each in pooled.items()}


def mean_auc(repeats: Sequence[Sequence[Outcome]]) -> dict[str, float | None]:
    """Return the mean AUC of each event over repetitions; None where it is undefined."""
    aucs = [auc_by_event(outcomes) for outcomes in repeats]
    means: dict[str, float | None] = {}
    for name in aucs[0]:
        values = [each[name] for each in aucs if each[name] is not None]
        means[name] = sum(values) / len(values) if values else None  # type: ignore[arg-type]
    return means


def trained_on(metadata: ModelMetadata, recordings: Sequence[Recording]) -> list[str]:
    """Return the names of the recordings that a model was trained on, told by the hash of their files."""
    known = {each.sha256 for each in metadata.training.recordings}
    return [recording.info.name for recording in recordings if file_sha256(recording.path) in known]
