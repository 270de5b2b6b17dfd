"""Processes of a measurement: one that pushes signals over LSL as amplifiers do, and others that are timed.

Times of all processes are of one clock, `local_clock`, so that they can be subtracted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import StreamInfo
from streamdetect.errors import StreamError

CONNECT_S = 60.0  # for everything to find everything else, and for LabRecorder to start
LAST_S = 0.5  # how long what was sent last may be on its way
READY, GO = "ready", "go"


@dataclass(frozen=True, eq=False)
class Feed:
    """What an amplifier process pushes.

    Parameters
    ----------
    streams : tuple of StreamInfo
        One stream each, of the same channels and rate.
    signal : ndarray, shape (n_channels, n_times), float64
        In V, repeated for as long as it takes; each stream begins elsewhere in it.
    signal_s : float
        How long to push, in s.
    chunk_s : float
        Signal in each push, in s.
    answers : str or None
        Name of the stream whose samples are taken back and timed.
    cores : frozenset of int
        Cores to run on; empty for any.
    realtime : bool
        Run before all else: an amplifier is a machine of its own, which no other program delays.
    """

    streams: tuple[StreamInfo, ...]
    signal: NDArray[np.float64]
    signal_s: float
    chunk_s: float
    answers: str | None = None
    cores: frozenset[int] = frozenset()
    realtime: bool = False


@contextmanager
def process(run: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run a function in a fresh process, with a pipe as its first argument; the value is the pipe's other end."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=_run_uninterrupted, args=(run, there, *arguments), daemon=True
    )
    child.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        child.join(2.0)
        child.terminate()
        child.join()


def _run_uninterrupted(run: Callable[..., None], *arguments: Any) -> None:
    """Run a function that Ctrl-C does not reach: the process that started this one ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(*arguments)


def expect(pipe: Connection, timeout_s: float, what: str) -> Any:
    """Return what a process sends.

    Raises
    ------
    StreamError
        It sends nothing in time, or has ended.
    """
    try:
        if pipe.poll(timeout_s):
            return pipe.recv()
    except EOFError as error:
        raise StreamError(f"bench: the {what} has ended; what it wrote above says why") from error
    raise StreamError(f"bench: the {what} did not answer for {timeout_s:g} s; is LSL blocked on this machine?")


def pin(cores: frozenset[int]) -> None:
    """Keep this process, with the threads that it has and those that it will start, on some cores."""
    if cores:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def run_amplifier(pipe: Connection, feed: Feed) -> None:
    """Put the streams on the network, wait for `GO`, push in real time, and send the times through the pipe.

    Sent are ``pushed``, shape (n_streams, n_blocks, 2): when each push began, and the time stamp of its last sample;
    and ``answered``, shape (n, 2): when each sample of ``feed.answers`` arrived that is not NaN, and its time stamp.
    """
    from streamdetect.realtime import claim_realtime
    from streamdetect.sinks.lsl import SignalOutlet
    from streamdetect.sources.lsl_streams import local_clock

    pin(feed.cores)
    if feed.realtime:
        claim_realtime()
    outlets = [SignalOutlet(stream) for stream in feed.streams]
    pipe.send(READY)
    pipe.recv()
    answered: list[tuple[float, float]] = []
    done = threading.Event()
    receiver = None
    if feed.answers is not None:
        receiver = threading.Thread(target=_receive, args=(_connect(feed.answers), answered, done))
        receiver.start()

    sfreq = feed.streams[0].sfreq
    n_block = max(1, round(feed.chunk_s * sfreq))
    n_blocks = int(feed.signal_s * sfreq / n_block) + 1  # the last of them may be cut by a monitor's duration
    rng = np.random.default_rng(0)
    n_positions = feed.signal.shape[1] // n_block
    positions = rng.integers(n_positions, size=len(outlets))
    phases = rng.uniform(0.0, feed.chunk_s, len(outlets))  # amplifiers do not wait for each other
    phases[0] = 0.0
    order = np.argsort(phases)
    pushed = np.empty((len(outlets), n_blocks, 2))
    t0 = local_clock() + 2 * feed.chunk_s
    samples = np.arange(1 - n_block, 1)
    for index in range(n_blocks):
        for stream in order.tolist():
            last_time = t0 + phases[stream] + ((index + 1) * n_block - 1) / sfreq
            start = (positions[stream] + index) % n_positions * n_block
            block = feed.signal[:, start : start + n_block]
            if (remaining := last_time - local_clock()) > 0:
                time.sleep(remaining)
            pushed[stream, index] = local_clock(), last_time
            outlets[stream].push(block, last_time + samples / sfreq)
    time.sleep(LAST_S)
    done.set()
    if receiver is not None:
        receiver.join()
    pipe.send((pushed, np.array(answered).reshape(-1, 2)))
    pipe.poll(CONNECT_S)  # the streams stay until the other side closes


def make_streams(names: Sequence[str], ch_names: Sequence[str], sfreq: float) -> tuple[StreamInfo, ...]:
    """Return the description of a stream for each name."""
    first = StreamInfo(ch_names=tuple(ch_names), sfreq=sfreq, name="")
    return tuple(replace(first, name=name) for name in names)


def make_signal(ch_names: Sequence[str], sfreq: float, seconds: float = 30.0) -> NDArray[np.float64]:
    """Return EEG to push: simulated where its channels and rate are those asked for, else noise.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
        In V.
    """
    from streamdetect.sources.grasp_and_lift import SFREQ, VOLTS_PER_COUNT
    from streamdetect.sources.simulate import simulate_series

    if sfreq == SFREQ:
        series = simulate_series(1, 9, minutes=seconds / 60)
        if set(ch_names) <= set(series.info.ch_names):
            rows = [series.info.ch_names.index(name) for name in ch_names]
            return np.multiply(series.microvolts[rows], VOLTS_PER_COUNT, dtype=np.float64)
    return np.random.default_rng(0).standard_normal((len(ch_names), round(seconds * sfreq))) * 1e-5


def _connect(name: str) -> Any:
    import pylsl

    from streamdetect.sources.lsl_streams import resolve_stream

    inlet = pylsl.StreamInlet(resolve_stream(name, CONNECT_S).handle)
    inlet.open_stream(CONNECT_S)
    return inlet


def _receive(inlet: Any, answered: list[tuple[float, float]], done: threading.Event) -> None:
    from streamdetect.sources.lsl_streams import local_clock

    while not done.is_set():
        values, times = inlet.pull_chunk(0.1, 1024, min_samples=1, as_numpy=True)
        now = local_clock()
        is_valid = ~np.isnan(values).any(axis=1)
        answered += [(now, when) for when in times[is_valid].tolist()]
