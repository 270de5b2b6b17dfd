"""A monitor in a process of its own that notes when samples came and when decisions were out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.bench.amplifier import CONNECT_S, LAST_S, READY, pin
from streamdetect.chunk import Chunk
from streamdetect.decisions import Decisions


@dataclass(frozen=True)
class Job:
    """What to monitor.

    Parameters
    ----------
    model : Path
        The model, the same for all streams.
    streams : tuple of str
        Names of the streams; a session, and its outlets, are called ``NAME-monitor``.
    signal_s : float
        How long, in s of signal.
    folder : Path
        Where journals go, and recordings.
    record : bool
        Record each session.
    cores : frozenset of int
        Cores to run on; empty for any.
    realtime : bool
        As ``--realtime``.
    """

    model: Path
    streams: tuple[str, ...]
    signal_s: float
    folder: Path
    record: bool = False
    cores: frozenset[int] = frozenset()
    realtime: bool = False


def session_name(stream: str) -> str:
    """Return what the session on a stream is called."""
    return f"{stream}-monitor"


def run_monitor(pipe: Connection, job: Job) -> None:
    """Run the sessions as ``streamdetect monitor`` does, and send the times through the pipe.

    Sent are, for each stream, ``arrived`` and ``decided``, shape (n, 2): when a read returned, and the time stamp of
    its last sample; when a decision had been handed to the outlets, and its time stamp; then the share of the time for
    which the process had a core.
    """
    pin(job.cores)
    from streamdetect.monitor import run_sessions
    from streamdetect.realtime import claim_realtime
    from streamdetect.sessions import Wish, open_sessions
    from streamdetect.sources.lsl_streams import local_clock

    wishes = [Wish(f"name='{name}'", str(job.model), session_name(name)) for name in job.streams]
    options: dict[str, Any] = {"timeout_s": CONNECT_S, "duration_s": job.signal_s, "idle_timeout_s": CONNECT_S}
    record = job.folder / "session.xdf" if job.record else None
    with open_sessions(wishes, journal=job.folder / "session.jsonl", record=record, **options) as sessions:
        sources, sinks = [], []
        for session in sessions:
            sources.append(_TimedSource(session.source, local_clock))
            sinks.append(_TimedSink(local_clock))
            session.source = sources[-1]
            session.sinks = (*session.sinks, sinks[-1])
        if job.realtime:
            claim_realtime()
        pipe.send(READY)
        started, cpu = time.perf_counter(), time.process_time()
        run_sessions(sessions, clock=local_clock, on_status=lambda statuses: None)
        load = (time.process_time() - cpu) / (time.perf_counter() - started)
        time.sleep(LAST_S)
    pipe.send(([(source.array(), sink.array()) for source, sink in zip(sources, sinks, strict=True)], load))


class _TimedSource:
    """Passes on what a source gives, and notes when."""

    def __init__(self, source: Any, clock: Any) -> None:
        self._source = source
        self._clock = clock
        self._rows: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, timeout_s: float) -> list[Chunk]:
        chunks = self._source.read(timeout_s)
        if chunks:
            self._rows.append((self._clock(), float(chunks[-1].times[-1])))
        return chunks

    def array(self) -> NDArray[np.float64]:
        return np.array(self._rows).reshape(-1, 2)


class _TimedSink:
    """Notes when decisions came, after all other sinks had them."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._rows: list[tuple[float, float]] = []

    def write(self, decisions: Decisions, time_correction: float) -> None:
        if len(decisions):
            now = self._clock()
            self._rows += [(now, when) for when in decisions.times.tolist()]

    def array(self) -> NDArray[np.float64]:
        return np.array(self._rows).reshape(-1, 2)
