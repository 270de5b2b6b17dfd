"""A recording through the detector, as fast as the machine can: the same objects as live, fed larger chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Quality
from streamdetect.decisions import Decisions, Detection
from streamdetect.detector import Detector
from streamdetect.errors import InputError
from streamdetect.sinks.journal import read_journal

if TYPE_CHECKING:
    from streamdetect.sources.recording import Recording


def replay(recording: Recording, detector: Detector, chunk_samples: int | None = None) -> Iterator[Decisions]:
    """Run a detector over a recording.

    Parameters
    ----------
    recording : Recording
        Read chunk by chunk; channels are found by name.
    detector : Detector
        Reset before the first sample.
    chunk_samples : int or None
        Samples a chunk; the decisions do not depend on it.

    Yields
    ------
    Decisions
        Those of each chunk, in order.

    Raises
    ------
    InputError
        The recording has another sampling rate than the model, or lacks channels.
    """
    detector.check(recording.info)
    detector.reset()
    for chunk in recording.chunks(picks=detector.ch_names, chunk_samples=chunk_samples):
        yield detector.process(chunk)
    yield detector.flush()


@dataclass(frozen=True)
class Comparison:
    """How far a live session and a replay agree.

    Parameters
    ----------
    n_decisions : int
        Decisions in the journal.
    n_replayed : int
        Decisions in the replay; more where the session began later or ended earlier than the recording.
    n_different : int
        Decisions and detections, between the session's first and last, that one of the two lacks or has otherwise.
    first : str
        The first of them, in words; empty where all are equal.
    """

    n_decisions: int
    n_replayed: int
    n_different: int
    first: str


def compare_with_journal(decisions: Decisions, path: str | Path) -> Comparison:
    """Compare decisions with those of a live session, bit for bit.

    Parameters
    ----------
    decisions : Decisions
        Of a replay of the recording that was played.
    path : str or Path
        The session's journal.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The file is no journal, holds no decisions, or its events are others.
    """
    live = read_decisions(path)
    if live.event_names != decisions.event_names:
        raise InputError(
            f"{path}: its events are {', '.join(live.event_names)}, the model's {', '.join(decisions.event_names)}"
        )
    places = np.searchsorted(decisions.samples, live.samples)
    known = (places < len(decisions)) & (decisions.samples[np.minimum(places, len(decisions) - 1)] == live.samples)
    mine = places[known]
    equal = (live.probability[known] == decisions.probability[mine]) | (
        np.isnan(live.probability[known]) & np.isnan(decisions.probability[mine])
    )
    same = np.zeros(len(live), dtype=bool)
    same[known] = (live.quality[known] == decisions.quality[mine]) & equal.all(axis=1)
    wrong = [
        _describe(int(live.samples[i]), live.probability[i], decisions, int(places[i])) for i in np.flatnonzero(~same)
    ]
    within = (decisions.samples >= live.samples[0]) & (decisions.samples <= live.samples[-1])
    missing = decisions.samples[within & ~np.isin(decisions.samples, live.samples)]
    wrong += [f"sample {sample}: in the replay, not live" for sample in missing.tolist()]
    span = range(int(live.samples[0]), int(live.samples[-1]) + 1)
    replayed = {_key(each) for each in decisions.detections if each.sample in span}
    detected = {_key(each) for each in live.detections}
    wrong += [f"detection {event} at sample {sample}: only once" for event, sample, _ in sorted(replayed ^ detected)]
    return Comparison(len(live), len(decisions), len(wrong), wrong[0] if wrong else "")


def _key(detection: Detection) -> tuple[str, int, float]:
    return detection.event, detection.sample, float(np.float32(detection.probability))


def _describe(sample: int, live: NDArray[np.float32], decisions: Decisions, place: int) -> str:
    there = place < len(decisions) and decisions.samples[place] == sample
    replayed = decisions.probability[place].tolist() if there else "no decision"
    return f"sample {sample}: live {live.tolist()}, replay {replayed}"


def read_decisions(path: str | Path) -> Decisions:
    """Read the decisions of a journal.

    Parameters
    ----------
    path : str or Path
        A journal that `monitor` wrote.

    Returns
    -------
    Decisions
        Times in s after the session's first sample; without members.

    Raises
    ------
    InputError
        The file is no journal, or holds no decisions.
    """
    event_names: tuple[str, ...] = ()
    start = 0.0
    rows, detections = [], []
    try:
        for record in read_journal(path):
            kind = record.get("type")
            if kind == "session":
                event_names = tuple(record["events"])
            elif kind == "start":
                start = record["time"]
            elif kind == "decision":
                probability = [np.nan if record[f"p_{name}"] is None else record[f"p_{name}"] for name in event_names]
                rows.append((record["sample"], record["time"] - start, _QUALITY[record["reason"]], probability))
            elif kind == "detection":
                time = record["time"] - start
                detections.append(Detection(record["event"], record["sample"], time, record["probability"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: a record is not one of a streamdetect journal: {error}") from error
    if not rows:
        raise InputError(f"{path}: no decisions: expected the journal of a monitor session")
    samples, times, quality, probabilities = zip(*rows, strict=True)
    return Decisions(
        event_names,
        np.array(samples, dtype=np.int64),
        np.array(times),
        np.array(quality, dtype=np.uint8),
        np.array(probabilities, dtype=np.float32),
        {},
        tuple(detections),
    )


_QUALITY = {quality.reason: quality for quality in Quality}
