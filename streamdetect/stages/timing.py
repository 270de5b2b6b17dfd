"""Timing of a live stream, from its time stamps and from when they arrived. It reports, and changes no decision.

================  ===================================================================  ================================
what              how it is measured                                                   reported as a problem
================  ===================================================================  ================================
effective rate    slope of a straight line through the time stamps of the last 10 s    0.5 % off the nominal rate
                  of signal, over the sample index, lost samples counted
jitter            root mean square distance of the time stamps from that line          above 20 ms
clock jump        time stamps go back by more than 0.1 s; or, at a gap, go ahead by    each is counted
                  0.1 s more than the time between the two reads that brought them
lost samples      as the source marked them                                            each is counted
================  ===================================================================  ================================

A gap that comes with an equal pause in what arrives is a loss; one without a pause is a clock that was set. That can
only be told where samples come as fast as they were sampled: a recording that is played faster is not compared with the
local clock. A rate or a jitter is a problem once it was measured over the whole 10 s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk

WINDOW_S = 10.0
RATE_TOLERANCE = 5e-3  # relative: a jitter at its own limit moves the slope over 10 s by less
JITTER_LIMIT_S = 0.02  # one decision at 50 a second; drivers that stamp blocks of 40 ms have 12 ms
JUMP_TOLERANCE_S = 0.1  # as the tolerance of `streamdetect.sources.gaps`
_SHORTEST_S = 2.0  # of signal, for a first measurement
_FASTEST = 1.5  # times real time; above, a recording is being played faster, or a backlog caught up


@dataclass(frozen=True, slots=True)
class Timing:
    """What was measured.

    Parameters
    ----------
    effective_sfreq : float or None
        Samples a second by the time stamps, in Hz; None before 2 s of signal, or where they do not rise.
    jitter_s : float or None
        Root mean square distance of the time stamps from a straight line, in s; None likewise.
    problems : tuple of str
        What is beyond its limit, in words; empty where all is well.
    """

    effective_sfreq: float | None = None
    jitter_s: float | None = None
    problems: tuple[str, ...] = ()


class StreamTiming:
    """Watches the time stamps of one stream.

    Parameters
    ----------
    sfreq : float
        Nominal sampling rate in Hz.

    Attributes
    ----------
    n_clock_jumps : int
        Clock jumps so far.

    Notes
    -----
    Keeps the time stamps of the last 10 s of signal. `note` costs a few µs a read; `measure` some 50 µs, and is meant
    for once a second.

    Examples
    --------
    >>> timing = StreamTiming(sfreq=100.0)
    >>> for n in range(0, 1100, 10):
    ...     timing.note([Chunk(np.zeros((1, 10)), np.arange(n, n + 10) / 99.0)], now=(n + 10) / 99.0)
    >>> timing.measure().problems
    ('rate 99.00 Hz, 1.0 % below the nominal 100 Hz',)
    """

    def __init__(self, sfreq: float) -> None:
        self.sfreq = sfreq
        self.n_clock_jumps = 0
        self._next = 0  # index of the next sample, lost ones counted
        self._last_time = math.nan
        self._last_arrival = math.nan
        self._forget()

    def _forget(self) -> None:
        n_window = round(WINDOW_S * self.sfreq)
        self._times = np.empty(4 * n_window)  # of the samples kept, then room for more
        self._index = np.empty(4 * n_window)  # of each sample, lost ones counted
        self._n_stored = 0
        self._reads: deque[tuple[float, int]] = deque()  # arrival, samples
        self._n_kept = 0

    def note(self, chunks: Sequence[Chunk], now: float) -> None:
        """Take what one read brought.

        Parameters
        ----------
        chunks : sequence of Chunk
            As the source gave them.
        now : float
            When they arrived, in s of the local clock.
        """
        pause_s = now - self._last_arrival
        is_live = any(chunk.n_lost or chunk.restart for chunk in chunks) and self._is_live()
        for chunk in chunks:
            if not chunk.n_times:
                continue
            if chunk.n_lost or chunk.restart:
                step_s = float(chunk.times[0]) - self._last_time - 1.0 / self.sfreq
                self.n_clock_jumps += step_s < -JUMP_TOLERANCE_S or (is_live and step_s > pause_s + JUMP_TOLERANCE_S)
            if chunk.restart:
                self._forget()
            self._next += chunk.n_lost
            self._store(chunk.times)
            self._reads.append((now, chunk.n_times))
            self._next += chunk.n_times
            self._n_kept += chunk.n_times
            self._last_time = float(chunk.times[-1])
        while self._reads and self._n_kept - self._reads[0][1] >= WINDOW_S * self.sfreq:
            self._n_kept -= self._reads.popleft()[1]
        self._last_arrival = now

    def _store(self, times: NDArray[np.float64]) -> None:
        n_times = len(times)
        if self._n_stored + n_times > len(self._times):
            n_needed = self._n_kept + n_times
            room = max(len(self._times), 2 * n_needed)
            for name in ("_times", "_index"):
                kept = getattr(self, name)[self._n_stored - self._n_kept : self._n_stored]
                setattr(self, name, np.concatenate([kept, np.empty(room - len(kept))]))
            self._n_stored = self._n_kept
        stop = self._n_stored + n_times
        self._times[self._n_stored : stop] = times
        self._index[self._n_stored : stop] = np.arange(self._next, self._next + n_times)
        self._n_stored = stop

    def _is_live(self) -> bool:
        """Say whether the last second and more came no faster than it was sampled."""
        if self._n_kept < self.sfreq:
            return False
        (first_arrival, n_first), (last_arrival, _) = self._reads[0], self._reads[-1]
        return self._n_kept - n_first <= _FASTEST * self.sfreq * (last_arrival - first_arrival)

    def measure(self) -> Timing:
        """Measure rate and jitter over the last 10 s of signal.

        Returns
        -------
        Timing
        """
        if self._n_kept < _SHORTEST_S * self.sfreq:
            return Timing()
        kept = slice(self._n_stored - self._n_kept, self._n_stored)
        times, index = self._times[kept], self._index[kept]
        x, y = index - index.mean(), times - times[0]
        y -= y.mean()
        slope = float(x @ y / (x @ x))
        if not slope > 0:  # written so that NaN is none either
            return Timing()
        effective_sfreq = 1.0 / slope
        jitter_s = float(np.sqrt(np.mean((y - slope * x) ** 2)))
        if self._n_kept < WINDOW_S * self.sfreq:
            return Timing(effective_sfreq, jitter_s)
        problems = []
        excess = effective_sfreq / self.sfreq - 1.0
        if abs(excess) > RATE_TOLERANCE:
            side = "above" if excess > 0 else "below"
            problems.append(
                f"rate {effective_sfreq:.2f} Hz, {100 * abs(excess):.1f} % {side} the nominal {self.sfreq:g} Hz"
            )
        if jitter_s > JITTER_LIMIT_S:
            problems.append(f"time stamps jitter by {1000 * jitter_s:.0f} ms")
        return Timing(effective_sfreq, jitter_s, tuple(problems))
