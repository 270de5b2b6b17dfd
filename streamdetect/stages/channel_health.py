"""Which channels are bad, judged by what they looked like in the last seconds: one rule a fault.

Rules look at blocks of about a second and compare a channel with the others of its block or with itself. None depends
on the unit of the signal, which is often not known; what all channels share, such as the mains of a bad laboratory or a
tense jaw, is no fault of a channel.

=============  ======================================================================  ===============================
fault          found in a block where the channel                                      source
=============  ======================================================================  ===============================
flat           holds one value                                                         PREP [1]
railed         holds one value beyond `RAIL_UV`, or is at its own extremes, for the    clipping returns to its limit;
               third sample in a row and more, for more than `RAIL_SHARE` of the time  peaks hold theirs for less
line-noise     has more than `LINE_SHARE` of its power (1.5 to 100 Hz) at 50 or at     PREP [1]: robust z > 5; and the
               60 Hz, and stands out with its ratio to the rest                        mains outweigh the brain
muscle         has more power above 30 Hz than from 1.5 to 30, the mains left out,     PREP [1]: robust z > 5; muscles
               and stands out with the power above                                     lie above 30 Hz [2]
steps          jumps, within 2 ms, more than `STEP_RATIO` times its mean change, and   a Gaussian signal reaches 5; a
               stands out with its jump                                                loose electrode pops alone
uncorrelated   has no correlation above `CORRELATION` (1.5 to 45 Hz) with any other    PREP [1]: below 0.4 in 1 s with
               channel, while the median channel has one above `USUAL_CORRELATION`     98 % of the others
=============  ======================================================================  ===============================

Standing out: the logarithm lies more than `OUTLIER` robust standard deviations (1.4826 median absolute deviations, at
least `LEAST_SPREAD`) above the median channel. Of a flat or railed channel nothing else is said.

A channel is bad once the block that completes the evidence is over, and the lag for judging it: one block for flat
and railed, three of the last five for line-noise, muscle and steps, four of them for uncorrelated. It is good again
after ten blocks in a row without that fault. A block with lost or non-finite samples is not judged; a restart of the
signal drops the block that it interrupts, and no verdict.

[1] Bigdely-Shamlo et al. 2015, doi:10.3389/fninf.2015.00016. Deviation: PREP judges a whole filtered recording.
[2] Goncharova et al. 2003, doi:10.1016/S1388-2457(03)00093-2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk

RAIL_UV = 1000.0  # no amplifier with a high-pass rests so far from zero; only the word depends on it, flat or railed
RAIL_SHARE = 0.05
LINE_HZ, LINE_HALF_WIDTH_HZ, LINE_SHARE = (50.0, 60.0), 2.0, 0.5
LOW_HZ, MUSCLE_HZ, CORRELATED_HZ, HIGH_HZ = 1.5, 30.0, 45.0, 100.0
STEP_S, STEP_RATIO = 0.002, 10.0
CORRELATION, USUAL_CORRELATION = 0.4, 0.6
# The least spread is a tenth of a decade: where all channels are alike, an outlier still has three times as much.
OUTLIER, LEAST_SPREAD = 5.0, 0.1

FAULTS = ("flat", "railed", "line-noise", "muscle", "steps", "uncorrelated")
NEEDED = np.array([1, 1, 3, 3, 3, 4])[:, None]  # blocks with the fault, of the last RECENT
RECENT, REMEMBERED = 5, 10

_VOLTS_PER_MICROVOLT = 1e-6


class Spectrum(NamedTuple):
    """A block in the frequency domain.

    Parameters
    ----------
    freqs : ndarray, shape (n_freqs,), float64
        In Hz.
    values : ndarray, shape (n_channels, n_freqs), complex128
        Of the block without its mean, under a Hann window.
    power : ndarray, shape (n_channels, n_freqs), float64
        Squared magnitudes.
    """

    freqs: NDArray[np.float64]
    values: NDArray[np.complex128]
    power: NDArray[np.float64]

    def band(self, low_hz: float, high_hz: float) -> slice:
        """Return where the frequencies of a band are, its edges included."""
        return slice(*np.searchsorted(self.freqs, (low_hz, np.nextafter(high_hz, np.inf))).tolist())

    def between(self, low_hz: float, high_hz: float) -> NDArray[np.float64]:
        """Return the power of each channel in a band, its edges included."""
        return self.power[:, self.band(low_hz, high_hz)].sum(axis=1)


def make_spectrum(data: NDArray[np.float64], sfreq: float) -> Spectrum:
    """Transform a block, shape (n_channels, n_times)."""
    window, freqs = _make_window(data.shape[1], sfreq)
    windowed = data - data[:, :1]  # so that a channel that holds one value has a power of 0, and not of rounding errors
    windowed -= windowed.mean(axis=1, keepdims=True)
    windowed *= window
    values = np.fft.rfft(windowed)
    return Spectrum(freqs, values, values.real**2 + values.imag**2)


@lru_cache(maxsize=8)
def _make_window(n_times: int, sfreq: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.hanning(n_times + 1)[:-1], np.arange(n_times // 2 + 1, dtype=np.float64) * (sfreq / n_times)


def stands_out(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of the values, shape (n_channels,), none negative, lie far above the others.

    Examples
    --------
    >>> stands_out(np.array([1.0, 1.1, 0.9, 4.0])).tolist()
    [False, False, False, True]
    """
    logarithm = np.log10(np.maximum(values, np.finfo(float).tiny))
    logarithm -= _median(logarithm)
    return logarithm > OUTLIER * max(1.4826 * _median(np.abs(logarithm)), LEAST_SPREAD)


def _median(values: NDArray[np.float64]) -> float:
    """Return what `np.median` does, in a tenth of its time for a few values."""
    ordered = np.sort(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def find_flat(data: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which channels of a block in V, shape (n_channels, n_times), hold one value."""
    held = data.min(axis=1) == data.max(axis=1)
    return held & (np.abs(data[:, 0]) <= RAIL_UV * _VOLTS_PER_MICROVOLT)


def find_railed(data: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which channels of a block in V, shape (n_channels, n_times), are stuck at their limits."""
    lowest, highest = data.min(axis=1, keepdims=True), data.max(axis=1, keepdims=True)
    stuck = (data == lowest) | (data == highest)
    third = stuck[:, 2:] & stuck[:, 1:-1] & stuck[:, :-2]
    held = (lowest == highest)[:, 0]
    beyond = np.abs(data[:, 0]) > RAIL_UV * _VOLTS_PER_MICROVOLT
    return np.where(held, beyond, np.count_nonzero(third, axis=1) > RAIL_SHARE * data.shape[1])


def find_line_noise(block: Spectrum) -> NDArray[np.bool_]:
    """Return in which channels the mains outweigh the rest; none where the sampling rate is too low to see them."""
    whole = block.between(LOW_HZ, HIGH_HZ)
    line = np.max([one for _, one in _line_powers(block)] or [np.zeros(len(whole))], axis=0)
    return (line > LINE_SHARE * whole) & stands_out(_ratio(line, whole - line))


def find_muscle(block: Spectrum) -> NDArray[np.bool_]:
    """Return in which channels the power above 30 Hz outweighs that below."""
    line = np.sum([one for _, one in _line_powers(block)] or [np.zeros(len(block.power))], axis=0)
    below = block.between(LOW_HZ, MUSCLE_HZ)
    above = block.between(MUSCLE_HZ, np.inf) - line
    return (above > below) & stands_out(above)


def find_steps(data: NDArray[np.float64], sfreq: float) -> NDArray[np.bool_]:
    """Return which channels of a block, shape (n_channels, n_times), jump."""
    lag = max(1, round(STEP_S * sfreq))
    changes = data[:, lag:] - data[:, :-lag]
    np.abs(changes, out=changes)
    largest = changes.max(axis=1)
    return (largest > STEP_RATIO * changes.mean(axis=1)) & stands_out(largest)


def find_uncorrelated(block: Spectrum) -> NDArray[np.bool_]:
    """Return which channels go with no other, where most channels go with another."""
    parts = np.ascontiguousarray(block.values[:, block.band(LOW_HZ, CORRELATED_HZ)]).view(np.float64)
    lengths = np.sqrt((parts * parts).sum(axis=1, keepdims=True))
    parts = np.divide(parts, lengths, out=np.zeros_like(parts), where=lengths > 0)
    correlations = np.abs(parts @ parts.T)  # a block has the same shape however the signal was cut
    np.fill_diagonal(correlations, 0.0)
    largest = correlations.max(axis=1)
    return (largest < CORRELATION) & (_median(largest) > USUAL_CORRELATION)


def _line_powers(block: Spectrum) -> list[tuple[float, NDArray[np.float64]]]:
    """Return the power around each frequency of the mains that can be seen."""
    width = LINE_HALF_WIDTH_HZ
    return [(hz, block.between(hz - width, hz + width)) for hz in LINE_HZ if hz + width < block.freqs[-1]]


def _ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return one / np.maximum(np.maximum(other, 1e-12 * one), np.finfo(float).tiny)  # at most 1e12; 0 where both are 0


def find_faults(data: NDArray[np.float64], sfreq: float) -> NDArray[np.bool_]:
    """Look for every fault in a block.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        A block in volts.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of bool, shape (n_faults, n_channels)
        In the order of `FAULTS`.

    Examples
    --------
    >>> noise = 1e-5 * np.random.default_rng(0).standard_normal((8, 500))
    >>> noise[3] = 0.0
    >>> [(FAULTS[fault], channel) for fault, channel in np.argwhere(find_faults(noise, 500.0)).tolist()]
    [('flat', 3)]
    """
    with np.errstate(over="ignore", invalid="ignore"):  # finite, yet too large to be squared: NaN is no fault here
        block = make_spectrum(data, sfreq)
        flat, railed = find_flat(data), find_railed(data)
        others = np.stack(
            [find_line_noise(block), find_muscle(block), find_steps(data, sfreq), find_uncorrelated(block)]
        )
    others &= ~(flat | railed)
    return np.vstack([flat, railed, others])


class ChannelHealth:
    """Says which channels are bad.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    block_samples : int
        Length of a block; blocks are counted from the first sample after a start or a restart.
    lag_samples : int
        How long after its block a verdict comes into force, less than a block. Judging takes longer than all else that
        a few samples need: with a lag it can be done between two chunks, see `settle`.

    Notes
    -----
    Adds no delay and changes no sample: a verdict is about samples after the block it was made on. State: the block
    being filled, the one that waits to be judged, the faults found in the last ten, and those in force.
    """

    def __init__(self, n_channels: int, sfreq: float, block_samples: int, lag_samples: int = 0) -> None:
        self.n_channels = n_channels
        self.sfreq = sfreq
        self.block_samples = block_samples
        self.lag_samples = lag_samples
        self.reset()

    def reset(self) -> None:
        """Forget everything: all channels are good."""
        self._block = np.zeros((self.n_channels, self.block_samples))
        self._waiting: NDArray[np.float64] | None = None  # a block to be judged
        self._spare = np.zeros_like(self._block)
        self._found = np.zeros((REMEMBERED, len(FAULTS), self.n_channels), dtype=bool)  # the latest last
        self._in_force = np.zeros((len(FAULTS), self.n_channels), dtype=bool)
        self._next_in_force = self._in_force
        self._bad: tuple[int, ...] = ()
        self._due: int | None = None  # samples until the next verdict is in force
        self._begin_block()

    def _begin_block(self) -> None:
        self._n_filled = 0
        self._is_whole = True

    @property
    def reasons(self) -> tuple[tuple[str, ...], ...]:
        """The faults in force of each channel; empty for a good one."""
        return tuple(
            tuple(fault for fault, is_so in zip(FAULTS, column, strict=True) if is_so)
            for column in self._in_force.T.tolist()
        )

    def process(self, chunk: Chunk) -> list[Chunk]:
        """Mark bad channels.

        Parameters
        ----------
        chunk : Chunk
            Finite samples with their quality.

        Returns
        -------
        list of Chunk
            The same samples with ``bad_channels`` set, cut where these change.
        """
        assert chunk.quality is not None, "the health stage comes first"
        if chunk.restart:
            self._begin_block()
            self._come_into_force()
        pieces = []
        begun = start = 0
        while start < chunk.n_times:
            left = self.block_samples - self._n_filled
            stop = min(start + (left if self._due is None else min(left, self._due)), chunk.n_times)
            filled = self._n_filled + stop - start
            self._block[:, self._n_filled : filled] = chunk.data[:, start:stop]
            if np.count_nonzero(chunk.quality[start:stop]):
                self._is_whole = False
            if self._due is not None:
                self._due -= stop - start
            self._n_filled, start = filled, stop
            if filled == self.block_samples:
                self._end_block()
            if self._due == 0:
                bad = self._bad
                self._come_into_force()
                if self._bad != bad:
                    pieces.append(replace(chunk.part(begun, stop), bad_channels=bad))
                    begun = stop
        if begun < chunk.n_times or not pieces:
            rest = chunk.part(begun, chunk.n_times) if begun else chunk
            pieces.append(replace(rest, bad_channels=self._bad) if self._bad else rest)
        return pieces

    def flush(self) -> list[Chunk]:
        """Return what is held back: nothing."""
        return []

    def settle(self) -> bool:
        """Judge the block that waits, if one does; it changes when the work is done, and nothing else.

        Returns
        -------
        bool
            Whether there was something to do.
        """
        if self._waiting is None:
            return False
        self._found[:-1] = self._found[1:]
        self._found[-1] = find_faults(self._waiting, self.sfreq)
        self._waiting = None
        if self._found[-1].any() or self._in_force.any():  # the evidence is complete in a block that has the fault
            in_force = self._in_force | (np.count_nonzero(self._found[-RECENT:], axis=0) >= NEEDED)
            self._next_in_force = in_force & self._found.any(axis=0)
        return True

    def _end_block(self) -> None:
        if self._is_whole:
            self._waiting, self._block, self._spare = self._block, self._spare, self._block
            self._due = self.lag_samples
        self._begin_block()

    def _come_into_force(self) -> None:
        self.settle()
        self._due = None
        if self._next_in_force is not self._in_force:
            self._in_force = self._next_in_force
            self._bad = tuple(np.flatnonzero(self._in_force.any(axis=0)).tolist())
