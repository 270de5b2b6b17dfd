"""What a live session needs of a source."""

from __future__ import annotations

from typing import Protocol

from streamdetect.chunk import Chunk, StreamInfo


class LiveSource(Protocol):
    """A stream that is read as it comes; `streamdetect.sources.lsl.LSLSource` is one."""

    @property
    def info(self) -> StreamInfo:
        """Channels and sampling rate."""

    @property
    def unit(self) -> str | None:
        """Unit that was given for all channels; None for the stream's own."""

    @property
    def n_repeated(self) -> int:
        """Samples that came more than once, and were left out each further time."""

    @property
    def time_correction(self) -> float | None:
        """What to add to a time to have it in the local clock, in s; None while unknown."""

    @property
    def seconds_since_last_sample(self) -> float:
        """Time since the last sample arrived, in s."""

    def read(self, timeout_s: float) -> list[Chunk]:
        """Return what has arrived."""
