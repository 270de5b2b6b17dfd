"""Average power in a sliding window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, Quality

MICROVOLTS_PER_VOLT = 1e6
POWER_FLOOR_UV2 = 1e-6  # (1 nV)²: far below any amplifier's noise; keeps the logarithm of silence finite


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBlock:
    """Features of consecutive decisions.

    Parameters
    ----------
    samples : ndarray of int64, shape (n,)
        Index of each window's last sample since the start of the stream.
    times : ndarray of float64, shape (n,)
        Time of that sample in s.
    quality : ndarray of uint8, shape (n,)
        `Quality` of the signal that the decision looks back on.
    values : ndarray of float32, shape (n, n_features)
        Average power in µV², or its base-10 logarithm.
    """

    samples: NDArray[np.int64]
    times: NDArray[np.float64]
    quality: NDArray[np.uint8]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices: NDArray[np.int64]) -> FeatureBlock:
        """Return some of the rows, in the order given."""
        return FeatureBlock(self.samples[indices], self.times[indices], self.quality[indices], self.values[indices])


def join(blocks: list[FeatureBlock]) -> FeatureBlock:
    """Join consecutive blocks, at least one."""
    return FeatureBlock(
        *(np.concatenate([getattr(block, name) for block in blocks]) for name in FeatureBlock.__slots__)
    )


class WindowPower:
    """Averages the power of each row over a sliding window, once a hop.

    Parameters
    ----------
    n_rows : int
        Rows of the filtered chunks.
    window_samples, hop_samples : int
        Length of the window, and distance between decisions.
    settling_samples : int
        Samples that the filters before need after a start.
    log : bool
        Take the base-10 logarithm.

    Notes
    -----
    The signal is cut into blocks of one window's length on a fixed grid. A window's sum is a suffix sum of one block
    plus a prefix sum of the next: two additions a sample whatever the hop, the same order of additions however the
    signal is cut into chunks, and no running sum whose rounding errors grow with time. State: one block's powers and
    suffix sums. A decision is valid once ``window_samples + settling_samples`` good samples have passed.
    """

    def __init__(self, n_rows: int, *, window_samples: int, hop_samples: int, settling_samples: int, log: bool) -> None:
        self.n_rows = n_rows
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.warmup_samples = window_samples + settling_samples
        self.log = log
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample is the first of a block and of a hop."""
        self._n_seen = 0
        self._powers = np.zeros((self.n_rows, self.window_samples))  # of the block that is being filled
        self._prefix = np.zeros(self.n_rows)  # their sum so far
        self._suffix = np.zeros((self.n_rows, self.window_samples + 1))  # [k]: the block before, from sample k on
        self._n_good = 0
        self._last_reason = Quality.WARM_UP

    def process(self, chunk: Chunk) -> FeatureBlock:
        """Return the features of the decisions that end in a chunk.

        Parameters
        ----------
        chunk : Chunk
            Filtered samples with their quality, shape (n_rows, n_times), in volts.

        Returns
        -------
        FeatureBlock
        """
        if chunk.restart:
            self.reset()
        assert chunk.quality is not None, "the health stage comes first"
        ends = np.arange((-self._n_seen - 1) % self.hop_samples, chunk.n_times, self.hop_samples)
        quality = self._decision_quality(chunk.quality, ends)
        microvolts = chunk.data * MICROVOLTS_PER_VOLT
        power = self._window_sums(microvolts * microvolts, ends) / self.window_samples
        if self.log:
            power = np.log10(np.maximum(power, POWER_FLOOR_UV2))
        return FeatureBlock(
            samples=chunk.first_sample + ends,
            times=chunk.times[ends],
            quality=quality,
            values=np.ascontiguousarray(power.T, dtype=np.float32),
        )

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()

    def _window_sums(self, powers: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum over the window that ends at each given sample, shape (n_rows, len(ends))."""
        sums = np.empty((self.n_rows, len(ends)))
        start, n_done = 0, 0
        while start < powers.shape[1]:
            position = self._n_seen % self.window_samples
            stop = min(start + self.window_samples - position, powers.shape[1])
            n = stop - start
            prefix = np.empty((self.n_rows, n + 1))
            prefix[:, 0] = self._prefix
            prefix[:, 1:] = powers[:, start:stop]
            np.cumsum(prefix, axis=1, out=prefix)
            n_here = int(np.searchsorted(ends[n_done:], stop))
            if n_here:
                inside = ends[n_done : n_done + n_here] - start + 1
                sums[:, n_done : n_done + n_here] = self._suffix[:, position + inside] + prefix[:, inside]
                n_done += n_here
            self._powers[:, position : position + n] = powers[:, start:stop]
            self._prefix = prefix[:, -1].copy()
            self._n_seen += n
            if position + n == self.window_samples:
                np.cumsum(self._powers[:, ::-1], axis=1, out=self._suffix[:, -2::-1])
                self._prefix = np.zeros(self.n_rows)
            start = stop
        return sums

    def _decision_quality(self, quality: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return why each decision is invalid, and count the good samples on."""
        n_times = len(quality)
        bad = np.flatnonzero(quality)
        if len(bad) == 0:
            n_good = self._n_good + 1 + ends
            reasons = np.where(n_good >= self.warmup_samples, Quality.GOOD, self._last_reason)
            self._n_good += n_times
            return reasons.astype(np.uint8)
        before = np.searchsorted(bad, ends, side="right") - 1  # the last bad sample at or before each decision, or -1
        n_good = np.where(before >= 0, ends - bad[before], self._n_good + 1 + ends)
        last_reason = np.where(before >= 0, quality[bad[before]], self._last_reason)
        self._n_good = n_times - 1 - int(bad[-1])
        self._last_reason = Quality(quality[bad[-1]])
        return np.where(n_good >= self.warmup_samples, Quality.GOOD, last_reason).astype(np.uint8)
