"""A running mean and variance of each feature, against drift between and within sessions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from streamdetect.settings import NormaliserSettings
from streamdetect.stages.features import FeatureBlock

VARIANCE_FLOOR = 1e-6  # of the training windows' variance: a feature that stands still is not blown up
OUTLIER = 10.0  # standard deviations; a blink reaches 10, an electrode that comes off 1,000
_ROWS_AT_ONCE = 256  # bounds what is calculated again after an outlier


class Normaliser:
    """Takes off each feature's running mean, and divides by its running standard deviation.

    Parameters
    ----------
    settings : NormaliserSettings
        Time constant, and the mean and variance to begin with.
    hop_s : float
        Seconds between decisions.

    Notes
    -----
    With a = 1 - exp(-hop / time constant), each valid decision moves the mean m and the variance v of a feature x:
    d = x - m, m += a d, v = (1 - a)(v + a d²); it is then normalised with the moved values. Causal, no delay. A value
    more than `OUTLIER` standard deviations from the mean counts as one at that distance: a second of a railed channel
    would else raise v so far that it took ten minutes to come back. A level that stays is reached all the same, for v
    grows with every such value.
    Invalid decisions move nothing and become 0; gaps and restarts of the signal do not reset it, only `reset` does.
    State: m and v of each feature.

    References
    ----------
    Finch 2009, Incremental calculation of weighted mean and variance, eq. 140 and 143 (exponential weights).
    """

    def __init__(self, settings: NormaliserSettings, hop_s: float) -> None:
        self.settings = settings
        self._gain = -math.expm1(-hop_s / settings.time_constant_s)
        self._mean0 = np.array(settings.mean, dtype=np.float64)
        self._variance0 = np.array(settings.variance, dtype=np.float64)
        self._floor = np.where(self._variance0 > 0, VARIANCE_FLOOR * self._variance0, 1.0)
        self.reset()

    def reset(self) -> None:
        """Return to the mean and variance of the training windows."""
        self._mean = self._mean0.copy()
        self._variance = self._variance0.copy()

    def process(self, block: FeatureBlock) -> FeatureBlock:
        """Normalise the features of the next decisions.

        Parameters
        ----------
        block : FeatureBlock
            As the feature stage gives it.

        Returns
        -------
        FeatureBlock
            The same decisions with normalised features, 0 where they are invalid.
        """
        if len(block) == 0:
            return block
        valid = block.quality == 0
        if valid.all():
            return replace(block, values=self._normalise(block.values))
        values = np.zeros_like(block.values)
        if valid.any():
            values[valid] = self._normalise(block.values[valid])
        return replace(block, values=values)

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()

    def _normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        x = values.astype(np.float64)
        normalised = np.empty(x.shape, dtype=np.float32)
        start = 0
        while start < len(x):
            rows = x[start : start + _ROWS_AT_ONCE]
            mean, variance = self._follow(rows)
            mean_before = np.concatenate((self._mean[None], mean[:-1]))
            limit = OUTLIER * np.sqrt(np.maximum(np.concatenate((self._variance[None], variance[:-1])), self._floor))
            outlying = np.flatnonzero((np.abs(rows - mean_before) > limit).any(axis=1))
            n_good = int(outlying[0]) if len(outlying) else len(rows)
            if n_good == 0:
                rows = np.clip(rows[:1], mean_before[:1] - limit[:1], mean_before[:1] + limit[:1])
                mean, variance = self._follow(rows)
                n_good = 1
            mean, variance = mean[:n_good], variance[:n_good]
            deviation = (rows[:n_good] - mean) / np.sqrt(np.maximum(variance, self._floor))
            normalised[start : start + n_good] = deviation
            self._mean, self._variance = mean[-1].copy(), variance[-1].copy()
            start += n_good
        return normalised

    def _follow(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance after each row, from the present ones on."""
        gain, keep = self._gain, 1.0 - self._gain
        mean, _ = signal.lfilter([gain], [1.0, -keep], x, axis=0, zi=keep * self._mean[None])
        deviation = x - np.concatenate((self._mean[None], mean[:-1]))
        variance, _ = signal.lfilter(
            [gain * keep], [1.0, -keep], deviation * deviation, axis=0, zi=keep * self._variance[None]
        )
        return mean, variance
