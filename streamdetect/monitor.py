"""The loop that drives live sessions, one or many, until each has ended."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from operator import attrgetter

from streamdetect.detector import Detector, decide_together
from streamdetect.errors import StreamdetectError
from streamdetect.session import HEALTH_INTERVAL_S, HealthSink, Session, Sink, Watched
from streamdetect.sinks.journal import Journal
from streamdetect.sources.live import LiveSource
from streamdetect.status import MonitorSummary, Status

_READ_TIMEOUT_S = 0.1  # how long a stop may take to be seen
_TOGETHER = 16  # sessions that take a step together; more would make the first of them wait for the last
_POLL_S = 0.001  # at least, between two looks at many streams that all had nothing
_POLL_EACH_S = 0.0001
_STATUS_INTERVAL_S = 0.25
_STATUSES_PER_S = 64  # at most, of many sessions
_SETTLED_TOGETHER = 64  # of so many sessions one settles a round: each does before it must, see `Session.settle`

_log = logging.getLogger(__name__)


def monitor(
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
    on_status: Callable[[Status], None] | None = None,
    stop: threading.Event | None = None,
) -> MonitorSummary:
    """Run a detector on a live source until it ends.

    Parameters
    ----------
    source, detector, sinks, name, source_id, health, journal, watched, clock, duration_s, idle_timeout_s
        As for `streamdetect.session.Session`.
    on_status : callable or None
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
    session = Session(
        source,
        detector,
        sinks,
        name=name,
        source_id=source_id,
        health=health,
        journal=journal,
        watched=watched,
        clock=clock,
        duration_s=duration_s,
        idle_timeout_s=idle_timeout_s,
    )
    show = None if on_status is None else lambda statuses: on_status(statuses[0])
    run_sessions([session], clock=clock, on_status=show, stop=stop)
    if session.error is not None:
        raise session.error
    return session.finish()


def run_sessions(
    sessions: Sequence[Session],
    *,
    clock: Callable[[], float] = time.monotonic,
    on_status: Callable[[Sequence[Status]], None] | None = None,
    stop: threading.Event | None = None,
) -> list[MonitorSummary]:
    """Run sessions until all have ended; each begins here, and has its end written whatever happens.

    Parameters
    ----------
    sessions : sequence of Session
        One or more, each of its own.
    clock : callable
        The local clock in s.
    on_status : callable or None
        Called with the `Status` of each about four times a second; of more than 16 sessions less often.
    stop : threading.Event or None
        Ends all of them, within 0.1 s.

    Returns
    -------
    list of MonitorSummary
        One a session. A session whose stream was lost, or turned into something else, has the error in its ``error``
        and does not disturb the others.

    Notes
    -----
    One thread takes turns. A single session waits in its source for samples; of several, each takes what is there, and
    those that share a model share a run of it. When none had anything, the loop sleeps for 1 ms, or for as long as it
    took to ask them all. A busier loop comes round later and takes more at a time, which costs less for each sample: it
    falls behind only where the core is full.
    """
    stop = stop or threading.Event()
    active, ended = list(sessions), list[Session]()
    timeout_s = _READ_TIMEOUT_S if len(sessions) == 1 else 0.0
    period_s = max(_POLL_S, _POLL_EACH_S * len(sessions))
    teller = None if on_status is None else _Teller(sessions, on_status, clock)
    with ExitStack() as stack, _no_long_collections():
        for session in sessions:
            stack.callback(session.finish)
        for index, session in enumerate(sessions):
            session.begin(HEALTH_INTERVAL_S * index / len(sessions))  # not all in one moment
        while (active or ended) and not stop.is_set():
            had_samples, began = False, clock()
            for start in range(0, len(active), _TOGETHER):
                had_samples |= _step_together(active[start : start + _TOGETHER], timeout_s)
            # What takes long is done for one session, and samples are looked for again.
            if active:
                _look_at_one(active, clock())
            for session in [session for session in active if session.is_over]:
                if session.error is not None and len(sessions) > 1:
                    _log.warning("%s: ended: %s", session.name, session.error)
                active.remove(session)
                ended.append(session)
            if ended:
                ended.pop(0).finish()
            if teller is not None:
                teller.ask_one()
            if len(sessions) == 1:
                sessions[0].settle()
            elif not _settle_some(active):
                left_s = began + period_s - clock()
                if left_s > 0 or not had_samples:
                    stop.wait(max(left_s, _POLL_S))
        for session in active:
            session.end("stopped")
    return [session.finish() for session in sessions]


class _Teller:
    """Asks each session for its status in turn, and tells of all together."""

    def __init__(
        self,
        sessions: Sequence[Session],
        on_status: Callable[[Sequence[Status]], None],
        clock: Callable[[], float],
    ) -> None:
        self._sessions, self._on_status, self._clock = sessions, on_status, clock
        self._interval_s = max(_STATUS_INTERVAL_S, len(sessions) / _STATUSES_PER_S)
        self._due = clock()
        self._found: list[Status] = []

    def ask_one(self) -> None:
        """Ask the next session, where it is time; the last one's answer goes out with all the others."""
        if not self._found:
            now = self._clock()
            if now < self._due:
                return
            self._due = now + self._interval_s
        self._found.append(self._sessions[len(self._found)].status())
        if len(self._found) == len(self._sessions):
            found, self._found = self._found, []
            self._on_status(found)


def _look_at_one(sessions: Sequence[Session], now: float) -> None:
    """Look at the health of the session that has waited longest, where that is due; an error ends the session."""
    session = min(sessions, key=attrgetter("look_due"))
    try:
        session.look(now)
    except StreamdetectError as error:
        session.fail(error)


def _settle_some(sessions: Sequence[Session]) -> bool:
    """Let some sessions do what can wait; say whether there was something to do."""
    n_left = n_most = 1 + len(sessions) // _SETTLED_TOGETHER
    for session in sessions:
        n_left -= session.settle()
        if not n_left:
            break
    return n_left < n_most


def _step_together(sessions: Sequence[Session], timeout_s: float) -> bool:
    """Let each session take the first parts of a step, the same part at a time; say whether any had samples.

    An error ends the session that has it, and no other.
    """
    ready, pairs = [], []
    for session in sessions:
        try:
            if session.read(timeout_s):
                pairs.append(session.compute())
                ready.append(session)
        except StreamdetectError as error:
            session.fail(error)
    decisions = iter(decide_together([pair for each in pairs for pair in each]))
    for session, each in zip(ready, pairs, strict=True):
        try:
            session.tell(list(islice(decisions, len(each))))
        except StreamdetectError as error:
            session.fail(error)
    return bool(ready)


@contextmanager
def _no_long_collections() -> Iterator[None]:
    """Keep what all the libraries made out of the garbage collector's sight.

    A full collection would look at it again, and halt the loop for tens of ms.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
