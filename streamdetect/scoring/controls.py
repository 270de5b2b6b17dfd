"""The two controls beside every score: what the clock alone knows, and what is left once the EEG is scrambled.

Cues that come at fixed times make the time since the start a perfect detector, and a pipeline with a long memory finds
it. `ClockModel` measures how good it is. `PhaseRandomised` gives the same pipeline a signal with the same spectrum and
no timing: what it still scores above chance, it did not learn from the brain.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.scoring.metrics import Outcome

CLOCK_BIN_S = 0.5
N_SURROGATES = 3  # the AUC of one on a few minutes of signal varies by 0.02; their mean is the control
SEGMENT_S = 300.0  # 38 MB of 32 channels at 500 Hz; many times longer than a trial
_SMOOTHING = (0.25, 0.5, 0.25)  # over neighbouring bins: half of what a bin knows stays in it


class RecordingLike(Protocol):
    """What `PhaseRandomised` needs of a recording."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def info(self) -> StreamInfo: ...  # noqa: D102
    @property
    def n_times(self) -> int: ...  # noqa: D102
    @property
    def annotations(self) -> tuple[Annotation, ...]: ...  # noqa: D102
    @property
    def first_time(self) -> float: ...  # noqa: D102
    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]: ...  # noqa: D102


@dataclass(frozen=True)
class ClockModel:
    """A detector that looks at the time since the start of the recording and at nothing else.

    Parameters
    ----------
    bin_s : float
        Width of a bin in s.
    rates : tuple of float
        Part of the time for which the event was going on in each bin, 0 to 1, from the recording's start on.

    Notes
    -----
    `fit` averages over recordings, each counting the same, and smooths over neighbouring bins with weights 1:2:1. A bin
    that no recording reaches, and any time outside the bins, gets the mean of the others.

    Examples
    --------
    >>> times = np.arange(0, 8, 0.1)
    >>> clock = ClockModel.fit([(times, times % 4 >= 2)])
    >>> clock.predict(np.array([1.2, 3.2])).tolist()
    [0.0, 1.0]
    """

    bin_s: float
    rates: tuple[float, ...]

    @classmethod
    def fit(
        cls, runs: Iterable[tuple[NDArray[np.float64], NDArray[np.bool_]]], bin_s: float = CLOCK_BIN_S
    ) -> ClockModel:
        """Learn when the event tends to happen.

        Parameters
        ----------
        runs : iterable of (times, labels)
            For each training recording the times in s after its first sample, shape (n,), and whether the event was
            going on then, shape (n,).
        bin_s : float
            Width of a bin in s.

        Returns
        -------
        ClockModel

        Raises
        ------
        InputError
            If there is no labelled moment.
        """
        totals, counts = np.zeros(0), np.zeros(0)
        for times, labels in runs:
            bins = np.maximum(np.asarray(times) // bin_s, 0).astype(np.int64)
            n_all = np.bincount(bins, minlength=len(totals))
            n_true = np.bincount(bins, weights=labels, minlength=len(totals))
            padding = (0, len(n_all) - len(totals))
            totals = np.pad(totals, padding) + n_true / np.maximum(n_all, 1)
            counts = np.pad(counts, padding) + (n_all > 0)
        if not counts.any():
            raise InputError("clock control: expected at least one labelled moment, found none")
        rates = totals / np.maximum(counts, 1)
        rates[counts == 0] = rates[counts > 0].mean()
        smooth = np.clip(ndimage.convolve1d(rates, _SMOOTHING, mode="nearest"), 0.0, 1.0)
        return cls(bin_s, tuple(smooth.tolist()))

    def predict(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of the event at each time.

        Parameters
        ----------
        times : ndarray, shape (n,)
            Times in s after the recording's first sample.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        if not self.rates:
            return np.full(len(times), 0.5)
        rates = np.append(self.rates, np.mean(self.rates))
        bins = np.asarray(times) // self.bin_s
        return rates[np.where((bins >= 0) & (bins < len(self.rates)), bins, -1).astype(np.int64)]


def clock_outcome(outcome: Outcome, clocks: Mapping[str, ClockModel]) -> Outcome:
    """Return an outcome with the clock's probabilities in place of the detector's, to be scored like it.

    Parameters
    ----------
    outcome : Outcome
        What a detector decided; its valid decisions are the ones on which the clock is scored.
    clocks : mapping of str to ClockModel
        One for each event, fitted on other recordings than this one.

    Returns
    -------
    Outcome
        Without members and detections.
    """
    decisions = outcome.decisions
    probability = np.stack([clocks[name].predict(decisions.times) for name in decisions.event_names], axis=1)
    probability[~decisions.valid] = np.nan
    told = replace(decisions, probability=probability.astype(np.float32), members={}, detections=())
    return replace(outcome, decisions=told)


def phase_randomise(data: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a signal random phases, the same for all channels.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        Finite signal in any unit.
    rng : numpy.random.Generator
        Source of the phases.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
        A signal of the same unit with the spectra, the cross-spectra (therefore the covariance) and the mean of
        ``data``, in which nothing happens at any particular time. A constant channel is returned as it is.

    Notes
    -----
    The mean and, for an even number of samples, the component at half the sampling rate have no phase and are kept.

    References
    ----------
    Theiler J. et al. (1992), Testing for nonlinearity in time series: the method of surrogate data, Physica D 58,
    77-94, doi:10.1016/0167-2789(92)90102-S. For several channels: Prichard D., Theiler J. (1994), Physical Review
    Letters 73, 951-954, doi:10.1103/PhysRevLett.73.951: one random phase for each frequency, added to all channels.
    """
    n_times = data.shape[1]
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi, n_times // 2 + 1))
    turn[0] = 1.0
    if n_times % 2 == 0:
        turn[-1] = 1.0
    surrogate = data.copy()
    for channel in surrogate:  # one by one: the complex spectrum of all of them would triple the memory
        if n_times and channel.min() != channel.max():
            channel[:] = fft.irfft(fft.rfft(channel) * turn, n_times)
    return surrogate


class PhaseRandomised:
    """A recording without its timing: same channels, spectra and annotations, random phases.

    Parameters
    ----------
    recording : RecordingLike
        The recording.
    seed : int
        Seed of the phases.
    segment_s : float
        Length in s of the segments that are randomised as a whole; bounds the memory. Much longer than a trial,
        or a segment's own spectrum would still tell what was going on in it.

    Attributes
    ----------
    path, info, n_times, annotations, first_time
        As the recording's.

    Notes
    -----
    Two things could smuggle the clock, and so the labels, back in, and are avoided. Segments would join at the same
    times in every recording: their edges are drawn at random, at most a quarter of a segment from an even division.
    And the same phases on two recordings with alike spectra would give alike signals: phases and edges depend on the
    file's name beside the seed, so that each recording has its own; they do not depend on how it is cut into chunks.

    Lost samples and restarts stay where they were. Samples before and after a gap are randomised together, since a
    short segment between gaps would keep its own spectrum. Non-finite samples are set to the mean of their channel,
    and put back afterwards.
    """

    def __init__(self, recording: RecordingLike, seed: int, segment_s: float = SEGMENT_S) -> None:
        self._recording = recording
        self._seed = seed
        self._segment_samples = max(1, round(segment_s * recording.info.sfreq))
        self.path = recording.path
        self.info = recording.info
        self.n_times = recording.n_times
        self.annotations = recording.annotations
        self.first_time = recording.first_time

    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        """Give the randomised signal, the same on each call.

        Parameters
        ----------
        picks : sequence of str, optional
            Channels; all by default.
        chunk_samples : int, optional
            Samples a chunk, as the recording takes it; chunks are cut once more where segments end.

        Yields
        ------
        Chunk
        """
        rng = np.random.default_rng([self._seed, zlib.crc32(Path(self.path).name.encode())])
        edges = self._draw_edges(rng)
        held: list[Chunk] = []
        n_seen = 0
        for chunk in self._recording.chunks(picks, chunk_samples):
            rest = chunk
            while edges and n_seen + rest.n_times >= edges[0]:
                head, rest = _split(rest, edges.pop(0) - n_seen)
                n_seen += head.n_times
                yield from _randomise([*held, head], rng)
                held = []
            if rest.n_times or rest is chunk:
                held.append(rest)
                n_seen += rest.n_times
        if held:
            yield from _randomise(held, rng)

    def _draw_edges(self, rng: np.random.Generator) -> list[int]:
        """Return the samples at which one segment ends and the next begins."""
        n_segments = max(1, round(self.n_times / self._segment_samples))
        even = np.arange(1, n_segments) * self.n_times / n_segments
        shift = rng.uniform(-0.25, 0.25, n_segments - 1) * self.n_times / n_segments
        return np.round(even + shift).astype(int).tolist()


def _split(chunk: Chunk, n_head: int) -> tuple[Chunk, Chunk]:
    """Cut a chunk in two; what was said about the time before it stays with the first."""
    head, tail = (
        replace(
            chunk,
            data=chunk.data[:, part],
            times=chunk.times[part],
            quality=None if chunk.quality is None else chunk.quality[part],
        )
        for part in (slice(None, n_head), slice(n_head, None))
    )
    return head, replace(tail, n_lost=0, restart=False, first_sample=chunk.first_sample + n_head)


def _randomise(chunks: Sequence[Chunk], rng: np.random.Generator) -> Iterator[Chunk]:
    """Randomise the signal of consecutive chunks as a whole, and cut it as it was cut."""
    data = np.concatenate([chunk.data for chunk in chunks], axis=1)
    is_bad = ~np.isfinite(data)
    for channel, bad in zip(data, is_bad, strict=True):
        if bad.any():
            channel[bad] = 0.0 if bad.all() else channel[~bad].mean()
    surrogate = phase_randomise(data, rng)
    surrogate[is_bad] = np.nan
    cuts = np.cumsum([chunk.n_times for chunk in chunks])[:-1]
    for chunk, part in zip(chunks, np.split(surrogate, cuts, axis=1), strict=True):
        yield replace(chunk, data=np.ascontiguousarray(part))
