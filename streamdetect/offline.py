"""A recording through the detector, as fast as the machine can: the same objects as live, fed larger chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamdetect.decisions import Decisions, Detection
from streamdetect.detector import Detector
from streamdetect.errors import InputError
from streamdetect.journalled import read_session

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
    n_compared : int
        Decisions of the journal that were compared: all whose samples the recording has.
    n_different : int
        Decisions and detections, between the session's first and last, that one of the two lacks or has otherwise.
    first : str
        The first of them, in words; empty where all are equal.
    """

    n_decisions: int
    n_replayed: int
    n_compared: int
    n_different: int
    first: str


def compare_with_journal(
    decisions: Decisions, path: str | Path, incomparable: Sequence[tuple[int, float]] = ()
) -> Comparison:
    """Compare decisions with those of a live session, bit for bit.

    Parameters
    ----------
    decisions : Decisions
        Of a replay of the recording that was played, or that was made of the session.
    path : str or Path
        The session's journal, which may have been cut short.
    incomparable : sequence of (int, float)
        Spans of samples to leave out: the first, and the one after the last.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The file is no journal, holds no decisions, or its events are others.
    """
    session = read_session(path)
    live = session.decisions
    if live.event_names != decisions.event_names:
        raise InputError(
            f"{path}: its events are {', '.join(live.event_names)}, the model's {', '.join(decisions.event_names)}"
        )
    if not len(decisions):
        return Comparison(len(live), 0, 0, 0, "")
    compared = ~_is_within(live.samples, incomparable)
    places = np.searchsorted(decisions.samples, live.samples)
    known = (places < len(decisions)) & (decisions.samples[np.minimum(places, len(decisions) - 1)] == live.samples)
    mine = places[known]
    equal = (live.probability[known] == decisions.probability[mine]) | (
        np.isnan(live.probability[known]) & np.isnan(decisions.probability[mine])
    )
    same = np.zeros(len(live), dtype=bool)
    same[known] = (live.quality[known] == decisions.quality[mine]) & equal.all(axis=1)
    wrong = [
        _describe(int(live.samples[i]), live.probability[i], decisions, int(places[i]))
        for i in np.flatnonzero(~same & compared)
    ]
    left_out = [*incomparable, *((first, last + 1) for first, last in session.holes)]
    within = (decisions.samples >= live.samples[0]) & (decisions.samples <= live.samples[-1])
    within &= ~_is_within(decisions.samples, left_out)
    missing = decisions.samples[within & ~np.isin(decisions.samples, live.samples)]
    wrong += [f"sample {sample}: in the replay, not live" for sample in missing.tolist()]
    # Cut short after a decision, a journal may lack the detections that it completes.
    stop = int(live.samples[-1]) + session.is_whole
    left_out += [(-1, int(live.samples[0])), (stop, np.inf)]
    replayed, detected = (
        {_key(each) for each in all_of_them if not _is_within(np.array([each.sample]), left_out)[0]}
        for all_of_them in (decisions.detections, live.detections)
    )
    wrong += [f"detection {event} at sample {sample}: only once" for event, sample, _ in sorted(replayed ^ detected)]
    return Comparison(len(live), len(decisions), int(compared.sum()), len(wrong), wrong[0] if wrong else "")


def _is_within(samples: NDArray[np.int64], spans: Sequence[tuple[int, float]]) -> NDArray[np.bool_]:
    within = np.zeros(len(samples), dtype=bool)
    for first, stop in spans:
        within |= (samples >= first) & (samples < stop)
    return within


def _key(detection: Detection) -> tuple[str, int, float]:
    return detection.event, detection.sample, float(np.float32(detection.probability))


def _describe(sample: int, live: NDArray[np.float32], decisions: Decisions, place: int) -> str:
    there = place < len(decisions) and decisions.samples[place] == sample
    replayed = decisions.probability[place].tolist() if there else "no decision"
    return f"sample {sample}: live {live.tolist()}, replay {replayed}"
