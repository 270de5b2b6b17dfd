"""Small outcomes to score, made by hand or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamdetect.chunk import Quality
from streamdetect.decisions import Decisions, Detection
from streamdetect.events import Annotation, label_times
from streamdetect.scoring.metrics import Outcome
from streamdetect.settings import DecisionSettings
from streamdetect.stages.decision import DecisionStage

SFREQ = 100.0
HOP_S = 0.1
MEMBERS = ("lda", "rf", "lr")


def make_outcome(
    probability: Sequence[float] | np.ndarray,
    events: Sequence[Annotation] = (),
    *,
    detection_times: Sequence[float] = (),
    invalid: slice | None = None,
    event: str = "movement",
    name: str = "run 1",
) -> Outcome:
    """One decision each 0.1 s, the first at 0 s, about one event; detections as given, members as the vote."""
    column = np.array(probability, dtype=np.float32)[:, None]
    quality = np.zeros(len(column), dtype=np.uint8)
    if invalid is not None:
        quality[invalid] = Quality.LOST
        column[invalid] = np.nan
    samples = np.arange(len(column)) * round(HOP_S * SFREQ)
    decisions = Decisions(
        event_names=(event,),
        samples=samples,
        times=samples / SFREQ,
        quality=quality,
        probability=column,
        members=dict.fromkeys(MEMBERS, column),
        detections=tuple(Detection(event, round(time * SFREQ), time, 1.0) for time in detection_times),
    )
    return Outcome(name, decisions, {event: tuple(events)}, HOP_S)


def simulate_outcomes(
    event_names: Sequence[str] = ("HandStart", "Grasp", "LiftOff"),
    *,
    n_recordings: int = 3,
    seconds: float = 240.0,
    settings: DecisionSettings | None = None,
    seed: int = 0,
) -> list[Outcome]:
    """Recordings with a trial about every 8 s, decided upon by a middling detector."""
    settings = settings or DecisionSettings(threshold=0.7, dwell_samples=20, refractory_samples=100)
    rng = np.random.default_rng(seed)
    outcomes = []
    for index in range(n_recordings):
        samples = np.arange(round(seconds / HOP_S)) * round(HOP_S * SFREQ)
        times = samples / SFREQ
        starts = np.arange(4.0, seconds - 6, 8.0)
        starts += rng.uniform(-1.5, 1.5, len(starts))
        events = {
            name: tuple(Annotation(float(start) + 1.2 * place, 0.0, name) for start in starts)
            for place, name in enumerate(event_names)
        }
        quality = np.zeros(len(times), dtype=np.uint8)
        quality[: round(2 / HOP_S)] = Quality.WARM_UP
        columns: dict[str, list[np.ndarray]] = {member: [] for member in MEMBERS}
        for name in event_names:
            evidence = np.convolve(2.2 * label_times(times, events[name]), [0, 0, 0.4, 0.8, 0.4], mode="same")
            for member, noise in zip(MEMBERS, (0.9, 1.3, 1.0), strict=True):
                slow = np.convolve(rng.standard_normal(len(times)), np.ones(4) / 2, mode="same")
                columns[member].append(1 / (1 + np.exp(1.5 - evidence - noise * slow)))
        members = {member: np.stack(each, axis=1).astype(np.float32) for member, each in columns.items()}
        for values in members.values():
            values[quality > 0] = np.nan
        vote = np.mean(list(members.values()), axis=0, dtype=np.float32)
        decisions = Decisions(tuple(event_names), samples, times, quality, vote, members)
        stage = DecisionStage((settings,) * len(event_names))
        outcomes.append(Outcome(f"series {index + 1}", stage.process(decisions), events, HOP_S))
    return outcomes
