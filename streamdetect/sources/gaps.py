"""Lost samples, seen from the time stamps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk

# Amplifier drivers stamp blocks of samples when they arrive: that jitter is a few ms to tens of ms, and a block whose
# samples all carry the same time looks like a gap of the block's length, rarely above 60 ms. LSL runs over TCP and
# loses nothing in between: what it does lose, in a reconnection or a full buffer, is half a second and more.
JITTER_TOLERANCE_S = 0.1
# Longer than this a clock was set or a computer restarted: the difference of two time stamps no longer counts samples.
# LSL's buffers hold 360 s by default, so no overflow alone reaches it.
LONGEST_GAP_S = 600.0


class GapMarker:
    """Split blocks of samples where their time stamps say that samples are missing.

    Parameters
    ----------
    sfreq : float
        Nominal sampling rate in Hz.
    tolerance_s : float
        How far in s a time stamp may lie from one sample after the one before it, to either side; at least half a
        sample is allowed.

    Notes
    -----
    Adds no delay. The state is the last time stamp: the chunks differ with how the blocks are cut, the marks do not.
    A true rate that differs from the nominal one is no gap, for only neighbouring time stamps are compared.

    Examples
    --------
    >>> marker = GapMarker(sfreq=10.0)
    >>> [chunk.n_lost for chunk in marker.mark(np.zeros((1, 4)), np.array([0.0, 0.1, 0.5, 0.6]))]
    [0, 3]
    >>> [chunk.restart for chunk in marker.mark(np.zeros((1, 2)), np.array([0.0, 0.1]))]
    [True]
    """

    def __init__(self, sfreq: float, tolerance_s: float = JITTER_TOLERANCE_S) -> None:
        self._sfreq = sfreq
        self._tolerance_s = max(tolerance_s, 0.5 / sfreq)
        # In whole samples: a gap that was marked is marked again when its samples are played at the nominal rate.
        self._tolerance_samples = round(tolerance_s * sfreq)
        self.reset()

    def reset(self) -> None:
        """Forget the last time stamp: the next sample is the first of a stream."""
        self._last_time: float | None = None

    def mark(self, data: NDArray[np.float64], times: NDArray[np.float64]) -> list[Chunk]:
        """Return the block as chunks, a new one after each gap.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64
            Signal in volts.
        times : ndarray, shape (n_times,), float64
            Time stamp of each sample in s.

        Returns
        -------
        list of Chunk
            Views of the block, in order; empty for an empty block. ``n_lost`` is the gap in samples of the nominal
            rate; ``restart`` is set instead where the clock went back, jumped ahead by more than 10 minutes or is not
            finite.
        """
        if data.shape[1] != len(times):
            raise ValueError(f"data has {data.shape[1]} samples, times has {len(times)}")
        if not len(times):
            return []
        if self._is_regular(times):  # nearly always, and four times as fast as the look at each sample below
            self._last_time = float(times[-1])
            return [Chunk(data, times)]
        expected_last = times[0] - 1.0 / self._sfreq if self._last_time is None else self._last_time
        gap_s = np.diff(times, prepend=expected_last) - 1.0 / self._sfreq
        if self._last_time is None:
            gap_s[0] = 0.0
        self._last_time = float(times[-1])

        restarts = ~((gap_s >= -self._tolerance_s) & (gap_s <= LONGEST_GAP_S))  # written so that NaN is a restart too
        n_lost = np.rint(np.where(restarts, 0.0, gap_s) * self._sfreq).astype(np.int64)
        n_lost[n_lost <= self._tolerance_samples] = 0
        starts = [0, *(1 + np.flatnonzero(restarts[1:] | (n_lost[1:] > 0))).tolist(), len(times)]
        return [
            Chunk(data[:, start:stop], times[start:stop], n_lost=int(n_lost[start]), restart=bool(restarts[start]))
            for start, stop in pairwise(starts)
        ]

    def _is_regular(self, times: NDArray[np.float64]) -> bool:
        """Say whether no step between neighbouring time stamps is worth a mark; NaN is."""
        shortest, longest = 1.0 / self._sfreq - self._tolerance_s, (self._tolerance_samples + 1.49) / self._sfreq
        first_step = longest if self._last_time is None else float(times[0]) - self._last_time
        if not shortest <= first_step <= longest:
            return False
        if len(times) == 1:
            return True
        steps = times[1:] - times[:-1]
        return bool(steps.min() >= shortest and steps.max() <= longest)
