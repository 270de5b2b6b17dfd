"""How many streams one core holds: a monitor of many streams on one core, fed by a process on the others."""

from __future__ import annotations

import math
import os
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.bench.amplifier import CONNECT_S, GO, Feed, expect, make_signal, make_streams, process, run_amplifier
from streamdetect.bench.timed_monitor import Job, run_monitor
from streamdetect.detector import Detector, FeaturePipeline
from streamdetect.errors import InputError
from streamdetect.sources.lsl_config import own_lsl_session

TARGET = 64
_MOST = 512
_OUTLETS_PER_STREAM = 4  # the signal, and a session's three
_N_TRIES = 2  # at each number: on a machine that others share, one pause of theirs makes decisions late
_PRECISION = 1.15  # between the largest number that holds and the smallest that does not


def measure_capacity(
    model_path: Path,
    *,
    seconds: float = 10.0,
    settle_s: float = 2.0,
    chunk_s: float = 0.02,
    first: int = TARGET,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Find how many live streams one core holds with no late decision.

    Parameters
    ----------
    model_path : Path
        The model of every stream; channels and sampling rate are its own.
    seconds : float
        How long to run with each number of streams, in s.
    settle_s : float
        What follows the warm-up and does not count, in s.
    chunk_s : float
        Signal in each push, in s.
    first : int
        How many streams to begin with.
    say : callable
        Called with a line about each run.

    Returns
    -------
    dict
        ``streams``: the largest number that was held, 0 for none; ``runs``, each as `run_streams` returns it; ``late``
        says in words what a late decision is.

    Raises
    ------
    InputError
        This machine lets no process be kept on a core, or has only one.
    StreamError
        The processes did not find each other.

    Notes
    -----
    All sessions have their journal and their outlets, as ``streamdetect monitor`` gives them, with nobody listening.
    The number is doubled until decisions are late, then bisected; one that fails is tried twice.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise InputError("bench --only streams: needs Linux and two cores, one for the monitor and one that feeds it")
    runs: list[dict[str, Any]] = []

    def holds(n_streams: int) -> bool:
        for _ in range(_N_TRIES):
            run = run_streams(model_path, n_streams, cores, seconds=seconds, settle_s=settle_s, chunk_s=chunk_s)
            runs.append(run)
            say(
                f"{n_streams} streams: {run['n_late']} of {run['n_decisions']} decisions late, 99 % within "
                f"{run['p99_ms']:.1f} ms, {100 * run['load']:.0f} % of a core"
            )
            if run["n_late"] == 0:
                return True
        return False

    hop_s = Detector.load(model_path).model.metadata
    late = f"out more than a hop, {1000 * hop_s.features.hop_samples / hop_s.sfreq:g} ms, after its last sample's push"
    return {"streams": find_most(holds, first), "late": late, "runs": runs}


def find_most(holds: Callable[[int], bool], first: int) -> int:
    """Find the largest number that holds, to within 15 %, by doubling and bisecting.

    Parameters
    ----------
    holds : callable
        Says whether a number holds; asked once for each number.
    first : int
        Number to begin with, at least 1.

    Returns
    -------
    int
        0 where not even 1 holds; no more than 512.

    Examples
    --------
    >>> find_most(lambda n: n <= 100, 64)
    96
    """
    low, high = 0, first
    while high <= _MOST and holds(high):
        low, high = high, 2 * high
    while high <= _MOST and high - low > 1 and (low == 0 or high > _PRECISION * low):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def run_streams(
    model_path: Path, n_streams: int, cores: list[int], *, seconds: float, settle_s: float, chunk_s: float
) -> dict[str, Any]:
    """Run a monitor of some streams on the last core, fed from the others.

    Returns
    -------
    dict
        ``n_streams``; ``n_decisions`` that were due; ``n_late`` of them, with the ``n_missing`` that never came;
        ``median_ms``, ``p99_ms`` and ``max_ms`` from push to decision; ``load``, the share of the core that the monitor
        took; ``feeder_late_ms``, by how much the feeding process itself was behind at worst.
    """
    metadata = Detector.load(model_path).model.metadata
    pipeline = FeaturePipeline(len(metadata.ch_names), metadata.sfreq, metadata.health, metadata.features)
    hop_s = metadata.features.hop_samples / metadata.sfreq
    ignored_s = math.ceil((pipeline.warmup_samples / metadata.sfreq + settle_s) / hop_s) * hop_s
    signal_s = ignored_s + seconds
    prefix = f"bench-{uuid.uuid4().hex}"
    names = tuple(f"{prefix}-{index}" for index in range(n_streams))
    with (
        own_lsl_session(_OUTLETS_PER_STREAM * n_streams),
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        streams = make_streams(names, metadata.ch_names, metadata.sfreq)
        signal = make_signal(metadata.ch_names, metadata.sfreq)
        feed = Feed(streams, signal, signal_s, chunk_s, cores=frozenset(cores[:-1]))
        amplifier = stack.enter_context(process(run_amplifier, feed))
        expect(amplifier, CONNECT_S, "amplifier process")
        job = Job(model_path, names, signal_s, Path(folder), cores=frozenset(cores[-1:]))
        monitor = stack.enter_context(process(run_monitor, job))
        expect(monitor, 2 * CONNECT_S, "monitor process")
        amplifier.send(GO)
        pushed, _ = expect(amplifier, CONNECT_S + signal_s, "amplifier process")
        seen, load = expect(monitor, CONNECT_S + signal_s, "monitor process")
    delays = [_delays(pushed[index], decided, hop_s, ignored_s, seconds) for index, (_, decided) in enumerate(seen)]
    delay_s = np.concatenate(delays)
    feeder_late_s = (pushed[..., 0] - pushed[..., 1])[:, 1:].max()
    came = delay_s[np.isfinite(delay_s)]
    return {
        "n_streams": n_streams,
        "n_decisions": len(delay_s),
        "n_late": int(np.count_nonzero(delay_s > hop_s)),
        "n_missing": len(delay_s) - len(came),
        "median_ms": 1000 * float(np.median(came)),
        "p99_ms": 1000 * float(np.percentile(came, 99)),
        "max_ms": 1000 * float(came.max()),
        "load": load,
        "feeder_late_ms": 1000 * float(feeder_late_s),
    }


def _delays(
    pushed: NDArray[np.float64], decided: NDArray[np.float64], hop_s: float, ignored_s: float, seconds: float
) -> NDArray[np.float64]:
    """Return for each decision that was due how long after the push it was out, in s; infinity where it never was."""
    tolerance_s = hop_s / 4
    chunk_s = pushed[1, 1] - pushed[0, 1]
    first_time = pushed[0, 1] - chunk_s + ignored_s + hop_s
    times = decided[:, 1]
    counted = decided[(times >= first_time - tolerance_s) & (times < first_time + seconds - tolerance_s)]
    blocks = np.searchsorted(pushed[:, 1], counted[:, 1] - tolerance_s)
    n_missing = math.floor(seconds / hop_s + 0.25) - len(counted)
    return np.concatenate([counted[:, 0] - pushed[blocks, 0], np.full(max(0, n_missing), np.inf)])
