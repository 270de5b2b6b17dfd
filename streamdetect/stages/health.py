"""Gaps, non-finite samples and flat channels: what comes out is finite, and says where it must not be trusted."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, Quality
from streamdetect.settings import HealthSettings


def bad_runs(bad: NDArray[np.bool_], carried: int) -> list[tuple[int, int]]:
    """List the runs of bad samples that end inside a block.

    Parameters
    ----------
    bad : ndarray of bool, shape (n,)
        Whether each sample is bad.
    carried : int
        Length of the run that was going on just before the block.

    Returns
    -------
    list of (int, int)
        For each run the index of the first good sample after it, and its whole length.

    Examples
    --------
    >>> bad_runs(np.array([True, False, True, True, False, True]), carried=4)
    [(1, 5), (4, 2)]
    """
    padded = np.concatenate(([carried > 0], bad))
    starts = np.flatnonzero(padded[1:] & ~padded[:-1])
    stops = np.flatnonzero(~padded[1:] & padded[:-1])
    if carried:
        starts = np.concatenate(([-carried], starts))
    return [(int(stop), int(stop - start)) for start, stop in zip(starts, stops, strict=False)]


class Health:
    """Makes every sample finite and says which to trust.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    settings : HealthSettings
        Limits, in samples.

    Notes
    -----
    Lost samples up to ``max_gap_samples`` are put back as zeros of quality `Quality.LOST`, so that the sample grid
    keeps step with time; non-finite values become zero, with quality `Quality.NON_FINITE`. The first good sample after
    a longer run of either starts anew (``restart``). A channel that holds one value for ``flat_samples`` makes samples
    `Quality.FLAT`. Adds no delay; keeps the present run of bad samples, and for each channel the last value and how
    long it has been held.
    """

    def __init__(self, n_channels: int, sfreq: float, settings: HealthSettings) -> None:
        self.n_channels = n_channels
        self.sfreq = sfreq
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything, as before the first sample."""
        self._next_sample = 0
        self._last_time: float | None = None
        self._bad_run = 0
        self._lost = 0  # told of by chunks without samples
        self._restart = False
        self._forget_values()

    def _forget_values(self) -> None:
        self._last_value = np.full((self.n_channels, 1), np.nan)
        self._held = np.zeros(self.n_channels, dtype=np.int64)
        self._longest_held = 0

    def process(self, chunk: Chunk) -> list[Chunk]:
        """Check a chunk.

        Parameters
        ----------
        chunk : Chunk
            The next samples of the source.

        Returns
        -------
        list of Chunk
            The same samples with ``quality`` and ``first_sample`` set, all finite, cut where the signal starts anew.
        """
        lost = self._lost + chunk.n_lost
        restart = self._restart or chunk.restart
        if chunk.n_times == 0:
            self._lost, self._restart = lost, restart
            return []
        self._lost, self._restart = 0, False
        data, times = np.asarray(chunk.data, dtype=np.float64), chunk.times
        n_filled = 0
        if lost and not restart and self._last_time is not None:
            if self._bad_run + lost > self.settings.max_gap_samples:
                restart = True
            else:
                data = np.concatenate((np.full((self.n_channels, lost), np.nan), data), axis=1)
                filled = self._last_time + np.arange(1, lost + 1) / self.sfreq
                times = np.concatenate((filled, times))
                n_filled = lost
        if lost and n_filled == 0:
            restart = True
            self._next_sample += lost
        if restart:
            self._bad_run = 0
            self._forget_values()
        return self._check(data, times, n_filled, restart)

    def flush(self) -> list[Chunk]:
        """Return what is held back: nothing."""
        return []

    def _check(
        self, data: NDArray[np.float64], times: NDArray[np.float64], n_filled: int, restart: bool
    ) -> list[Chunk]:
        n_times = len(times)
        quality = np.zeros(n_times, dtype=np.uint8)
        finite = np.isfinite(data)
        starts_anew: list[int] = []
        if np.count_nonzero(finite) == finite.size:  # a fifth of the time of `all`
            if self._bad_run > self.settings.max_gap_samples:
                starts_anew = [0]
            self._bad_run = 0
        else:
            bad = np.logical_not(finite.all(axis=0))
            data = np.where(finite, data, 0.0)
            quality[bad] = Quality.NON_FINITE
            quality[:n_filled] = Quality.LOST
            runs = bad_runs(bad, self._bad_run)
            starts_anew = [stop for stop, length in runs if length > self.settings.max_gap_samples]
            good = np.flatnonzero(~bad)
            self._bad_run = n_times - 1 - int(good[-1]) if len(good) else self._bad_run + n_times
        self._mark_flat(data, quality)
        first_sample = self._next_sample
        self._next_sample += n_times
        self._last_time = float(times[-1])
        whole = Chunk(data, times, restart=restart, quality=quality, first_sample=first_sample)
        return _cut(whole, starts_anew) if starts_anew else [whole]

    def _mark_flat(self, data: NDArray[np.float64], quality: NDArray[np.uint8]) -> None:
        """Mark samples at which a channel has held its value too long, and remember how long each has."""
        limit = self.settings.flat_samples
        if limit == 0:
            return
        n_times = data.shape[1]
        last = data[:, -1:]
        if self._longest_held + n_times + 1 < limit:  # no channel can be flat yet
            before = data[:, -2:-1] if n_times > 1 else self._last_value
            if (last != before).all():
                self._last_value = last.copy()
                if self._longest_held:
                    self._held[:] = self._longest_held = 0
                return
        changed = np.empty(data.shape, dtype=bool)
        np.not_equal(data[:, :1], self._last_value, out=changed[:, :1])
        np.not_equal(data[:, 1:], data[:, :-1], out=changed[:, 1:])
        positions = np.arange(n_times)
        last_change = np.where(changed, positions, (-1 - self._held)[:, None])
        np.maximum.accumulate(last_change, axis=1, out=last_change)
        held = positions - last_change
        flat = (held + 1 >= limit).any(axis=0)
        quality[flat & (quality == Quality.GOOD)] = Quality.FLAT
        self._last_value = last.copy()
        self._held = held[:, -1].copy()
        self._longest_held = int(self._held.max())


def _cut(chunk: Chunk, starts_anew: list[int]) -> list[Chunk]:
    """Cut a chunk so that each given sample is the first of a piece that starts anew."""
    edges = sorted({0, *starts_anew, chunk.n_times})
    pieces = [chunk.part(start, stop) for start, stop in itertools.pairwise(edges)]
    return [
        replace(piece, restart=True) if start in starts_anew else piece
        for start, piece in zip(edges[:-1], pieces, strict=True)
    ]
