"""How long a decision takes: from an amplifier's push to the arrival of the probability at another program.

Two processes, as a user has them: one pushes a signal over LSL and takes the probabilities back, this one runs the
monitor with all its sinks. Both read the same clock, so that times can be subtracted.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
import uuid
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.detector import Detector, FeaturePipeline
from streamdetect.errors import StreamError
from streamdetect.monitor import monitor
from streamdetect.settings import to_samples
from streamdetect.sinks.journal import Journal
from streamdetect.sinks.lsl import MarkerOutlet, ProbabilityOutlet, SignalOutlet
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_config import own_lsl_session
from streamdetect.sources.lsl_streams import local_clock, resolve_stream

_CONNECT_S = 30.0
_LAST_DECISION_S = 2.0  # how long the last one may take
_EEG_V = 1e-5


def measure_latency(
    model_path: str | Path, *, seconds: float = 20.0, chunk_s: float = 0.02, settle_s: float = 2.0
) -> dict[str, float]:
    """Measure the time from push to decision on this machine.

    Parameters
    ----------
    model_path : path
        Model to run; its channels and sampling rate are those of the signal.
    seconds : float
        How long to measure, in s.
    chunk_s : float
        Signal in each push, in s.
    settle_s : float
        Decisions of the first seconds after the warm-up that do not count, in s.

    Returns
    -------
    dict of str to float
        ``median_ms``, ``p99_ms`` and ``max_ms`` from the start of the push of a decision's last sample to the arrival
        of its probability in the pushing process; ``transport_median_ms`` and ``transport_p99_ms`` from the same start
        to the samples in the monitor; ``n`` decisions.

    Raises
    ------
    StreamError
        The two processes did not find each other.

    Notes
    -----
    Uses an LSL session of its own, unless ``LSLAPICFG`` is set: nobody else on the network sees the streams. LSL must
    not have been used before in this process with other settings.
    """
    detector = Detector.load(model_path)
    metadata = detector.model.metadata
    name = f"latency-{uuid.uuid4().hex}"
    info = StreamInfo(detector.ch_names, metadata.sfreq, name)
    pipeline = FeaturePipeline(len(detector.ch_names), metadata.sfreq, metadata.health, metadata.features)
    ignored_s = pipeline.warmup_samples / metadata.sfreq + settle_s
    with own_lsl_session(), tempfile.TemporaryDirectory() as folder:
        here, there = multiprocessing.Pipe()
        amplifier = multiprocessing.get_context("spawn").Process(
            target=_run_amplifier, args=(there, info, ignored_s + seconds, chunk_s), daemon=True
        )
        amplifier.start()
        try:
            arrivals = _run_monitor(detector, name, ignored_s + seconds, Path(folder) / "journal.jsonl")
            if not here.poll(_CONNECT_S):
                raise StreamError("latency: the pushing process did not answer; is LSL blocked on this machine?")
            pushed, decided = here.recv()
        finally:
            amplifier.join(_LAST_DECISION_S)
            amplifier.terminate()
    first_time = pushed[0, 1] + ignored_s
    transport_ms = _match(pushed, arrivals, 0.5 / metadata.sfreq, first_time)
    total_ms = _match(pushed, decided, 0.5 / metadata.sfreq, first_time)
    return {
        "median_ms": float(np.median(total_ms)),
        "p99_ms": float(np.percentile(total_ms, 99)),
        "max_ms": float(total_ms.max()),
        "transport_median_ms": float(np.median(transport_ms)),
        "transport_p99_ms": float(np.percentile(transport_ms, 99)),
        "n": len(total_ms),
    }


class _TimedSource(LSLSource):
    """Notes when each read returned, and the time stamp of its last sample."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.arrivals: list[tuple[float, float]] = []

    def read(self, timeout_s: float) -> list[Chunk]:
        chunks = super().read(timeout_s)
        if chunks:
            self.arrivals.append((local_clock(), float(chunks[-1].times[-1])))
        return chunks


def _run_monitor(detector: Detector, name: str, signal_s: float, journal_path: Path) -> NDArray[np.float64]:
    """Run a whole session; return when each read came back, and the time stamp of its last sample, shape (n, 2)."""
    metadata = detector.model.metadata
    decisions_per_s = metadata.sfreq / metadata.features.hop_samples
    probabilities = ProbabilityOutlet(f"{name}-probabilities", detector.event_names, decisions_per_s)
    markers = MarkerOutlet(f"{name}-detections")
    with (
        closing(probabilities),
        closing(markers),
        closing(Journal(journal_path)) as journal,
        _TimedSource(name, detector.ch_names, metadata.sfreq, timeout_s=_CONNECT_S, clock=local_clock) as source,
    ):
        monitor(
            source,
            detector,
            (probabilities, markers),
            journal=journal,
            clock=local_clock,
            duration_s=signal_s,
            idle_timeout_s=_CONNECT_S,
        )
        time.sleep(_LAST_DECISION_S / 4)  # the last decision is still on its way
        return np.array(source.arrivals)


def _run_amplifier(pipe: Connection, info: StreamInfo, signal_s: float, chunk_s: float) -> None:
    """Push noise in real time and take the probabilities back; send both sides' times through the pipe."""
    n_block = to_samples(chunk_s, info.sfreq)
    n_blocks = max(1, int(signal_s * info.sfreq / n_block) + 1)
    noise = np.random.default_rng(0).standard_normal((info.n_channels, n_block * 64)) * _EEG_V
    signal = SignalOutlet(info)
    signal.wait_for_consumer(_CONNECT_S)
    inlet = _connect(f"{info.name}-probabilities")
    decided: list[tuple[float, float]] = []
    done = threading.Event()
    receiver = threading.Thread(target=_receive, args=(inlet, decided, done))
    receiver.start()

    pushed = np.empty((n_blocks, 2))
    t0 = local_clock() + chunk_s
    for index in range(n_blocks):
        last = (index + 1) * n_block - 1
        times = t0 + np.arange(last + 1 - n_block, last + 1) / info.sfreq
        block = noise[:, index % 64 * n_block : (index % 64 + 1) * n_block]
        if (remaining := times[-1] - local_clock()) > 0:
            time.sleep(remaining)
        pushed[index] = local_clock(), times[-1]
        signal.push(block, times)
    time.sleep(_LAST_DECISION_S / 4)
    done.set()
    receiver.join()
    pipe.send((pushed, np.array(decided).reshape(-1, 2)))


def _connect(name: str) -> Any:
    import pylsl

    inlet = pylsl.StreamInlet(resolve_stream(name, _CONNECT_S).handle)
    inlet.open_stream(_CONNECT_S)
    return inlet


def _receive(inlet: Any, decided: list[tuple[float, float]], done: threading.Event) -> None:
    while not done.is_set():
        probabilities, times = inlet.pull_chunk(0.1, 1024, min_samples=1, as_numpy=True)
        now = local_clock()
        is_valid = ~np.isnan(probabilities).any(axis=1)
        decided += [(now, when) for when in times[is_valid].tolist()]


def _match(
    pushed: NDArray[np.float64], seen: NDArray[np.float64], tolerance_s: float, first_time: float
) -> NDArray[np.float64]:
    """Return how long after the push that completed it each thing was seen, in ms.

    Parameters
    ----------
    pushed, seen : ndarray, shape (n, 2), float64
        Clock in s, and time stamp in s of a push's last sample or of the thing seen.
    tolerance_s : float
        How far a time stamp may be off.
    first_time : float
        Time stamp before which nothing counts.
    """
    counted = seen[(seen[:, 1] >= first_time) & (seen[:, 1] <= pushed[-1, 1] + tolerance_s)]
    if not len(counted):
        raise StreamError("latency: no valid decision came back; is this machine too busy to measure on?")
    blocks = np.searchsorted(pushed[:, 1], counted[:, 1] - tolerance_s)
    return (counted[:, 0] - pushed[blocks, 0]) * 1000.0
