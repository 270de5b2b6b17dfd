"""Bad channels made from good ones by spherical splines (Perrin et al. 1989)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.polynomial.legendre import legval
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, Quality
from streamdetect.settings import ChannelHealthSettings

SPLINE_ORDER, N_TERMS = 4, 50  # m, and the terms of the series: MNE's, so that both give the same signal
SMOOTHING = 1e-5  # added to the diagonal; also MNE's
MIN_SOURCES = 4  # a constant and three directions: from fewer channels no map over the head can be drawn
SAMPLES_AT_ONCE = 256  # bounds the memory that a long chunk takes

Directions = tuple[tuple[float, float, float] | None, ...]

_N = np.arange(1, N_TERMS + 1)
_SERIES = np.concatenate(([0.0], (2 * _N + 1) / (_N * (_N + 1.0)) ** SPLINE_ORDER / (4 * np.pi)))  # eq. 3


def spline_weights(sources: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights that make the signal at some places from that at others.

    Parameters
    ----------
    sources : ndarray, shape (n_sources, 3)
        Unit vectors from the centre of the head.
    targets : ndarray, shape (n_targets, 3)
        Likewise.

    Returns
    -------
    ndarray, shape (n_targets, n_sources), float64
        Each row adds up to 1: what all channels share is kept.

    References
    ----------
    Perrin, Pernier, Bertrand, Echallier 1989, doi:10.1016/0013-4694(89)90180-6, eq. 1 to 3.

    Examples
    --------
    >>> around = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    >>> spline_weights(around, np.array([[0.0, 0, 1]])).round(3)
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    n_sources = len(sources)
    system = np.ones((n_sources + 1, n_sources + 1))
    system[:-1, :-1] = legval(sources @ sources.T, _SERIES) + SMOOTHING * np.eye(n_sources)
    system[-1, -1] = 0.0
    wanted = np.ones((n_sources + 1, len(targets)))
    wanted[:-1] = legval(sources @ targets.T, _SERIES)
    return np.asarray(np.linalg.solve(system, wanted)[:-1].T, dtype=np.float64)


@lru_cache(maxsize=64)
def _make_weights(positions: Directions, bad: tuple[int, ...]) -> tuple[list[int], NDArray[np.float64]] | None:
    """Return the channels to take and their weights for each bad channel, or None where a place is not known."""
    sources = [index for index, place in enumerate(positions) if place is not None and index not in bad]
    if len(sources) < MIN_SOURCES or any(positions[index] is None for index in bad):
        return None
    directions = np.array([(0.0, 0.0, 0.0) if place is None else place for place in positions])
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(float).tiny)
    return sources, spline_weights(directions[sources], directions[list(bad)])


class Repair:
    """Puts splines in the place of bad channels, or says that they are too many.

    Parameters
    ----------
    settings : ChannelHealthSettings
        Positions, and how many channels may be repaired.

    Attributes
    ----------
    repaired : tuple of int
        The channels that are repaired now.

    Notes
    -----
    Samples are `Quality.BAD_CHANNELS` while more than ``max_repaired`` channels are bad, a bad one has no known
    position or fewer than four good ones have; nothing is repaired then. Sources are added one after the other, sample
    by sample, so that the sum does not depend on the chunk's length; the weights are cached for each set of channels.

    When the set of repaired channels changes, the signal starts anew (``restart``). The new signal of a channel has
    another level, and filters would carry the step, a thousandfold in a channel that was railed, through windows that
    mix both signals. So filters begin from the steady state of the first sample after the change, and decisions are
    invalid until the warm-up has passed again, as after a gap. No delay; state: the repaired channels.
    """

    def __init__(self, settings: ChannelHealthSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything: no channel is repaired."""
        self.repaired: tuple[int, ...] = ()

    def process(self, chunk: Chunk) -> Chunk:
        """Repair the bad channels of a chunk.

        Parameters
        ----------
        chunk : Chunk
            Finite samples with their quality and their bad channels.

        Returns
        -------
        Chunk
        """
        assert chunk.quality is not None, "the health stage comes first"
        bad = chunk.bad_channels
        if not bad and not self.repaired:
            return chunk
        made = _make_weights(self.settings.positions, bad) if 0 < len(bad) <= self.settings.max_repaired else None
        repaired = bad if made else ()
        if repaired != self.repaired:
            chunk = replace(chunk, restart=True)
            self.repaired = repaired
        if made:
            return replace(chunk, data=_interpolate(chunk.data, bad, *made))
        if bad:
            quality = np.array(chunk.quality)
            quality[quality == Quality.GOOD] = Quality.BAD_CHANNELS
            return replace(chunk, quality=quality)
        return chunk

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()


def _interpolate(
    data: NDArray[np.float64], bad: tuple[int, ...], sources: list[int], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    repaired = data.copy()
    for start in range(0, data.shape[1], SAMPLES_AT_ONCE):
        taken = data[sources, start : start + SAMPLES_AT_ONCE]
        for channel, row in zip(bad, weights, strict=True):
            # A running sum adds in order whatever the shape; a matrix product or a plain sum does not.
            repaired[channel, start : start + SAMPLES_AT_ONCE] = np.add.accumulate(row[:, None] * taken)[-1]
    return repaired
