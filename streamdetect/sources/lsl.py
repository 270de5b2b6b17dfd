"""Samples from a live Lab Streaming Layer (LSL) stream.

Time stamps pass through as the source wrote them, neither smoothed nor moved to this machine's clock, so that what is
recorded and what was seen agree; the offset between the clocks is measured beside them (`LSLSource.time_correction`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError, StreamError
from streamdetect.settings import SFREQ_TOLERANCE
from streamdetect.sources.channels import pick_channels, volts_per
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.lsl_streams import FoundStream, resolve_stream

if TYPE_CHECKING:
    import pylsl

_CONNECT_S = 10.0  # for the description and the data connection of a stream that has just answered
_CLOCK_S = 2.0  # for the first measurement of the clock offset, 0.64 s where nothing is lost (8 probes of 64 ms)
_BUFFER_S = 1800  # what liblsl keeps for a reader that falls behind
_BUFFER_SAMPLES = 4_000_000  # at most, 8 bytes each
_READ_SAMPLES = 4096  # at most in one read
_log = logging.getLogger(__name__)


class LSLSource:
    """A live stream as chunks of volts; a context manager that connects when it is entered.

    Parameters
    ----------
    query : str
        Which stream, as in `resolve_stream`.
    picks : sequence of str or None
        Channels to deliver, in this order; None for all.
    sfreq : float or None
        Sampling rate in Hz that the stream must have; None for any.
    timeout_s : float
        How long to look for the stream, in s.
    unit : str or None
        Unit of all channels; None for what the stream says of each.
    clock : callable
        Local clock in s, for `seconds_since_last_sample`.

    Attributes
    ----------
    info : StreamInfo
        What is delivered; known once the source was entered.
    stream : FoundStream
        The stream; known once the source was entered.

    Raises
    ------
    StreamError
        The stream was not found, did not answer or was lost for good.
    InputError
        Several streams match, or the stream has strings, another sampling rate, no rate or an unknown unit.
    ChannelError
        Channels are missing, or named twice.

    Notes
    -----
    Adds no delay: a read returns as soon as one sample is there, with all that are. A stream that has a source id is
    waited for when it is lost, and goes on as it comes back; the gap shows in its time stamps.
    """

    info: StreamInfo
    stream: FoundStream

    def __init__(
        self,
        query: str,
        picks: Sequence[str] | None = None,
        sfreq: float | None = None,
        *,
        timeout_s: float = 10.0,
        unit: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query = query
        self._picks = picks
        self._sfreq = sfreq
        self._timeout_s = timeout_s
        self._unit = unit
        self._clock = clock
        self._inlet: Any = None
        self._correction: float | None = None
        self._last_arrival = 0.0

    def __enter__(self) -> Self:
        import pylsl
        from pylsl.util import LostError, TimeoutError

        self._lost_error = LostError
        self._timeout_error = TimeoutError
        if self._unit is not None:
            volts_per(self._unit)  # refuse it before looking for a stream
        self.stream = resolve_stream(self._query, self._timeout_s)
        _check_kind(self.stream, self._sfreq)
        buffer_s = max(1, min(_BUFFER_S, int(_BUFFER_SAMPLES / self.stream.sfreq)))
        inlet = pylsl.StreamInlet(self.stream.handle, max_buflen=buffer_s, recover=True)
        try:
            description = inlet.info(_CONNECT_S)
            self._map_channels(description)
            self._correction = self._measure_clock(inlet, _CLOCK_S)
            if self._correction is None:
                _log.warning(
                    "stream %s: its clock could not be compared with this machine's within %g s (is UDP blocked?); "
                    "markers carry its own time until that succeeds",
                    self.stream.name,
                    _CLOCK_S,
                )
            inlet.open_stream(_CONNECT_S)
        except (LostError, TimeoutError) as error:
            raise StreamError(
                f"stream {self.stream.name!r} on {self.stream.hostname} answered but did not connect: {error} "
                "Check the firewall: LSL needs TCP and UDP ports 16572 to 16604"
            ) from error
        self._inlet = inlet
        self._buffer = np.empty((_READ_SAMPLES, self.stream.n_channels), dtype=inlet.np_dtype)
        self._gaps = GapMarker(self.stream.sfreq)
        self._last_arrival = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        if self._inlet is not None:
            self._inlet.close_stream()
            self._inlet = None

    def read(self, timeout_s: float) -> list[Chunk]:
        """Return the samples that have arrived since the last read, waiting for the first one.

        Parameters
        ----------
        timeout_s : float
            The longest to wait, in s.

        Returns
        -------
        list of Chunk
            A new chunk after each gap; empty where nothing arrived in time.

        Raises
        ------
        StreamError
            The stream was lost, and cannot be waited for because it has no source id.
        """
        try:
            samples, times = self._inlet.pull_chunk(timeout_s, _READ_SAMPLES, self._buffer, 1, as_numpy=True)
        except self._lost_error as error:
            raise StreamError(
                f"stream {self.stream.name!r} was lost, and has no source id by which to find it again; "
                "start it and this command again"
            ) from error
        if not len(times):
            return []
        self._last_arrival = self._clock()
        data = np.ascontiguousarray(samples[:, self._columns].T, dtype=np.float64)
        if self._factors is not None:
            data *= self._factors
        return self._gaps.mark(data, times)

    @property
    def time_correction(self) -> float | None:
        """What to add to a time stamp to have it in this machine's LSL clock, in s; None before it was measured.

        Never waits: LSL measures in the background every few seconds.
        """
        if self._inlet is not None:
            measured = self._measure_clock(self._inlet, 0.0)
            self._correction = self._correction if measured is None else measured
        return self._correction

    @property
    def seconds_since_last_sample(self) -> float:
        """Time since the last sample arrived, or since the source was entered, in s of the local clock."""
        return self._clock() - self._last_arrival

    def _measure_clock(self, inlet: pylsl.StreamInlet, timeout_s: float) -> float | None:
        try:
            return float(inlet.time_correction(timeout_s))
        except (self._timeout_error, self._lost_error):
            return None

    def _map_channels(self, description: pylsl.StreamInfo) -> None:
        where = f"stream {self.stream.name!r}"
        labels, units = _read_channels(description)
        wanted = labels if self._picks is None else tuple(self._picks)
        self._columns = np.array(pick_channels(labels, wanted, where=where), dtype=np.intp)
        factors = [self._volts_per(units[column], where) for column in self._columns]
        self._factors: NDArray[np.float64] | None = None
        if any(factor != 1.0 for factor in factors):
            self._factors = np.array(factors)[:, None]
        self.info = StreamInfo(tuple(wanted), self.stream.sfreq, self.stream.name)
        if self._unit is None and not all(units[column] for column in self._columns):
            _log.warning("%s: no unit given for its channels, microvolts assumed; --unit says otherwise", where)

    def _volts_per(self, unit: str, where: str) -> float:
        try:
            return volts_per(self._unit or unit or "microvolts")
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def _check_kind(stream: FoundStream, sfreq: float | None) -> None:
    """Refuse streams that carry no signal of the rate that was asked for."""
    where = f"stream {stream.name!r} (type {stream.type})"
    if stream.dtype == "string":
        raise InputError(f"{where}: carries strings (markers), expected a signal; choose another with --stream")
    if stream.sfreq <= 0:
        raise InputError(f"{where}: has no regular sampling rate, expected a signal; choose another with --stream")
    if sfreq is not None and abs(stream.sfreq - sfreq) > SFREQ_TOLERANCE * sfreq:
        raise InputError(
            f"{where}: sampling rate {stream.sfreq:g} Hz, but the model was trained at {sfreq:g} Hz; "
            "set the amplifier to that rate, or train a model at this one"
        )


def _read_channels(description: pylsl.StreamInfo) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return label and unit of each channel; ``ch1``, ``ch2``, … and empty where the stream gives none."""
    labels: list[str] = []
    units: list[str] = []
    channel = description.desc().child("channels").child("channel")
    while not channel.empty() and len(labels) < description.channel_count():
        labels.append(channel.child_value("label").strip())
        units.append(channel.child_value("unit").strip())
        channel = channel.next_sibling("channel")
    n_missing = description.channel_count() - len(labels)
    named = [label or f"ch{number}" for number, label in enumerate(labels + [""] * n_missing, start=1)]
    return tuple(named), tuple(units + [""] * n_missing)
