"""Features of a sliding window: average power, amplitude now and before, and which decisions to trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamdetect.chunk import Chunk, Quality
from streamdetect.settings import AmplitudeSettings, PowerSettings

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
        Powers in µV² or their base-10 logarithm, amplitudes in µV, or either normalised.
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


class HopGrid:
    """Says when decisions are made, and which of them to trust.

    Parameters
    ----------
    hop_samples : int
        Distance between decisions.
    warmup_samples : int
        A decision is valid once so many good samples have passed without a bad one.

    Notes
    -----
    State: samples since the start, good samples since the last bad one, and what was wrong with that.
    """

    def __init__(self, hop_samples: int, warmup_samples: int) -> None:
        self.hop_samples = hop_samples
        self.warmup_samples = warmup_samples
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample is the first of a hop."""
        self._n_seen = 0
        self._n_good = 0
        self._last_reason = Quality.WARM_UP

    def process(self, chunk: Chunk) -> FeatureBlock:
        """Return the decisions that end in a chunk, without a feature.

        Parameters
        ----------
        chunk : Chunk
            Samples with their quality.

        Returns
        -------
        FeatureBlock
        """
        if chunk.restart:
            self.reset()
        assert chunk.quality is not None, "the health stage comes first"
        first = first_end(self._n_seen, self.hop_samples)
        self._n_seen += chunk.n_times
        samples = np.arange(chunk.first_sample + first, chunk.first_sample + chunk.n_times, self.hop_samples)
        return FeatureBlock(
            samples=samples,
            times=chunk.times[first :: self.hop_samples],
            quality=self._decision_quality(chunk.quality, first),
            values=np.empty((len(samples), 0), np.float32),
        )

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()

    def _decision_quality(self, quality: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
        """Return why each decision is invalid, and count the good samples on."""
        n_times = len(quality)
        if not np.count_nonzero(quality):
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


def first_end(n_seen: int, hop_samples: int) -> int:
    """Return the index of the first sample of a chunk that ends a hop, when so many samples came before."""
    return (-n_seen - 1) % hop_samples


class WindowPower:
    """Averages the power of each row over a sliding window, once a hop.

    Parameters
    ----------
    n_rows : int
        Rows of the filtered chunks: filters times channels.
    hop_samples : int
        Distance between decisions.
    settings : PowerSettings
        Length of the window; logarithm or not.

    Notes
    -----
    The signal is cut into blocks of one window's length on a fixed grid. A window's sum is a suffix sum of one block
    plus a prefix sum of the next: two additions a sample whatever the hop, the same order of additions however the
    signal is cut into chunks, and no running sum whose rounding errors grow with time. State: one block's powers and
    suffix sums.
    """

    def __init__(self, n_rows: int, hop_samples: int, settings: PowerSettings) -> None:
        self.n_rows = n_rows
        self.window_samples = settings.window_samples
        self.hop_samples = hop_samples
        self.log = settings.log
        self._uv2_per_sum = MICROVOLTS_PER_VOLT**2 / self.window_samples
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample is the first of a block and of a hop."""
        self._n_seen = 0
        self._powers = np.zeros((self.n_rows, self.window_samples))  # of the block that is being filled
        self._prefix = np.zeros(self.n_rows)  # their sum so far
        self._suffix = np.zeros((self.n_rows, self.window_samples + 1))  # [k]: the block before, from sample k on

    def process(self, chunk: Chunk) -> NDArray[np.float32]:
        """Return the features of the decisions that end in a chunk.

        Parameters
        ----------
        chunk : Chunk
            Filtered samples in volts, shape (n_rows, n_times).

        Returns
        -------
        ndarray of float32, shape (n_decisions, n_rows)
            Average power in µV², or its base-10 logarithm.
        """
        if chunk.restart:
            self.reset()
        sums = self._window_sums(chunk.data * chunk.data, first_end(self._n_seen, self.hop_samples))
        sums *= self._uv2_per_sum
        if self.log:
            np.maximum(sums, POWER_FLOOR_UV2, out=sums)
            np.log10(sums, out=sums)
        return np.ascontiguousarray(sums.T, dtype=np.float32)

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
            np.add.accumulate(prefix, axis=1, out=prefix)
            self._prefix = prefix[:, -1].copy()
            if end < stop:
                n_here = len(range(end, stop, hop))
                suffix = self._suffix[:, position + end - start + 1 : filled + 1 : hop]
                np.add(suffix, prefix[:, end - start :: hop], out=sums[:, n_done : n_done + n_here])
                n_done += n_here
                end += n_here * hop
            self._n_seen += stop - start
            if filled == self.window_samples:
                np.add.accumulate(self._powers[:, ::-1], axis=1, out=self._suffix[:, -2::-1])
                self._prefix = np.zeros(self.n_rows)
            start = stop
        return sums


class DelayedAmplitude:
    """Takes each row's value now and at delays, or the cosine coefficients over them, once a hop.

    Parameters
    ----------
    n_filters, n_channels : int
        Rows of the filtered chunks: filter by filter, within a filter channel by channel.
    hop_samples : int
        Distance between decisions.
    settings : AmplitudeSettings
        Delays and number of coefficients.

    Notes
    -----
    Coefficients are added up delay by delay, so that the sum does not depend on how the signal is cut into chunks.
    Before the first sample the signal is taken to have had that sample's value, as the filters take it. State: the
    filtered signal of the longest delay.
    """

    def __init__(self, n_filters: int, n_channels: int, hop_samples: int, settings: AmplitudeSettings) -> None:
        self.hop_samples = hop_samples
        self._shape = (n_filters, n_channels)
        self._delays = settings.delays_samples
        self._cosines = (
            fft.dct(np.eye(len(self._delays)), norm="ortho", axis=1)[:, : settings.n_cosines]
            if settings.n_cosines
            else None
        )
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample is the first of a hop."""
        self._n_seen = 0
        self._past: NDArray[np.float64] | None = None

    def process(self, chunk: Chunk) -> NDArray[np.float32]:
        """Return the features of the decisions that end in a chunk.

        Parameters
        ----------
        chunk : Chunk
            Filtered samples in volts, shape (n_filters * n_channels, n_times).

        Returns
        -------
        ndarray of float32, shape (n_decisions, n_filters * n_taken * n_channels)
            In µV; filter by filter, within a filter by delay or coefficient, within those channel by channel.
        """
        if chunk.restart:
            self.reset()
        n_past, n_taken = self._delays[-1], len(self._delays) if self._cosines is None else self._cosines.shape[1]
        if chunk.n_times == 0:
            return np.empty((0, self._shape[0] * n_taken * self._shape[1]), np.float32)
        if self._past is None:
            self._past = np.repeat(chunk.data[:, :1], n_past, axis=1)
        signal = np.concatenate((self._past, chunk.data), axis=1)
        self._past = signal[:, signal.shape[1] - n_past :]
        ends = np.arange(n_past + first_end(self._n_seen, self.hop_samples), signal.shape[1], self.hop_samples)
        self._n_seen += chunk.n_times
        values = np.zeros((self._shape[0], n_taken, self._shape[1], len(ends)))
        for index, delay in enumerate(self._delays):
            now = signal[:, ends - delay].reshape(*self._shape, len(ends))
            if self._cosines is None:
                values[:, index] = now
            else:
                values += self._cosines[index][:, None, None] * now[:, None]
        values *= MICROVOLTS_PER_VOLT
        n_features = self._shape[0] * n_taken * self._shape[1]
        return np.ascontiguousarray(values.reshape(n_features, len(ends)).T, dtype=np.float32)

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()
