"""Chunk and StreamInfo: the one currency between the stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """Why a sample, or a decision that looks back on it, must not be trusted; 0 is good."""

    GOOD = 0
    WARM_UP = 1  # filters and windows have not yet seen enough samples since the start or a reset
    LOST = 2  # the sample never arrived
    NON_FINITE = 3  # NaN or infinite in at least one channel
    FLAT = 4  # at least one channel has not changed for longer than a living electrode can
    BAD_CHANNELS = 5  # more channels are bad than can be repaired

    @property
    def reason(self) -> str:
        """The word used in decision files; empty for a good sample."""
        return "" if self is Quality.GOOD else self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source delivers.

    Parameters
    ----------
    ch_names : tuple of str
        Channel names, unique, in the order of the rows of each chunk.
    sfreq : float
        Nominal sampling rate in Hz.
    name : str
        What a person calls the source: the file's or the stream's name.
    """

    ch_names: tuple[str, ...]
    sfreq: float
    name: str = ""

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.ch_names)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples of all channels.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        Signal in volts.
    times : ndarray, shape (n_times,), float64
        Time of each sample in seconds, in the source's own clock.
    n_lost : int
        Samples that the source knows to be missing just before the first one.
    restart : bool
        True where nothing before the first sample may be joined to it: the gap is of unknown length, the clock went
        back, or a stage decided so.
    quality : ndarray of uint8, shape (n_times,), or None
        A `Quality` for each sample; None before the health stage has looked.
    first_sample : int
        Index of the first sample since the start of the stream, lost samples counted; set by the health stage.
    bad_channels : tuple of int
        Channels that are not to be trusted in any of the samples; set by the channel health stage.
    """

    data: NDArray[np.float64]
    times: NDArray[np.float64]
    n_lost: int = 0
    restart: bool = False
    quality: NDArray[np.uint8] | None = None
    first_sample: int = 0
    bad_channels: tuple[int, ...] = ()

    @property
    def n_times(self) -> int:
        """Number of samples."""
        return self.data.shape[1]

    def with_data(self, data: NDArray[np.float64]) -> Chunk:
        """Return the same samples with other values, shape (any, n_times)."""
        return Chunk(
            data, self.times, self.n_lost, self.restart, self.quality, self.first_sample, self.bad_channels
        )  # `dataclasses.replace` takes five times as long, and this runs in each chunk

    def part(self, start: int, stop: int) -> Chunk:
        """Return the samples from ``start`` up to ``stop``; what is said of the first sample stays with it."""
        return replace(
            self,
            data=self.data[:, start:stop],
            times=self.times[start:stop],
            n_lost=self.n_lost if start == 0 else 0,
            restart=self.restart and start == 0,
            quality=None if self.quality is None else self.quality[start:stop],
            first_sample=self.first_sample + start,
        )
