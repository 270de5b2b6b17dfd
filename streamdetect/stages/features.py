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
        self._uv2_per_sum = MICROVOLTS_PER_VOLT**2 / window_samples
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
        n_times, hop = chunk.n_times, self.hop_samples
        first = (-self._n_seen - 1) % hop  # the first sample that ends a hop
        quality = self._decision_quality(chunk.quality, first)
        sums = self._window_sums(chunk.data * chunk.data, first)
        sums *= self._uv2_per_sum
        if self.log:
            np.maximum(sums, POWER_FLOOR_UV2, out=sums)
            np.log10(sums, out=sums)
        return FeatureBlock(
            samples=np.arange(chunk.first_sample + first, chunk.first_sample + n_times, hop),
            times=chunk.times[first::hop],
            quality=quality,
            values=np.ascontiguousarray(sums.T, dtype=np.float32),
        )

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()

    def _window_sums(self, powers: NDArray[np.float64], end: int) -> NDArray[np.float64]:
        """Return the sum over each window that ends at sample ``end`` or a number of hops later; overwrites powers."""
        n_times, hop = powers.shape[1], self.hop_samples
        sums = np.empty((self.n_rows, len(range(end, n_times, hop))))
        start = n_done = 0
        while start < n_times:
            position = self._n_seen % self.window_samples
            stop = min(start + self.window_samples - position, n_times)
            filled = position + stop - start
            prefix = powers[:, start:stop]
            self._powers[:, position:filled] = prefix
            prefix[:, 0] += self._prefix
            np.cumsum(prefix, axis=1, out=prefix)
            self._prefix = prefix[:, -1].copy()
            if end < stop:
                n_here = len(range(end, stop, hop))
                suffix = self._suffix[:, position + end - start + 1 : filled + 1 : hop]
                np.add(suffix, prefix[:, end - start :: hop], out=sums[:, n_done : n_done + n_here])
                n_done += n_here
                end += n_here * hop
            self._n_seen += stop - start
            if filled == self.window_samples:
                np.cumsum(self._powers[:, ::-1], axis=1, out=self._suffix[:, -2::-1])
                self._prefix = np.zeros(self.n_rows)
            start = stop
        return sums

    def _decision_quality(self, quality: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
        """Return why each decision is invalid, and count the good samples on."""
        n_times = len(quality)
        if not quality.any():
            n_good = self._n_good
            self._n_good += n_times
            if n_good + first + 1 >= self.warmup_samples:
                return quality[first :: self.hop_samples]
            n_good_at = n_good + 1 + np.arange(first, n_times, self.hop_samples)
            return np.where(n_good_at >= self.warmup_samples, Quality.GOOD, self._last_reason).astype(np.uint8)
        ends = np.arange(first, n_times, self.hop_samples)
        bad = np.flatnonzero(quality)
        before = np.searchsorted(bad, ends, side="right") - 1  # the last bad sample at or before each decision, or -1
        n_good_at = np.where(before >= 0, ends - bad[before], self._n_good + 1 + ends)
        last_reason = np.where(before >= 0, quality[bad[before]], self._last_reason)
        self._n_good = n_times - 1 - int(bad[-1])
        self._last_reason = Quality(quality[bad[-1]])
        return np.where(n_good_at >= self.warmup_samples, Quality.GOOD, last_reason).astype(np.uint8)
