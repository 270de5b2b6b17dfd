"""The signal and the cues of a session, put on one sample clock and written as a FIF file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.settings import to_samples

if TYPE_CHECKING:
    import mne

# A gap of unknown length is written as so long: longer than the 1 s over which training bridges a gap.
UNKNOWN_GAP_S = 2.0
# Drivers stamp blocks of samples on arrival, tens of ms early or late. A straight line through this much signal to each
# side of a cue leaves less than a sample of that, and follows a clock that drifts. (pyxdf smooths whole recordings so.)
FIT_S = 5.0
SHORTEST_FIT_S = 1.0  # with less signal the slope of the line says less than the nominal rate


@dataclass
class _Stretch:
    """Samples without a gap: the index of the first one, and their time stamps in this machine's LSL clock, in s."""

    first: int
    stamps: list[NDArray[np.float64]] = field(default_factory=list)


class Recorder:
    """Keeps what a session delivers.

    Parameters
    ----------
    info : StreamInfo
        Channels and nominal sampling rate.

    Attributes
    ----------
    n_times : int
        Samples so far, with those that are lost.
    n_lost, n_gaps : int
        Lost samples, those of gaps of unknown length included; and gaps.
    last_time : float
        Time of the last sample in s of this machine's LSL clock; minus infinity before the first.

    Notes
    -----
    Lost samples are NaN in the file, which `mne.preprocessing.annotate_nan` marks for MNE's own tools. Training and
    replay take NaN as they take a gap in a live stream: up to 1 s is bridged and its decisions are invalid, more starts
    filters and windows anew. Time stamps pass as the source made them, plus the clock offset measured when they came.
    """

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self.n_times = self.n_lost = self.n_gaps = 0
        self.last_time = -np.inf
        self._data: list[NDArray[np.float64]] = []
        self._stretches: list[_Stretch] = []
        self._cues: list[tuple[str, float, float, int]] = []

    def add(self, chunk: Chunk, time_correction: float) -> None:
        """Take the next samples.

        Parameters
        ----------
        chunk : Chunk
            Volts, with time stamps in the source's clock; what it says of a gap before the first sample is left out.
        time_correction : float
            What to add to the time stamps to have them in this machine's LSL clock, in s.
        """
        if not chunk.n_times:
            return
        if not self._stretches:
            self._stretches.append(_Stretch(0))
        elif chunk.restart or chunk.n_lost:
            self._skip(to_samples(UNKNOWN_GAP_S, self.info.sfreq) if chunk.restart else chunk.n_lost)
        stamps = chunk.times + time_correction
        self._stretches[-1].stamps.append(stamps)
        self._data.append(chunk.data)
        self.n_times += chunk.n_times
        self.last_time = float(stamps[-1])

    def add_cue(self, name: str, time: float, duration: float) -> None:
        """Note a cue at its time in this machine's LSL clock; it holds for its duration, or until the next one."""
        self._cues.append((name, time, duration, max(0, len(self._stretches) - 1)))

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The cues that lie in the signal, in s of the sample clock after the first sample."""
        if not self._stretches or not self._cues:
            return ()
        stamps = [np.concatenate(one.stamps) for one in self._stretches]
        next_times = [time for _, time, _, _ in self._cues[1:]] + [np.inf]
        notes = []
        for (name, time, duration, newest), next_time in zip(self._cues, next_times, strict=True):
            start = self._find_sample(stamps, time, newest)
            end = self._find_sample(stamps, min(time + duration, next_time), newest)
            start, end = max(start, 0.0), min(end, self.n_times)
            if start < end:
                notes.append(Annotation(start / self.info.sfreq, (end - start) / self.info.sfreq, name))
        return tuple(notes)

    def to_raw(self, description: str = "") -> mne.io.RawArray:
        """Return the recording for MNE; at least one sample must have come.

        Parameters
        ----------
        description : str
            What the file says of itself.
        """
        import mne

        info = mne.create_info(list(self.info.ch_names), self.info.sfreq, "eeg", verbose="error")
        info["description"] = description
        raw = mne.io.RawArray(np.concatenate(self._data, axis=1), info, verbose="error")
        raw.set_meas_date(datetime.now(UTC))
        notes = self.annotations
        raw.set_annotations(
            mne.Annotations(
                [note.onset for note in notes],
                [note.duration for note in notes],
                [note.description for note in notes],
            ),
            verbose="error",
        )
        return raw

    def save(self, path: Path, description: str = "") -> None:
        """Write the recording as a FIF file in double precision: the samples as they came.

        Raises
        ------
        InputError
            It cannot be written.
        """
        try:
            self.to_raw(description).save(path, fmt="double", overwrite=True, verbose="error")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _skip(self, n_lost: int) -> None:
        self._data.append(np.full((self.info.n_channels, n_lost), np.nan))
        self.n_times += n_lost
        self.n_lost += n_lost
        self.n_gaps += 1
        self._stretches.append(_Stretch(self.n_times))

    def _find_sample(self, stamps: Sequence[NDArray[np.float64]], time: float, newest: int) -> float:
        """Return the sample, in fractions, at a time that was now when the newest stretch was this one.

        A time within a gap lies among its lost samples. The search goes forward only, so that a clock that is set back
        does not mix up what came before it with what came after.
        """
        first = newest
        while first + 1 < len(stamps) and stamps[first + 1][0] - 0.5 / self.info.sfreq <= time:
            first += 1
        after = self._stretches[first + 1].first if first + 1 < len(stamps) else np.inf
        return min(self._stretches[first].first + find_sample(stamps[first], time, self.info.sfreq), after)


def find_sample(stamps: NDArray[np.float64] | Sequence[float], time: float, sfreq: float) -> float:
    """Return where on the sample clock a time lies.

    Parameters
    ----------
    stamps : array_like, shape (n,), float64
        Time stamps of consecutive samples in s, with the jitter of their driver.
    time : float
        In s of the same clock; may lie outside.
    sfreq : float
        Nominal sampling rate in Hz.

    Returns
    -------
    float
        Index of the sample, in fractions, on a straight line through the time stamps around it.

    Examples
    --------
    >>> round(find_sample([10.0, 10.1, 10.2, 10.3], 10.25, sfreq=10.0), 6)
    2.5
    """
    stamps = np.asarray(stamps, dtype=np.float64)
    n_fit = to_samples(FIT_S, sfreq)
    near = int(np.searchsorted(stamps, time))
    start, stop = max(0, min(near, len(stamps)) - n_fit), min(len(stamps), near + n_fit)
    indices = np.arange(start, stop, dtype=np.float64)
    centre, middle = indices.mean(), stamps[start:stop].mean()
    rate = sfreq
    if len(indices) > SHORTEST_FIT_S * sfreq:
        offsets = indices - centre
        rate = float((offsets @ offsets) / (offsets @ (stamps[start:stop] - middle)))
    return float(centre + (time - middle) * rate)
