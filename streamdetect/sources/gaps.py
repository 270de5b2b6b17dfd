"""Lost, repeated and misplaced samples, seen from the time stamps."""

from __future__ import annotations

from collections import deque

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
# Time stamps that have kept to the nominal rate this long, to within this share of a sample, are counted and not
# measured: of those a single missing sample is a gap, and a sample that comes again is told by its time stamp.
REGULAR_S = 1.0
ON_GRID = 0.05
REPEAT_S = 10.0  # how far back a sample is known again: what a driver sends twice comes from its own short buffer


class GapMarker:
    """Split blocks of samples where their time stamps say that samples are missing, and leave out what came before.

    Parameters
    ----------
    sfreq : float
        Nominal sampling rate in Hz.
    tolerance_s : float
        How far in s a time stamp may lie from one sample after the one before it, to either side; at least half a
        sample is allowed.

    Attributes
    ----------
    n_repeated : int
        Samples left out so far, because they had come before.

    Notes
    -----
    Adds no delay. The state is the last time stamp, how many samples were regular, and the samples of the last 10 s:
    the chunks differ with how the blocks are cut, the marks and what is left out do not. A true rate that differs from
    the nominal one is no gap, for only neighbouring time stamps are compared. The rules, for the step from the last
    sample that was kept to the next one:

    - After 1 s of regular time stamps (one nominal sample apart to within 5 %) a step of a whole number of samples is a
      gap of so many less one. At all other times a gap is a step longer than the tolerance: less is jitter.
    - After 1 s of regular time stamps a sample whose time stamp is not newer is left out where the same sample (time
      stamp and all values) came within the last 10 s: it is processed once. Of irregular time stamps two samples may
      well carry one and the same, and all are kept.
    - A step back by more than the tolerance, ahead by more than 10 minutes, or that is not finite, is a restart.

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
        self._period_s = 1.0 / sfreq
        self._tolerance_s = max(tolerance_s, 0.5 / sfreq)
        # In whole samples: a gap that was marked is marked again when its samples are played at the nominal rate.
        self._tolerance_samples = round(tolerance_s * sfreq)
        self._shortest_s = self._period_s - self._tolerance_s
        self._longest_s = (self._tolerance_samples + 1.49) / sfreq
        self._regular_samples = max(2, round(REGULAR_S * sfreq))
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of a stream."""
        self._last_time: float | None = None
        self._n_regular = 0  # steps on the grid up to the last sample
        self._recent: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque()
        self._n_recent = 0  # samples in there
        self._loss_is_known = False
        self.n_repeated = 0

    def expect_loss(self) -> None:
        """Take note that samples were lost just before the next one: its gap is counted, however short."""
        self._loss_is_known = True

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
            Views of the block, in order; empty for an empty block, and where all of it had come before. ``n_lost`` is
            the gap in samples of the nominal rate; ``restart`` is set instead where its length is unknown.
        """
        if data.shape[1] != len(times):
            raise ValueError(f"data has {data.shape[1]} samples, times has {len(times)}")
        chunks: list[Chunk] = []
        n_lost, restart = 0, False  # before the chunk that is being made
        first = at = anew = 0  # its first sample, the present one, and the first after the last restart
        while at < len(times):
            at += self._pass(times[at:])
            if at == len(times):
                break
            n_repeated = self._count_repeated(data[:, anew:], times[anew:], at - anew)
            lost_here, restart_here = (0, False) if n_repeated else self._judge(float(times[at]))
            if n_repeated or lost_here or restart_here:
                if at > first:
                    chunks.append(Chunk(data[:, first:at], times[first:at], n_lost, restart))
                    n_lost, restart = 0, False
                first = at + n_repeated
            if restart_here:
                self._recent.clear()
                self._n_recent = 0
                anew = at
            if lost_here or restart_here:
                n_lost, restart = lost_here, restart_here
            at += n_repeated or 1
        if at > first:
            chunks.append(Chunk(data[:, first:at], times[first:at], n_lost, restart))
        self._remember(data[:, anew:], times[anew:])
        return chunks

    def _pass(self, times: NDArray[np.float64]) -> int:
        """Take samples up to the first whose step has to be judged; return how many."""
        if self._last_time is None:
            self._last_time, self._loss_is_known = float(times[0]), False
            return 1
        if self._loss_is_known:
            return 0
        n = len(times)
        steps = np.empty(n)
        steps[0] = times[0] - self._last_time
        np.subtract(times[1:], times[:-1], out=steps[1:])
        on_grid = np.abs(steps - self._period_s) <= ON_GRID * self._period_s
        if np.count_nonzero(on_grid) == n:  # nearly always
            self._n_regular += n
            self._last_time = float(times[-1])
            return n
        index = np.arange(n)
        n_regular = index - np.maximum.accumulate(np.where(on_grid, -1 - self._n_regular, index))
        before = np.concatenate(([self._n_regular], n_regular[:-1]))
        is_jitter = (steps >= self._shortest_s) & (steps <= self._longest_s)
        judged = ~on_grid & ((before >= self._regular_samples) | ~is_jitter)
        n_passed = int(judged.argmax()) if judged.any() else n
        if n_passed:
            self._n_regular = int(n_regular[n_passed - 1])
            self._last_time = float(times[n_passed - 1])
        return n_passed

    def _judge(self, time: float) -> tuple[int, bool]:
        """Say how many samples were lost before a sample, and whether nothing before may be joined to it."""
        assert self._last_time is not None
        gap_s = time - self._last_time - self._period_s
        n_lost = gap_s * self._sfreq
        is_regular, loss_is_known = self._n_regular >= self._regular_samples, self._loss_is_known
        self._last_time, self._n_regular, self._loss_is_known = time, 0, False
        if not -self._tolerance_s <= gap_s <= LONGEST_GAP_S:  # written so that NaN is a restart too
            return 0, True
        whole = max(0, round(n_lost))
        if is_regular and abs(n_lost - whole) <= ON_GRID:
            self._n_regular = self._regular_samples
            return whole, False
        return (whole, False) if loss_is_known or whole > self._tolerance_samples else (0, False)

    def _count_repeated(self, data: NDArray[np.float64], times: NDArray[np.float64], at: int) -> int:
        """Return how many samples of a block, from a place on, have come before."""
        assert self._last_time is not None
        newest = self._last_time
        if self._n_regular < self._regular_samples or not times[at] <= newest + ON_GRID * self._period_s:
            return 0
        blocks = [*self._recent, (data[:, :at], times[:at])]
        known_times = np.concatenate([each for _, each in blocks])
        places = np.flatnonzero(known_times == times[at]).tolist()
        if not places or times[at] < newest - REPEAT_S:
            return 0
        known = np.concatenate([each for each, _ in blocks], axis=1)
        longest = 0
        for place in places:
            n = min(len(times) - at, known.shape[1] - place)
            before, now = known[:, place : place + n], data[:, at : at + n]
            same = ((before == now) | (np.isnan(before) & np.isnan(now))).all(axis=0)
            same &= known_times[place : place + n] == times[at : at + n]
            longest = max(longest, n if same.all() else int(same.argmin()))
        self.n_repeated += longest
        return longest

    def _remember(self, data: NDArray[np.float64], times: NDArray[np.float64]) -> None:
        """Keep a block for as long as its samples are known again."""
        if len(times):
            self._recent.append((data, times))
            self._n_recent += len(times)
        # By number, and twice as many as fit in: time stamps that stand still must not fill the memory.
        while self._recent and self._n_recent - len(self._recent[0][1]) >= 2 * REPEAT_S * self._sfreq:
            self._n_recent -= len(self._recent.popleft()[1])
