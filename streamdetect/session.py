"""One live session: what a source gives goes through the detector to the sinks, and is counted."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from streamdetect.cache_warmer import CacheWarmer
from streamdetect.chunk import Chunk, Quality
from streamdetect.decisions import Decisions, Detection
from streamdetect.detector import Detector, decide_together
from streamdetect.errors import StreamdetectError, StreamError
from streamdetect.pace import Pace
from streamdetect.sinks.journal import Journal
from streamdetect.sources.live import LiveSource
from streamdetect.stages.features import FeatureBlock
from streamdetect.stages.timing import StreamTiming, Timing
from streamdetect.status import EndReason, EventStatus, MonitorSummary, State, Status

SILENT_S = 1.0  # without a sample for this long a session is waiting
HEALTH_INTERVAL_S = 1.0
_CLOCK_INTERVAL_S = 10.0  # of signal, between two records of the clock offset
_N_DETECTIONS = 5  # the latest, for the status

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """What takes decisions live: an LSL outlet, a recorder."""

    def write(self, decisions: Decisions, time_correction: float) -> None:
        """Take the next decisions; ``time_correction`` turns their times into the local clock's."""


class HealthSink(Protocol):
    """What takes the health of a session, about once a second."""

    def push(self, status: Status) -> None:
        """Take how the session stands."""


class Watched(Protocol):
    """What may go wrong without ending the session."""

    @property
    def warning(self) -> str:
        """What is wrong; empty where all is well."""


class Session:
    """A detector on a live source, from `begin` through many a `step` to `finish`.

    Parameters
    ----------
    source : LiveSource
        Connected; delivers the detector's channels in the detector's order.
    detector : Detector
        Starts from its first state.
    sinks : sequence of Sink
        Take the decisions, in this order, before the journal does.
    name : str
        What the session is called; empty for the model's name.
    source_id : callable
        Returns the present source id of the stream.
    health : HealthSink or None
        Gets the status about once a second of the local clock, also while no sample comes, and at the end.
    journal : Journal or None
        Gets the whole session, its end included, whatever ends it.
    watched : mapping of str to Watched
        What else may have a warning, by what it is called.
    clock : callable
        The local clock, in s, that ``source.time_correction`` leads to: `streamdetect.sources.lsl_streams.local_clock`.
    duration_s : float or None
        End after this much signal, in s, lost samples included; None for never.
    idle_timeout_s : float or None
        End when no sample has come for this long, in s of the clock; None for never.

    Attributes
    ----------
    reason : str
        Why it ended or would end now: ``error`` until somebody knows better.
    error : StreamdetectError or None
        What ended it, where that was an error of its own.
    is_over : bool
        Whether it has come to its end.
    look_due : float
        When its health is to be looked at next, in s of the clock.

    Raises
    ------
    InputError
        The source's sampling rate is not the model's.
    """

    def __init__(
        self,
        source: LiveSource,
        detector: Detector,
        sinks: Sequence[Sink] = (),
        *,
        name: str = "",
        source_id: Callable[[], str] = str,
        health: HealthSink | None = None,
        journal: Journal | None = None,
        watched: Mapping[str, Watched] | None = None,
        clock: Callable[[], float] = time.monotonic,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        detector.check(source.info)
        detector.reset()
        self.source, self.detector, self.sinks, self.health = source, detector, sinks, health
        self.name = name or detector.model.metadata.name
        self._source_id = source_id
        self.reason: EndReason = "error"
        self.error: StreamdetectError | None = None
        self.is_over = False
        self._journal = journal
        self._watched = dict(watched or {}) | ({"journal": journal} if journal is not None else {})
        self._clock = clock
        self._sfreq = source.info.sfreq
        n_end = math.inf if duration_s is None else duration_s * self._sfreq
        self._n_end = n_end if math.isinf(n_end) else max(1, round(n_end))
        self._idle_timeout_s = idle_timeout_s
        self._correction = source.time_correction
        self._chunks: list[Chunk] = []  # read last, and to be decided on
        self._arrived_chunks: Sequence[Chunk] = ()  # the same, as they came
        self._arrived = 0.0
        self._timing = StreamTiming(self._sfreq)
        self._measured = Timing()
        self.look_due = clock()
        self._pace = Pace(self.look_due)
        self._warmer = CacheWarmer(detector, clock)
        self._delay_s, self._load = self._pace.measure(self.look_due)

        self._n_samples = self._n_lost = self._n_gaps = self._n_restarts = 0
        self._n_decisions = self._n_invalid = 0
        self._n_detections = dict.fromkeys(detector.event_names, 0)
        self._last_time = math.nan
        self._last_clock_time = -math.inf
        self._last_decisions: Decisions | None = None
        self._detections: deque[Detection] = deque(maxlen=_N_DETECTIONS)
        self._warnings: dict[str, str] = {}
        self._past_warnings: dict[str, str] = {}
        self._channels = detector.channel_states
        self._is_silent = False
        self._is_finished = False

    @property
    def _n_next(self) -> int:
        """Index of the next sample, lost ones counted."""
        return self._n_samples + self._n_lost

    def begin(self, first_look_s: float = 0.0) -> None:
        """Write what the session is; its health is looked at from then on, in s from now, once a second."""
        self.look_due = self._clock() + first_look_s
        _log.info("%s: session on stream %s begins", self.name, self.source.info.name)
        if self._journal is not None:
            model = self.detector.model
            self._journal.session(
                model={"name": model.metadata.name, "sha256": model.sha256},
                stream=self.source.info,
                source_id=self._source_id(),
                unit=self.source.unit,
                event_names=self.detector.event_names,
                thresholds=[float(threshold) for threshold in model.metadata.thresholds],
                started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )

    def step(self, timeout_s: float) -> bool:
        """Take what has arrived, decide and tell; `is_over` is set where that is the end.

        Parameters
        ----------
        timeout_s : float
            The longest to wait for a sample, in s; 0 not to wait.

        Returns
        -------
        bool
            Whether samples were there.

        Raises
        ------
        StreamError
            The source was lost for good.
        """
        if is_there := self.read(timeout_s):
            self.tell(decide_together(self.compute()))
        self.look(self._clock())
        return is_there

    def read(self, timeout_s: float) -> bool:
        """Take what has arrived, the first part of a `step`; say whether samples were there.

        Who waits keeps the caches warm meanwhile.

        Raises
        ------
        StreamError
            The source was lost for good.
        """
        chunks = self._warmer.read(self.source, timeout_s) if timeout_s > 0.0 else self.source.read(0.0)
        if chunks:
            self._arrived, self._arrived_chunks = self._clock(), chunks
            self._chunks = self._cut(chunks)
        elif self._idle_timeout_s is not None and self.source.seconds_since_last_sample > self._idle_timeout_s:
            self.end("idle")
        return bool(chunks)

    def compute(self) -> list[tuple[Detector, FeatureBlock]]:
        """Return the features of what was read, the second part: for `streamdetect.detector.decide_together`."""
        return [(self.detector, self.detector.compute(chunk)) for chunk in self._chunks]

    def tell(self, decisions: Sequence[Decisions]) -> None:
        """Pass on the decisions on what was read, the third part, and count."""
        n_decisions = self._n_decisions
        for chunk, each in zip(self._chunks, decisions, strict=True):
            self._tell(chunk, each)
        done = self._clock()
        self._timing.note(self._arrived_chunks, self._arrived)
        delay_s = None
        if self._n_decisions > n_decisions and self._last_decisions is not None and self._correction is not None:
            delay_s = done - float(self._last_decisions.times[-1]) - self._correction
        self._pace.note(done, done - self._arrived, delay_s)

    def look(self, now: float) -> None:
        """Look at the session's health, the last part of a `step`, once a second of the local clock; it is `now`."""
        if now >= self.look_due:
            self.look_due = now + HEALTH_INTERVAL_S
            self._look(now)

    def settle(self) -> bool:
        """Do what can wait until no samples do; say whether there was something to do."""
        return self.detector.settle()

    def end(self, reason: EndReason) -> None:
        """Note that it is over, and why."""
        self.reason, self.is_over = reason, True

    def fail(self, error: StreamdetectError) -> None:
        """Note that it is over because of an error."""
        self.error = error
        self.end("lost" if isinstance(error, StreamError) else "error")

    def _cut(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks up to the end of the session, which is noted where it is reached."""
        kept = []
        room = self._n_end - self._n_next
        for chunk in chunks:
            room -= chunk.n_lost
            if room < chunk.n_times:
                n_kept = max(0, int(room))
                chunk = replace(chunk, data=chunk.data[:, :n_kept], times=chunk.times[:n_kept])
            room -= chunk.n_times
            if chunk.n_times:
                kept.append(chunk)
            if room <= 0:
                self.end("duration")
                break
        return kept

    def _tell(self, chunk: Chunk, decisions: Decisions) -> None:
        """Tell the sinks first; what is not urgent comes after."""
        for sink in self.sinks:
            sink.write(decisions, self._correction or 0.0)
        if self._correction is None or chunk.n_lost or chunk.restart:  # otherwise once a second
            self._correction = self.source.time_correction
        if self._journal is not None:
            self._record(self._journal, chunk, decisions)
        if self._n_samples and (chunk.n_lost or chunk.restart):
            self._n_gaps += 1
            self._n_restarts += chunk.restart
            what = "the stream began anew" if chunk.restart else f"{chunk.n_lost} samples lost"
            _log.info("%s: %s before sample %d", self.name, what, self._n_next + chunk.n_lost)
        self._n_samples += chunk.n_times
        self._n_lost += chunk.n_lost
        self._last_time = float(chunk.times[-1])
        if len(decisions):
            self._last_decisions = decisions
            self._n_decisions += len(decisions)
            self._n_invalid += int(np.count_nonzero(decisions.quality))
        for detection in decisions.detections:
            self._n_detections[detection.event] += 1
            self._detections.appendleft(detection)
            _log.info("%s: %s, probability %.2f", self.name, detection.event, detection.probability)

    def _record(self, journal: Journal, chunk: Chunk, decisions: Decisions) -> None:
        first_time = float(chunk.times[0])
        sample = self._n_next + chunk.n_lost
        if self._n_samples == 0:
            journal.start(sample=sample, time=first_time)
        elif chunk.n_lost or chunk.restart:
            journal.reset(sample=sample, time=first_time, n_lost=chunk.n_lost, restart=chunk.restart)
        is_due = abs(first_time - self._last_clock_time) >= _CLOCK_INTERVAL_S
        if self._correction is not None and (is_due or chunk.restart):
            journal.clock(time=first_time, time_correction=self._correction)
            self._last_clock_time = first_time
        journal.write(decisions)

    def _look(self, now: float) -> None:
        """Measure what is measured once a second, and pass it on."""
        self._correction = self.source.time_correction
        self._measured = self._timing.measure()
        self._delay_s, self._load = self._pace.measure(now)
        self._look_at_channels()
        self._look_for_warnings()
        is_silent = self.source.seconds_since_last_sample > SILENT_S
        if is_silent != self._is_silent:
            self._is_silent = is_silent
            _log.info("%s: %s", self.name, "no samples, waiting" if is_silent else "samples come again")
        if self.health is not None:
            self.health.push(self.status())

    def _look_at_channels(self) -> None:
        before, self._channels = self._channels, self.detector.channel_states
        for old, new in zip(before, self._channels, strict=True):
            if new == old:
                continue
            words = "+".join(new.reasons) or "good again"
            _log.info("%s: channel %s %s%s", self.name, new.name, words, ", repaired" if new.repaired else "")
            if self._journal is not None:
                self._journal.channel(
                    sample=self._n_next - 1,
                    time=self._last_time,
                    name=new.name,
                    reasons=new.reasons,
                    repaired=new.repaired,
                )

    def _look_for_warnings(self) -> None:
        found = {what: watched.warning for what, watched in self._watched.items()}
        found["timing"] = "; ".join(self._measured.problems)
        for what, text in found.items():
            if text and what not in self._warnings:
                _log.warning("%s: %s: %s", self.name, what, text)
            elif not text and what in self._warnings:
                _log.info("%s: %s: all is well again", self.name, what)
        self._warnings = {what: text for what, text in found.items() if text}
        self._past_warnings |= self._warnings

    def status(self) -> Status:
        """Return how the session stands; timing, delay, load and warnings are as of the last look, once a second.

        Returns
        -------
        Status
        """
        silent_s = self.source.seconds_since_last_sample
        state: State = "waiting" if silent_s > SILENT_S or not self._n_samples else "running"
        latest = self._last_decisions
        thresholds = self.detector.model.metadata.thresholds.tolist()
        probability = [math.nan] * len(thresholds) if latest is None else latest.probability[-1].tolist()
        events = zip(self.detector.event_names, thresholds, probability, strict=True)
        return Status(
            state="ended" if self._is_finished else state,
            name=self.name,
            stream=self.source.info.name,
            source_id=self._source_id(),
            time=self._last_time + (self._correction or 0.0) if self._n_samples else None,
            seconds=self._n_next / self._sfreq,
            sfreq=self._sfreq,
            effective_sfreq=self._measured.effective_sfreq,
            jitter_s=self._measured.jitter_s,
            n_samples=self._n_samples,
            n_lost=self._n_lost,
            n_repeated=self.source.n_repeated,
            n_gaps=self._n_gaps,
            n_restarts=self._n_restarts,
            n_clock_jumps=self._timing.n_clock_jumps,
            seconds_since_last_sample=silent_s,
            delay_s=self._delay_s,
            load=self._load,
            n_decisions=self._n_decisions,
            n_invalid=self._n_invalid,
            reason="" if latest is None else Quality(latest.quality[-1]).reason,
            events={event: EventStatus(limit, value, self._n_detections[event]) for event, limit, value in events},
            detections=tuple((one, (self._n_next - 1 - one.sample) / self._sfreq) for one in self._detections),
            channels=self._channels,
            warnings=tuple(f"{what}: {text}" for what, text in self._warnings.items()),
        )

    def finish(self) -> MonitorSummary:
        """Write the end, with `reason`, unless that was done; return what the session was.

        Returns
        -------
        MonitorSummary
            With the warnings as they are now: closing a recorder may bring one.
        """
        if not self._is_finished:
            self._is_finished = True
            if self._journal is not None:
                self._look_at_channels()  # which may write, too
                summary = self._summarise()
                counts = {name: getattr(summary, name) for name in summary.__slots__ if name != "reason"}
                self._journal.end(reason=self.reason, **counts)
            self._look(self._clock())
            _log.info("%s: session ends: %s", self.name, self.reason)
        self._look_for_warnings()
        return self._summarise()

    def _summarise(self) -> MonitorSummary:
        return MonitorSummary(
            reason=self.reason,
            seconds=self._n_next / self._sfreq,
            n_samples=self._n_samples,
            n_lost=self._n_lost,
            n_repeated=self.source.n_repeated,
            n_gaps=self._n_gaps,
            n_restarts=self._n_restarts,
            n_clock_jumps=self._timing.n_clock_jumps,
            n_decisions=self._n_decisions,
            n_invalid=self._n_invalid,
            detections=dict(self._n_detections),
            delay_s=self._pace.measure_all(),
            warnings=tuple(f"{what}: {text}" for what, text in self._past_warnings.items()),
        )
