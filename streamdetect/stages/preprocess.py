"""Re-referencing, and causal filters with their state carried from chunk to chunk."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from streamdetect.chunk import Chunk
from streamdetect.errors import InputError
from streamdetect.settings import FilterSettings

try:
    # What scipy.signal.sosfilt itself runs, without its 50 µs of checks a call: a third of a 20 ms chunk's time.
    from scipy.signal._sosfilt import _sosfilt as _run_sections
except ImportError:  # private to SciPy: it may move

    def _run_sections(sos: NDArray[np.float64], data: NDArray[np.float64], state: NDArray[np.float64]) -> None:
        data[:], after = signal.sosfilt(sos, data, axis=-1, zi=state.transpose(1, 0, 2))
        state[:] = after.transpose(1, 0, 2)


SETTLED = 1e-3  # a filter has settled when its slowest mode has decayed to this share (-60 dB)


def design_filter(settings: FilterSettings, sfreq: float) -> NDArray[np.float64]:
    """Design a Butterworth filter.

    Parameters
    ----------
    settings : FilterSettings
        Pass band in Hz and order.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray, shape (n_sections, 6), float64
        Second-order sections: a ``b, a`` form of a low cutoff loses its poles to rounding.

    Raises
    ------
    InputError
        An edge of the pass band is not below half the sampling rate.
    """
    edges = [freq for freq in (settings.l_freq, settings.h_freq) if freq is not None]
    if max(edges) >= sfreq / 2:
        raise InputError(
            f"filter {settings.label}: its edge must be below half the sampling rate, which is {sfreq / 2:g} Hz here; "
            "use a recording with a higher sampling rate or other features"
        )
    kind = "bandpass" if len(edges) == 2 else "highpass" if settings.h_freq is None else "lowpass"
    return signal.butter(settings.order, edges if len(edges) == 2 else edges[0], kind, fs=sfreq, output="sos")


def settling_samples(sos: NDArray[np.float64]) -> int:
    """Return how many samples a filter needs to forget a step.

    Parameters
    ----------
    sos : ndarray, shape (n_sections, 6)
        Second-order sections.

    Returns
    -------
    int
        Samples until the slowest mode has decayed to 0.1 %.
    """
    slowest = max(float(np.abs(np.roots(section[3:])).max()) for section in sos)
    return math.ceil(math.log(SETTLED) / math.log(slowest)) if slowest > 0 else 0


def rereference(
    data: NDArray[np.float64], reference: str, neighbours: tuple[tuple[int, ...], ...] = ()
) -> NDArray[np.float64]:
    """Take off each channel what others have in common with it.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times)
        Samples in volts.
    reference : str
        ``as recorded`` changes nothing; ``average`` takes the mean of all channels off each; ``laplacian`` the mean of
        its neighbours.
    neighbours : tuple of tuple of int
        For each channel the indices of its neighbours, for the Laplacian.

    Returns
    -------
    ndarray, shape (n_channels, n_times)

    Notes
    -----
    Channels are added one after the other, sample by sample: a matrix product or a mean over an axis would add them in
    an order that depends on the chunk's length. No state, no delay.

    Examples
    --------
    >>> rereference(np.array([[1.0], [3.0], [8.0]]), "average").ravel().tolist()
    [-3.0, -1.0, 4.0]
    """
    if reference == "as recorded":
        return data
    if reference == "average":
        total = np.zeros(data.shape[1])
        for channel in data:
            total += channel
        return data - total / len(data)
    result = np.empty_like(data)
    for channel, around in enumerate(neighbours):
        total = np.zeros(data.shape[1])
        for neighbour in around:
            total += data[neighbour]
        np.subtract(data[channel], total / len(around), out=result[channel])
    return result


class FilterBank:
    """Runs each filter of a bank over each channel.

    Parameters
    ----------
    filters : tuple of FilterSettings
        The bank.
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.

    Notes
    -----
    Delay: that of the causal filters, none besides. State: two numbers a section, filter and channel, begun at the
    steady state for the first sample, so that an electrode's offset makes no transient.
    """

    def __init__(self, filters: tuple[FilterSettings, ...], n_channels: int, sfreq: float) -> None:
        self.n_channels = n_channels
        self._designs = [np.ascontiguousarray(design_filter(settings, sfreq)) for settings in filters]
        self.settling_samples = max(settling_samples(sos) for sos in self._designs)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample begins from its steady state."""
        self._states: list[NDArray[np.float64]] | None = None

    def process(self, chunk: Chunk) -> Chunk:
        """Filter a chunk.

        Parameters
        ----------
        chunk : Chunk
            Finite samples, shape (n_channels, n_times).

        Returns
        -------
        Chunk
            Shape (n_filters * n_channels, n_times): filter by filter, within a filter channel by channel.
        """
        if chunk.restart:
            self.reset()
        if chunk.n_times == 0:
            return chunk.with_data(np.empty((len(self._designs) * self.n_channels, 0)))
        if self._states is None:
            first = chunk.data[:, 0]  # a state is (n_channels, n_sections, 2)
            self._states = [first[:, None, None] * signal.sosfilt_zi(sos) for sos in self._designs]
        outputs = []
        for sos, state in zip(self._designs, self._states, strict=True):
            data = np.array(chunk.data, order="C")
            _run_sections(sos, data, state)
            outputs.append(data)
        return chunk.with_data(outputs[0] if len(outputs) == 1 else np.concatenate(outputs))

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()
