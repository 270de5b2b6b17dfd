"""One connection to an LSL stream: what pylsl offers, with waits that Ctrl-C and `close` can end.

liblsl waits in C, where a signal is not seen: each wait is cut into slices of a tenth of a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import StreamError
from streamdetect.sources.lsl_streams import FoundStream, read_channels

_CONNECT_S = 10.0  # for the description and the data connection of a stream that has just answered
_CLOCK_S = 2.0  # for the first measurement of the clock offset, 0.64 s where nothing is lost (8 probes of 64 ms)
_SLICE_S = 0.1
_BUFFER_S = 1800  # what liblsl keeps for a reader that falls behind; then it drops the oldest
_BUFFER_SAMPLES = 4_000_000  # at most, 8 bytes each
_READ_SAMPLES = 4096  # at most in one pull

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides how samples are read.

    Parameters
    ----------
    labels, units : tuple of str
        Of each channel; ``ch1``, ``ch2``, … and empty where the stream gives none.
    sfreq : float
        Nominal sampling rate in Hz.
    dtype : str
        As in `FoundStream`.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    sfreq: float
    dtype: str


def describe_change(before: Layout, now: Layout) -> str:
    """Say in words how a stream's layout has changed; empty where it has not.

    Examples
    --------
    >>> before = Layout(("C3", "C4"), ("volts", "volts"), 500.0, "float32")
    >>> describe_change(before, Layout(("C3", "Cz"), ("volts", "volts"), 250.0, "float32"))
    'channels C3, C4 before, C3, Cz now; sampling rate 500 Hz before, 250 Hz now'
    >>> describe_change(before, before)
    ''
    """
    pairs = {
        "channels": (", ".join(before.labels), ", ".join(now.labels)),
        "units": (", ".join(before.units), ", ".join(now.units)),
        "sampling rate": (f"{before.sfreq:g} Hz", f"{now.sfreq:g} Hz"),
        "number format": (before.dtype, now.dtype),
    }
    return "; ".join(f"{what} {was} before, {now_is} now" for what, (was, now_is) in pairs.items() if was != now_is)


class Inlet:
    """A connection to a stream.

    Parameters
    ----------
    stream : FoundStream
        As it answered.
    closing : threading.Event
        Ends every wait once it is set.

    Attributes
    ----------
    capacity : int
        Samples that the buffer holds: when so many wait, those before the first may have been dropped.

    Notes
    -----
    Connections that liblsl makes anew by itself, measured with liblsl 1.18:

    - It does so where the stream has a source id and one stream of that id, name, type, number of channels and number
      format answers; neither sampling rate, channel names nor units are compared, and `describe` goes on returning what
      was true before. `was_recovered` tells of it, before the first sample of the new connection can be pulled.
    - It takes 1 s and more, from the end of the old connection to the first sample of the new one.
    - A stream without a source id is lost instead (`LostError`), and all samples that were not yet pulled with it.
    """

    def __init__(self, stream: FoundStream, closing: threading.Event) -> None:
        import pylsl

        self.stream = stream
        self._closing = closing
        buffer_s = max(1, min(_BUFFER_S, int(_BUFFER_SAMPLES / stream.sfreq)))
        self.capacity = int(buffer_s * stream.sfreq)
        self._inlet: Any = pylsl.StreamInlet(stream.handle, max_buflen=buffer_s, recover=True)
        self._buffer = np.empty((_READ_SAMPLES, stream.n_channels), dtype=self._inlet.np_dtype)

    def describe(self) -> Layout:
        """Ask the stream for its channels.

        Raises
        ------
        StreamError
            It does not answer, or is gone.
        """
        description = self._wait(self._inlet.info, _CONNECT_S)
        labels, units = read_channels(description)
        return Layout(labels, units, self.stream.sfreq, self.stream.dtype)

    def open(self) -> None:
        """Have samples sent from now on.

        Raises
        ------
        StreamError
            It does not answer, or is gone.
        """
        self._wait(self._inlet.open_stream, _CONNECT_S)

    def measure_clock(self, timeout_s: float = _CLOCK_S) -> float | None:
        """Return what to add to a time stamp to have it in this machine's LSL clock, in s; None while unknown.

        Parameters
        ----------
        timeout_s : float
            The longest to wait for the first measurement, in s; liblsl repeats it in the background.
        """
        from pylsl.util import LostError, TimeoutError

        try:
            if timeout_s == 0.0:
                return float(self._inlet.time_correction(0.0))
            return float(self._wait(self._inlet.time_correction, timeout_s))
        except (TimeoutError, LostError, StreamError):
            return None

    @property
    def n_waiting(self) -> int:
        """Samples that have arrived and were not pulled."""
        return self._inlet.samples_available()

    def pull(self, timeout_s: float, n_waiting: int = 0) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Take the samples that have arrived, waiting for the first one.

        Parameters
        ----------
        timeout_s : float
            The longest to wait, in s.
        n_waiting : int
            How many are there, where that is known: these are taken, for whose time stamps less memory is used.

        Returns
        -------
        samples : ndarray, shape (n_times, n_channels)
            In the stream's number format; a view that the next pull overwrites.
        times : ndarray, shape (n_times,)
            Time stamps in s.

        Raises
        ------
        pylsl.util.LostError
            The stream is gone, and liblsl does not look for it.
        """
        n_least = 1 if timeout_s and not n_waiting else None  # where nothing is waited for, asking once is enough
        n_most = min(n_waiting, _READ_SAMPLES) or _READ_SAMPLES
        return self._inlet.pull_chunk(0.0 if n_waiting else timeout_s, n_most, self._buffer, n_least, as_numpy=True)

    def was_recovered(self) -> bool:
        """Say whether liblsl has connected anew since this was last asked; ask after a pull.

        Not told where the clock offset was unknown when it happened.
        """
        return self._inlet.was_clock_reset()

    def close(self) -> None:
        """Disconnect; takes a few ms, whatever the stream does."""
        self._inlet.close_stream()
        self._inlet = None

    def _wait(self, call: Callable[[float], _Value], timeout_s: float) -> _Value:
        """Call with short time-outs until it succeeds."""
        from pylsl.util import LostError, TimeoutError

        deadline = time.monotonic() + timeout_s
        while not self._closing.is_set():
            try:
                return call(_SLICE_S)
            except TimeoutError as error:
                if time.monotonic() < deadline:
                    continue
                reason: Exception = error
            except LostError as error:
                reason = error
            raise StreamError(
                f"stream {self.stream.name!r} on {self.stream.hostname} answered but did not connect: {reason} "
                "Check the firewall: LSL needs TCP and UDP ports 16572 to 16604"
            ) from reason
        raise StreamError(f"stream {self.stream.name!r}: closed while connecting")
