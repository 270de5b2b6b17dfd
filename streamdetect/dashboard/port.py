"""One LSL stream that is read for the page: found, connected, read, lost, and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pylsl

_CONNECT_S = 2.0  # for a stream that has just answered; the other streams wait meanwhile
_CLOCK_S = 2.0  # how long samples wait for the first comparison of the clocks
_FORGET_S = 6.0  # a stream that was lost is answered for by LSL for 5 s more
_BUFFER_S = 60  # what liblsl keeps while this program is held up
_READ_SAMPLES = 4096


def newest(found: Iterable[pylsl.StreamInfo]) -> list[pylsl.StreamInfo]:
    """Of streams that are one and the same but for a restart, keep the last."""
    latest: dict[tuple[str, ...], pylsl.StreamInfo] = {}
    for stream in sorted(found, key=lambda stream: stream.created_at()):
        latest[stream.name(), stream.type(), stream.source_id(), stream.hostname()] = stream
    return list(latest.values())


class Port:
    """Where one stream comes in.

    Parameters
    ----------
    clock : callable
        This machine's LSL clock in s.

    Attributes
    ----------
    stream : pylsl.StreamInfo or None
        The stream, with its description; None where none is connected.
    last_arrival : float or None
        When something last came, or the stream was connected, in s of the clock; None before the first connection.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.stream: pylsl.StreamInfo | None = None
        self.last_arrival: float | None = None
        self._inlet: Any = None
        self._correction: float | None = None
        self._connected_at = 0.0
        self._lost: dict[str, float] = {}

    @property
    def is_connected(self) -> bool:
        """Whether a stream is connected; one whose cable was pulled may be for some 15 s."""
        return self.stream is not None

    def may_connect(self, stream: pylsl.StreamInfo) -> bool:
        """Whether a stream is worth a try: it was not lost a moment ago."""
        return self._clock() - self._lost.get(stream.uid(), -np.inf) > _FORGET_S

    def connect(self, stream: pylsl.StreamInfo) -> bool:
        """Connect to a stream that was found, and say whether that worked."""
        import pylsl
        from pylsl.util import LostError, TimeoutError

        self.close()
        buffer_s = max(1, round(_BUFFER_S if stream.nominal_srate() else 10 * _BUFFER_S))
        # No recovery by liblsl: it waits for ever for the same channels at the same rate, whatever came back.
        inlet = pylsl.StreamInlet(stream, max_buflen=buffer_s, recover=False)
        try:
            self.stream = inlet.info(_CONNECT_S)
            inlet.open_stream(_CONNECT_S)
        except (LostError, TimeoutError):
            self.stream = None
            self._lost[stream.uid()] = self._clock()
            return False
        self._inlet = inlet
        self._correction = None
        self._connected_at = self.last_arrival = self._clock()
        return True

    def close(self) -> None:
        """Disconnect."""
        self._inlet = self.stream = None

    def pull_signal(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return samples, shape (n_channels, n_times), and their times in this machine's clock; None for nothing."""
        samples, times = self._pull(as_numpy=True)
        if not len(times):
            return None
        return np.asarray(samples, np.float64).T, np.asarray(times)

    def pull_texts(self) -> list[tuple[float, str]]:
        """Return markers with their times in this machine's clock."""
        samples, times = self._pull(as_numpy=False)
        return [(float(time), row[0]) for row, time in zip(samples, times, strict=True)]

    def _pull(self, *, as_numpy: bool) -> tuple[Any, NDArray[np.float64]]:
        from pylsl.util import LostError

        samples: Any = ()
        times = np.empty(0)
        if self.stream is None:
            return samples, times
        try:
            if self._measure_clock():
                samples, stamps = self._inlet.pull_chunk(0.0, _READ_SAMPLES, as_numpy=as_numpy)
                times = np.asarray(stamps, np.float64) + (self._correction or 0.0)
        except LostError:
            self._lost[self.stream.uid()] = self._clock()
            self.close()
        if len(times):
            self.last_arrival = self._clock()
        return samples, times

    def _measure_clock(self) -> bool:
        """Compare the clocks, and say whether samples need no longer wait for that; LSL measures by itself."""
        from pylsl.util import TimeoutError

        try:
            self._correction = float(self._inlet.time_correction(0.0))
        except TimeoutError:
            return self._correction is not None or self._clock() - self._connected_at > _CLOCK_S
        return True
