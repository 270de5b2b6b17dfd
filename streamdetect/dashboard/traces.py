"""A live signal as a screen can show it: its swing in each pixel column, over the last seconds."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from streamdetect.sources.gaps import GapMarker

WINDOW_S = 10.0  # of signal that the page shows
COLUMNS_PER_S = 80.0  # about one a pixel where the page is 1280 wide
HIGHPASS_HZ = 0.5  # takes the electrodes' offset off, and leaves the slow potentials of a movement
_CLOCK_GAIN = 0.05  # share of the time stamps' deviation that is taken over at each read: evens out their jitter


class BaselineFilter:
    """A first-order high-pass filter for the eyes, started where the signal stands.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    cutoff_hz : float
        Where half of the power is left, in Hz.

    Notes
    -----
    A value that is not finite stays what it is, and the filter goes on as if the last good one had been held.
    """

    def __init__(self, n_channels: int, sfreq: float, cutoff_hz: float = HIGHPASS_HZ) -> None:
        self._n_channels = n_channels
        self._pole = float(np.exp(-2 * np.pi * cutoff_hz / sfreq))
        self.reset()

    def reset(self) -> None:
        """Start again at the next sample."""
        self._state: NDArray[np.float64] | None = None
        self._held = np.zeros(self._n_channels)

    def process(self, data: NDArray[np.float64]) -> NDArray[np.float64]:
        """Filter the next samples.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64

        Returns
        -------
        ndarray, shape (n_channels, n_times), float64
        """
        good = np.isfinite(data)
        filled = data if good.all() else _hold_last(data, good, self._held)
        self._held = filled[:, -1].copy()
        if self._state is None:
            self._state = -filled[:, :1]
        filtered, self._state = lfilter([1.0, -1.0], [1.0, -self._pole], filled, axis=1, zi=self._state)
        return np.where(good, filtered, np.nan)


def _hold_last(data: NDArray[np.float64], good: NDArray[np.bool_], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the last good value of each channel in the place of those that are not finite."""
    padded = np.concatenate((before[:, None], data), axis=1)
    last = np.maximum.accumulate(np.where(good, np.arange(1, data.shape[1] + 1), 0), axis=1)
    return np.take_along_axis(padded, last, axis=1)


class Decimator:
    """Thin a signal to the lowest and the highest value of each column, at even times, with a hole for each gap.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    columns_per_s : float
        Columns for each second of signal; a signal of up to twice this rate passes through as it is.

    Notes
    -----
    Adds up to a column of delay. Each column counts the same number of samples, so that it never changes once it is
    drawn. The state is the unfinished column and the even clock.
    """

    def __init__(self, n_channels: int, sfreq: float, columns_per_s: float = COLUMNS_PER_S) -> None:
        self._sfreq = sfreq
        self._samples_per_column = max(1, round(sfreq / columns_per_s))
        if self._samples_per_column <= 2:
            self._samples_per_column = 1
        self.points_per_s = sfreq if self._samples_per_column == 1 else 2 * sfreq / self._samples_per_column
        self._held = np.empty((n_channels, 0))
        self._next_time: float | None = None  # of the first sample that is held, or to come

    def process(
        self, data: NDArray[np.float64], times: NDArray[np.float64], *, starts_anew: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the points of the columns that are full.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64
            The next samples, at least one.
        times : ndarray, shape (n_times,), float64
            Time of each sample in s.
        starts_anew : bool
            Whether samples are missing before the first.

        Returns
        -------
        times : ndarray, shape (n_points,), float64
            In s.
        points : ndarray, shape (n_channels, n_points), float32
            NaN at a gap.
        """
        hole = starts_anew and self._next_time is not None
        if self._next_time is None or starts_anew:
            self._held = self._held[:, :0]
            self._next_time = float(times[0])
        n_held = self._held.shape[1]
        grid = self._next_time + np.arange(n_held, n_held + len(times)) / self._sfreq
        start = self._next_time + _CLOCK_GAIN * float(np.mean(times - grid))

        samples = np.concatenate((self._held, data), axis=1)
        width = self._samples_per_column
        n_columns = samples.shape[1] // width
        n_used = n_columns * width
        self._held = samples[:, n_used:]
        self._next_time = start + n_used / self._sfreq
        if width == 1:
            points = samples[:, :n_used]
            point_times = start + np.arange(n_used) / self._sfreq
        else:
            points = _extremes(samples[:, :n_used].reshape(len(samples), n_columns, width))
            point_times = start + (np.arange(2 * n_columns) + 0.5) * (width / (2 * self._sfreq))
        if hole:
            points = np.concatenate((np.full((len(samples), 1), np.nan), points), axis=1)
            point_times = np.concatenate(([float(times[0])], point_times))
        return point_times, points.astype(np.float32)


def _extremes(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two points a column: its lowest and highest value, in the order in which the signal goes."""
    low: NDArray[np.float64] = np.fmin.reduce(columns, axis=2)
    high: NDArray[np.float64] = np.fmax.reduce(columns, axis=2)
    rises = columns[:, :, -1] >= columns[:, :, 0]
    pairs = np.stack((np.where(rises, low, high), np.where(rises, high, low)), axis=2)
    return pairs.reshape(len(columns), -1)


class Track:
    """The last seconds of a signal, ready to draw; written by one thread and read by others.

    Parameters
    ----------
    ch_names : sequence of str
        Names of the channels.
    sfreq : float
        Nominal sampling rate in Hz.
    baseline : bool
        Whether to take the slow drift off.

    Attributes
    ----------
    n_samples, n_gaps : int
        Samples since the beginning, and how often some were missing between two of them.
    latest : ndarray, shape (n_channels,), float64
        The newest sample, unfiltered.
    """

    def __init__(self, ch_names: Sequence[str], sfreq: float, *, baseline: bool) -> None:
        self.ch_names = tuple(ch_names)
        self.sfreq = sfreq
        self.n_samples = self.n_gaps = 0
        self.latest = np.full(len(self.ch_names), np.nan)
        self._gaps = GapMarker(sfreq)
        self._filter = BaselineFilter(len(self.ch_names), sfreq) if baseline else None
        self._decimator = Decimator(len(self.ch_names), sfreq)
        self.points_in_window = int(np.ceil(WINDOW_S * self._decimator.points_per_s))
        self._lock = threading.Lock()
        self._times = np.empty(0)
        self._points = np.empty((len(self.ch_names), 0), np.float32)
        self._n_points = 0  # since the beginning
        self._recent: NDArray[np.float64] = np.empty((len(self.ch_names), 0))

    def write(self, data: NDArray[np.float64], times: NDArray[np.float64]) -> None:
        """Take the next samples.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64
            Any unit.
        times : ndarray, shape (n_times,), float64
            Time of each in s.
        """
        for chunk in self._gaps.mark(data, times):
            starts_anew = chunk.restart or chunk.n_lost > 0
            if self._filter is not None and (chunk.restart or chunk.n_lost > self.sfreq):
                self._filter.reset()
            shown = chunk.data if self._filter is None else self._filter.process(chunk.data)
            point_times, points = self._decimator.process(shown, chunk.times, starts_anew=starts_anew)
            self.n_gaps += starts_anew
            self.n_samples += chunk.n_times
            with self._lock:
                self._times = np.concatenate((self._times, point_times))[-self.points_in_window :]
                self._points = np.concatenate((self._points, points), axis=1)[:, -self.points_in_window :]
                self._n_points += len(point_times)
                self._recent = np.concatenate((self._recent, shown), axis=1)[:, -round(self.sfreq) :]
                self.latest = chunk.data[:, -1].copy()

    def read(self, since: int) -> tuple[int, NDArray[np.float64], NDArray[np.float32]]:
        """Return the points that came after some have been read.

        Parameters
        ----------
        since : int
            What the last read returned first; 0 for all that are kept.

        Returns
        -------
        until : int
            Where the next read begins.
        times : ndarray, shape (n_points,), float64
        points : ndarray, shape (n_channels, n_points), float32
        """
        with self._lock:
            n_new = min(self._n_points - since, len(self._times))
            start = len(self._times) - n_new
            return self._n_points, self._times[start:], self._points[:, start:]

    def last_second(self) -> NDArray[np.float64]:
        """Return the newest second of signal, shape (n_channels, up to sfreq)."""
        with self._lock:
            return self._recent
