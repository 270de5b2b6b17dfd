"""Power over the scalp: of each channel, and between the electrodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamdetect.sources.montage import find_electrode, scalp_directions

BANDS = (
    ("1–45 Hz, all", 1.0, 45.0),
    ("4–8 Hz, theta", 4.0, 8.0),
    ("8–13 Hz, alpha, mu", 8.0, 13.0),
    ("13–30 Hz, beta", 13.0, 30.0),
)
MIN_ELECTRODES = 4  # fewer make no map
GRID_SIZE = 64
EDGE_RADIUS = 1.32  # of the head that is drawn; Fpz, T7, Oz and T8 are at 1, and the lowest electrodes inside it
_LOWEST_POWER = 1e-3  # µV²: what a flat channel is shown as


def band_power(data: NDArray[np.float64], sfreq: float) -> NDArray[np.float64]:
    """Return the power of each channel in each of `BANDS`.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        Signal in µV, half a second at least; values that are not finite count as 0.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray, shape (n_bands, n_channels), float64
        In dB relative to 1 µV².

    Examples
    --------
    >>> times = np.arange(500) / 500
    >>> band_power(10 * np.sin(2 * np.pi * 10 * times)[None], 500.0)[2].round(1)
    array([17.])
    """
    window = np.hanning(data.shape[1])
    spectrum = np.abs(np.fft.rfft(np.nan_to_num(data, posinf=0.0, neginf=0.0) * window, axis=1)) ** 2
    spectrum *= 2 / (data.shape[1] * np.sum(window**2))
    frequencies = np.fft.rfftfreq(data.shape[1], 1 / sfreq)
    powers = [spectrum[:, (frequencies >= low) & (frequencies <= high)].sum(axis=1) for _, low, high in BANDS]
    return 10 * np.log10(np.maximum(powers, _LOWEST_POWER))


@dataclass(frozen=True, eq=False)
class ScalpGrid:
    """Where the electrodes are on a disc, and how to get from them to the whole of it.

    Parameters
    ----------
    picks : ndarray of int, shape (n_electrodes,)
        The channels whose place is known.
    places : ndarray, shape (n_electrodes, 2), float64
        Seen from above, the nose up.
    weights : ndarray, shape (n_inside, n_electrodes), float64
        From the electrodes' values to the grid's.
    inside : ndarray of bool, shape (GRID_SIZE, GRID_SIZE)
        Which points of the grid are on the head.
    """

    picks: NDArray[np.intp]
    places: NDArray[np.float64]
    weights: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def image(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Interpolate.

        Parameters
        ----------
        values : ndarray, shape (n_channels,), float64
            One a channel.

        Returns
        -------
        ndarray, shape (GRID_SIZE, GRID_SIZE), float32
            NaN outside; never beyond the range of the electrodes' values.
        """
        picked = values[self.picks]
        image = np.full(self.inside.shape, np.nan, np.float32)
        image[self.inside] = np.clip(self.weights @ picked, picked.min(), picked.max())
        return image


def place_electrodes(ch_names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which channels have a known place, and where they are seen from above.

    Examples
    --------
    >>> picks, places = place_electrodes(["EMG", "Cz", "T8"])
    >>> picks.tolist(), (places.round(1) + 0.0).tolist()
    ([1, 2], [[0.0, 0.0], [1.0, 0.0]])
    """
    known = {pick: name for pick, name in enumerate(map(find_electrode, ch_names)) if name is not None}
    if not known:
        return np.empty(0, np.intp), np.empty((0, 2))
    directions = scalp_directions(list(known.values()))
    polar = np.arccos(np.clip(directions[:, 2], -1, 1)) / (np.pi / 2)
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    places = polar[:, None] * np.column_stack((np.cos(azimuth), np.sin(azimuth)))
    return np.array(list(known), np.intp), places


@lru_cache(maxsize=8)
def scalp_grid(ch_names: tuple[str, ...], left_out: frozenset[str] = frozenset()) -> ScalpGrid | None:
    """Make the matrix from the channels to a grid over the head: thin plates through the electrodes' values.

    Parameters
    ----------
    ch_names : tuple of str
        All channels.
    left_out : frozenset of str
        Those that are not to be trusted.

    Returns
    -------
    ScalpGrid or None
        None where fewer than four channels are left whose place is known.
    """
    from scipy.interpolate import RBFInterpolator

    picks, places = place_electrodes(ch_names)
    _, first = np.unique(places.round(6), axis=0, return_index=True)  # two names for one place would make it singular
    kept = [index for index in sorted(first.tolist()) if ch_names[picks[index]] not in left_out]
    picks, places = picks[kept], places[kept]
    if len(picks) < MIN_ELECTRODES or np.linalg.matrix_rank(places - places.mean(axis=0)) < 2:
        return None
    axis = np.linspace(-EDGE_RADIUS, EDGE_RADIUS, GRID_SIZE)
    x, y = np.meshgrid(axis, axis)
    inside = np.hypot(x, y) <= EDGE_RADIUS
    points = np.column_stack((x[inside], y[inside]))
    weights = RBFInterpolator(places, np.eye(len(places)), kernel="thin_plate_spline")(points)
    return ScalpGrid(picks, places, weights, inside)


def head_outline() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the head, the nose and the ears seen from above, NaN between them."""
    angles = np.linspace(0, 2 * np.pi, 121)
    head = np.column_stack((np.cos(angles), np.sin(angles)))
    nose = np.array([(-0.14, 0.990), (0.0, 1.16), (0.14, 0.990)])
    ear = np.array([(0.99, 0.16), (1.04, 0.21), (1.09, 0.16), (1.08, 0.0), (1.09, -0.14), (1.03, -0.21), (0.99, -0.16)])
    gap = np.full((1, 2), np.nan)
    parts = EDGE_RADIUS * np.concatenate((head, gap, nose, gap, ear, gap, ear * (-1, 1)))
    return parts[:, 0], parts[:, 1]
