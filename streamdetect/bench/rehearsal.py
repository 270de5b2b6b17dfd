"""Whole sessions on a recording with faults: over LSL, or with neither network nor waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamdetect.chunk import Chunk
from streamdetect.decisions import Decisions, join
from streamdetect.detector import Detector
from streamdetect.errors import StreamdetectError, StreamError
from streamdetect.monitor import monitor
from streamdetect.player import PlayableRecording, PlaySummary, play
from streamdetect.settings import to_samples
from streamdetect.sinks.journal import Journal, read_journal
from streamdetect.sources.fault_plan import FaultPlan
from streamdetect.sources.faults import Delivery, Reopening, apply_faults
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import local_clock
from streamdetect.status import MonitorSummary, Status

_BLOCK_S = 1.0  # of the recording, taken at once
_READ_S = 0.04
_SPEED = 20.0
_LONGEST_SILENCE_S = 20.0  # a receiver finds a stream that has restarted in 2 to 6 s


class RehearsedSource:
    """Gives a recording with the faults of a plan, read by read; a `streamdetect.sources.live.LiveSource`.

    Parameters
    ----------
    recording : PlayableRecording
        The recording.
    plan : FaultPlan
        What goes wrong.
    read_samples : int
        Samples a read, at most.
    start_time : float
        Time stamp of the first sample in s.

    Attributes
    ----------
    info : StreamInfo
        Channels and sampling rate.
    n_sent, n_lost, n_sent_again : int
        Samples given so far, each once; those left out between them; those given a second time.

    Notes
    -----
    A restart shows in the time stamps alone, but for one with other channels, which is the error that a live source
    makes of it. After the last sample reads are empty.
    """

    def __init__(
        self, recording: PlayableRecording, plan: FaultPlan, *, read_samples: int, start_time: float = 10_000.0
    ) -> None:
        self.info = recording.info
        self.unit: str | None = None
        self.time_correction: float | None = 0.0
        self.seconds_since_last_sample = 0.0
        self.n_sent = self.n_lost = self.n_sent_again = 0
        self._start_time = self._now = start_time
        self._gaps = GapMarker(self.info.sfreq)
        self._reads = self._read_all(apply_faults(plan, _read_blocks(recording), self.info), read_samples)

    def clock(self) -> float:
        """Return the time that it is for the source, in s: when its last sample was due, or later."""
        return self._now

    @property
    def n_repeated(self) -> int:
        """Samples left out because they had come before."""
        return self._gaps.n_repeated

    def read(self, timeout_s: float) -> list[Chunk]:
        """Return the next samples; at the end nothing, as after a wait of ``timeout_s``."""
        chunks = next(self._reads, None)
        if chunks is None:
            self._now += timeout_s
            self.seconds_since_last_sample += timeout_s
            return []
        return chunks

    def _read_all(self, steps: Iterator[Delivery | Reopening], read_samples: int) -> Iterator[list[Chunk]]:
        for step in steps:
            if isinstance(step, Reopening):
                if step.ch_names != self.info.ch_names:
                    raise StreamError(f"stream {self.info.name!r} came back with other channels")
                continue
            whole = step.chunk
            self.n_lost += whole.n_lost
            for start in range(0, whole.n_times, read_samples):
                part = slice(start, start + read_samples)
                n_times = len(step.stamps[part])
                self._now = self._start_time + step.due - (whole.n_times - start - n_times) / self.info.sfreq
                if step.repeated:
                    self.n_sent_again += n_times
                else:
                    self.n_sent += n_times
                yield self._gaps.mark(whole.data[:, part], self._start_time + step.stamps[part])


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """A session on a recording with faults, and what is true of it.

    Parameters
    ----------
    n_sent, n_lost, n_repeated : int
        What was sent, each sample once; what was left out between that; what was sent a second time.
    summary : MonitorSummary or None
        What the session said in the end; None where an error ended it.
    error : StreamdetectError or None
        That error.
    records : list of dict
        The journal.
    statuses : list of Status
        How the session stood, about four times a second.
    """

    n_sent: int
    n_lost: int
    n_repeated: int
    summary: MonitorSummary | None
    error: StreamdetectError | None
    records: list[dict[str, Any]]
    statuses: list[Status]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's records of a type."""
        return [record for record in self.records if record["type"] == kind]


def rehearse(recording: PlayableRecording, plan: FaultPlan, detector: Detector, journal_path: Path) -> Rehearsal:
    """Run a session in this process, as fast as it goes.

    Parameters
    ----------
    recording : PlayableRecording
        The detector's channels in its order.
    plan : FaultPlan
        What goes wrong.
    detector : Detector
        Starts from its first state.
    journal_path : Path
        A file to make.

    Returns
    -------
    Rehearsal
    """
    source = RehearsedSource(recording, plan, read_samples=to_samples(_READ_S, recording.info.sfreq))
    summary, error = None, None
    statuses: list[Status] = []
    with closing(Journal(journal_path)) as journal:
        try:
            summary = monitor(
                source,
                detector,
                journal=journal,
                clock=source.clock,
                idle_timeout_s=_BLOCK_S,
                on_status=statuses.append,
            )
        except StreamdetectError as caught:
            error = caught
    counts = (source.n_sent, source.n_lost, source.n_sent_again)
    return Rehearsal(*counts, summary, error, list(read_journal(journal_path)), statuses)


def rehearse_live(
    recording: PlayableRecording, plan: FaultPlan, detector: Detector, journal_path: Path, name: str
) -> Rehearsal:
    """Run a session over LSL, with a recording that is played twenty times as fast as it was made.

    Parameters
    ----------
    recording, plan, detector, journal_path
        As for `rehearse`; the recording's channels may be more than the detector's, in any order.
    name : str
        Name of the stream.

    Returns
    -------
    Rehearsal
    """
    played: list[PlaySummary] = []
    is_over, stop_playing = threading.Event(), threading.Event()
    n_to_come = sum(
        each.chunk.n_times
        for each in apply_faults(plan, _read_blocks(recording), recording.info)
        if isinstance(each, Delivery) and not each.repeated
    )
    options: dict[str, Any] = {"name": name, "speed": _SPEED, "dtype": "float64", "plan": plan, "linger_s": 60.0}
    player = threading.Thread(target=lambda: played.append(play(recording, stop=stop_playing, **options)))
    player.start()
    summary, error = None, None
    statuses: list[Status] = []

    def watch(status: Status) -> None:
        statuses.append(status)
        if status.n_samples >= n_to_come:
            is_over.set()

    try:
        with closing(Journal(journal_path)) as journal, LSLSource(name, detector.ch_names, clock=local_clock) as source:
            summary = monitor(
                source,
                detector,
                journal=journal,
                clock=local_clock,
                idle_timeout_s=_LONGEST_SILENCE_S,
                on_status=watch,
                stop=is_over,
            )
    except StreamdetectError as caught:
        error = caught
    finally:
        stop_playing.set()
        player.join()
    counts = (played[0].n_samples, played[0].n_lost, played[0].n_repeated)
    return Rehearsal(*counts, summary, error, list(read_journal(journal_path)), statuses)


def decide_offline(recording: PlayableRecording, plan: FaultPlan, detector: Detector) -> Decisions:
    """Return what a detector decides on what is sent, each sample once, without a source and without a session."""
    detector.reset()
    return join(
        [
            detector.process(replace(each.chunk, times=each.stamps))
            for each in apply_faults(plan, _read_blocks(recording), recording.info)
            if isinstance(each, Delivery) and not each.repeated
        ]
    )


def _read_blocks(recording: PlayableRecording) -> Iterator[Chunk]:
    return recording.chunks(chunk_samples=to_samples(_BLOCK_S, recording.info.sfreq))
