"""A live session: source → detector → sinks."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from streamdetect.chunk import Chunk
from streamdetect.decisions import Decisions, Detection
from streamdetect.errors import StreamError
from streamdetect.sinks.journal import Journal
from streamdetect.sources.live import LiveSource

if TYPE_CHECKING:
    from streamdetect.detector import Detector

_READ_TIMEOUT_S = 0.1  # how long a stop may take to be seen
_RATE_WINDOW_S = 5.0
_STATUS_INTERVAL_S = 0.25
_CLOCK_INTERVAL_S = 10.0  # of signal, between two records of the clock offset
_MAX_DELAYS = 100_000  # the latest, for the summary: half an hour and more

EndReason = Literal["duration", "idle", "stopped", "lost", "error"]


class Sink(Protocol):
    """What takes decisions live: an LSL outlet, a recorder."""

    def write(self, decisions: Decisions, time_correction: float) -> None:
        """Take the next decisions; ``time_correction`` turns their times into the local clock's."""


@dataclass(frozen=True)
class Status:
    """How a session stands.

    Parameters
    ----------
    seconds : float
        Signal so far, in s, lost samples included.
    sfreq : float
        Samples that arrived each second, over the last 5 s.
    probability : dict of str to float
        The latest of each event; NaN where invalid.
    reason : str
        Why the latest decision is invalid; empty where it is valid.
    detection : Detection or None
        The latest.
    detection_age_s : float or None
        Signal since then, in s.
    delay_s : float or None
        From the newest sample to the moment when its decision was out, in s; None before the first sample.
    seconds_since_last_sample : float
        In s of the local clock.
    """

    seconds: float
    sfreq: float
    probability: dict[str, float]
    reason: str
    detection: Detection | None
    detection_age_s: float | None
    delay_s: float | None
    seconds_since_last_sample: float


@dataclass(frozen=True)
class MonitorSummary:
    """What a session was.

    Parameters
    ----------
    reason : {"duration", "idle", "stopped", "lost", "error"}
        Why it ended.
    seconds : float
        Signal, in s, lost samples included.
    n_samples, n_lost, n_gaps : int
        Samples that arrived, samples that did not, and how often some were missing or the clock jumped.
    n_decisions, n_invalid : int
        Decisions, and how many of them were invalid.
    detections : dict of str to int
        How often each event was detected.
    delay_s : dict of str to float or None
        ``median`` and ``p99`` of `Status.delay_s` over the reads; None without samples.
    """

    reason: EndReason
    seconds: float
    n_samples: int
    n_lost: int
    n_gaps: int
    n_decisions: int
    n_invalid: int
    detections: dict[str, int]
    delay_s: dict[str, float | None]


def monitor(
    source: LiveSource,
    detector: Detector,
    sinks: Sequence[Sink] = (),
    *,
    journal: Journal | None = None,
    clock: Callable[[], float] = time.monotonic,
    duration_s: float | None = None,
    idle_timeout_s: float | None = None,
    on_status: Callable[[Status], None] | None = None,
    stop: threading.Event | None = None,
) -> MonitorSummary:
    """Run a detector on a live source until it ends.

    Parameters
    ----------
    source : LiveSource
        Connected; delivers the detector's channels in the detector's order.
    detector : Detector
        Starts from its first state.
    sinks : sequence of Sink
        Take the decisions, in this order, before the journal does.
    journal : Journal or None
        Gets the whole session, its end included, whatever ends it.
    clock : callable
        The local clock, in s, that ``source.time_correction`` leads to: `streamdetect.sources.lsl_streams.local_clock`.
    duration_s : float or None
        End after this much signal, in s, lost samples included; None for never.
    idle_timeout_s : float or None
        End when no sample has come for this long, in s of the clock; None for never.
    on_status : callable
        Called with a `Status` about four times a second, after the sinks.
    stop : threading.Event or None
        Ends the session, within 0.1 s.

    Returns
    -------
    MonitorSummary

    Raises
    ------
    InputError
        The source's sampling rate is not the model's.
    StreamError
        The source was lost for good.
    """
    detector.check(source.info)
    detector.reset()
    session = _Session(source, detector, sinks, journal, clock)
    stop = stop or threading.Event()
    reason: EndReason = "error"
    gc.collect()
    gc.freeze()  # else a full collection halts the loop for tens of ms to look again at what all the libraries made
    try:
        session.begin()
        reason = session.run(duration_s, idle_timeout_s, on_status, stop)
    except StreamError:
        reason = "lost"
        raise
    finally:
        gc.unfreeze()
        summary = session.finish(reason)
    return summary


@dataclass
class _Session:
    """Counts and the latest of everything."""

    source: LiveSource
    detector: Detector
    sinks: Sequence[Sink]
    journal: Journal | None
    clock: Callable[[], float]

    n_samples: int = 0
    n_lost: int = 0
    n_gaps: int = 0
    n_decisions: int = 0
    n_invalid: int = 0
    last_time: float = math.nan
    last_clock_time: float = -math.inf
    last_decisions: Decisions | None = None
    last_detection: Detection | None = None
    arrivals: deque[tuple[float, int]] = field(default_factory=deque)
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_DELAYS))

    def __post_init__(self) -> None:
        self.detections = dict.fromkeys(self.detector.event_names, 0)
        self.sfreq = self.source.info.sfreq
        self.time_correction = self.source.time_correction
        self.started_at = self.clock()

    @property
    def n_next(self) -> int:
        """Index of the next sample, lost ones counted."""
        return self.n_samples + self.n_lost

    def begin(self) -> None:
        if self.journal is not None:
            model = self.detector.model
            self.journal.session(
                model={"name": model.metadata.name, "sha256": model.sha256},
                stream=self.source.info,
                event_names=self.detector.event_names,
                thresholds=[float(threshold) for threshold in model.metadata.thresholds],
                started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )

    def run(
        self,
        duration_s: float | None,
        idle_timeout_s: float | None,
        on_status: Callable[[Status], None] | None,
        stop: threading.Event,
    ) -> EndReason:
        n_end = math.inf if duration_s is None or math.isinf(duration_s) else max(1, round(duration_s * self.sfreq))
        status_due = self.clock()
        while not stop.is_set():
            chunks = self.source.read(_READ_TIMEOUT_S)
            for chunk in chunks:
                room = n_end - self.n_next - chunk.n_lost
                if room < chunk.n_times:
                    n_kept = max(0, int(room))
                    chunk = replace(chunk, data=chunk.data[:, :n_kept], times=chunk.times[:n_kept])
                if chunk.n_times:
                    self.process(chunk)
                if room <= chunk.n_times:
                    return "duration"
            if chunks:
                self.note_arrival(sum(chunk.n_times for chunk in chunks))
            elif idle_timeout_s is not None and self.source.seconds_since_last_sample > idle_timeout_s:
                return "idle"
            if on_status is not None and self.clock() >= status_due:
                status_due = self.clock() + _STATUS_INTERVAL_S
                on_status(self.status())
        return "stopped"

    def process(self, chunk: Chunk) -> None:
        """Decide and tell the sinks; what is not urgent comes after."""
        decisions = self.detector.process(chunk)
        for sink in self.sinks:
            sink.write(decisions, self.time_correction or 0.0)
        self.time_correction = self.source.time_correction
        if self.journal is not None:
            self.record(self.journal, chunk, decisions)
        if self.n_samples and (chunk.n_lost or chunk.restart):
            self.n_gaps += 1
        self.n_samples += chunk.n_times
        self.n_lost += chunk.n_lost
        self.last_time = float(chunk.times[-1])
        if len(decisions):
            self.last_decisions = decisions
            self.n_decisions += len(decisions)
            self.n_invalid += int(np.count_nonzero(~decisions.valid))
        for detection in decisions.detections:
            self.detections[detection.event] += 1
            self.last_detection = detection

    def record(self, journal: Journal, chunk: Chunk, decisions: Decisions) -> None:
        first_time = float(chunk.times[0])
        if self.n_samples == 0:
            journal.start(sample=self.n_next + chunk.n_lost, time=first_time)
        elif chunk.n_lost or chunk.restart:
            journal.reset(
                sample=self.n_next + chunk.n_lost, time=first_time, n_lost=chunk.n_lost, restart=chunk.restart
            )
        is_due = abs(first_time - self.last_clock_time) >= _CLOCK_INTERVAL_S
        if self.time_correction is not None and (is_due or chunk.restart):
            journal.clock(time=first_time, time_correction=self.time_correction)
            self.last_clock_time = first_time
        journal.write(decisions)

    def note_arrival(self, n_samples: int) -> None:
        now = self.clock()
        self.arrivals.append((now, n_samples))
        while self.arrivals[0][0] < now - _RATE_WINDOW_S:
            self.arrivals.popleft()
        self.delays.append(now - self.last_time - (self.time_correction or 0.0))

    def status(self) -> Status:
        latest = self.last_decisions
        last = None if latest is None else list(latest)[-1]
        window_s = min(_RATE_WINDOW_S, max(self.clock() - self.started_at, _READ_TIMEOUT_S))
        detection = self.last_detection
        return Status(
            seconds=self.n_next / self.sfreq,
            sfreq=sum(n for when, n in self.arrivals if when >= self.clock() - _RATE_WINDOW_S) / window_s,
            probability=dict.fromkeys(self.detector.event_names, math.nan) if last is None else last.probability,
            reason="" if last is None else last.reason,
            detection=detection,
            detection_age_s=None if detection is None else (self.n_next - 1 - detection.sample) / self.sfreq,
            delay_s=self.delays[-1] if self.delays else None,
            seconds_since_last_sample=self.source.seconds_since_last_sample,
        )

    def finish(self, reason: EndReason) -> MonitorSummary:
        delays = np.array(self.delays)
        summary = MonitorSummary(
            reason=reason,
            seconds=self.n_next / self.sfreq,
            n_samples=self.n_samples,
            n_lost=self.n_lost,
            n_gaps=self.n_gaps,
            n_decisions=self.n_decisions,
            n_invalid=self.n_invalid,
            detections=dict(self.detections),
            delay_s={
                "median": float(np.median(delays)) if len(delays) else None,
                "p99": float(np.percentile(delays, 99)) if len(delays) else None,
            },
        )
        if self.journal is not None:
            counts = {name: value for name, value in vars(summary).items() if name != "reason"}
            self.journal.end(reason=reason, **counts)
        return summary
