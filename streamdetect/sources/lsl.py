"""Samples from a live Lab Streaming Layer (LSL) stream.

Time stamps pass through as the source wrote them, neither smoothed nor moved to this machine's clock, so that what is
recorded and what was seen agree; the offset between the clocks is measured beside them (`LSLSource.time_correction`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError, StreamError
from streamdetect.settings import SFREQ_TOLERANCE
from streamdetect.sources.channels import pick_channels, volts_per
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.lsl_inlet import Inlet, Layout
from streamdetect.sources.lsl_return import Lookout
from streamdetect.sources.lsl_streams import FoundStream, resolve_stream

_SILENT_S = 1.0  # without a sample for this long, and 5 samples, a stream is looked for
_SILENT_SAMPLES = 5
_FOLLOWED_S = 1.0  # two receivers whose liblsl finds a stream again by itself were measured to differ by 20 ms
_NOTHING: tuple[NDArray[Any], NDArray[np.float64]] = (np.empty((0, 0)), np.empty(0))
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
    settle_s : float
        How long a stream that came back is read without being delivered, in s: a recorder that looks for the stream,
        too, then has all that was delivered. At most 1 s where its source id is the same, for which both wait alike.
        What is left out counts as lost.
    clock : callable
        Local clock in s, for `seconds_since_last_sample` and ``settle_s``.

    Attributes
    ----------
    info : StreamInfo
        What is delivered; known once the source was entered.
    stream : FoundStream
        The stream, with its present source id; known once the source was entered.
    unit : str or None
        As given.

    Raises
    ------
    StreamError
        The stream was not found, did not answer, or came back with another layout.
    InputError
        Several streams match, or the stream has strings, another sampling rate, no rate or an unknown unit.
    ChannelError
        Channels are missing, or named twice.

    Notes
    -----
    Adds no delay: a read returns as soon as one sample is there, with all that are.

    - A stream that is lost is waited for. It has come back once a stream with its source id answers or, where none
      does, one stream with its name, type and host, whatever its source id; its description is compared before the
      first sample is delivered, and one with other channels, units, rate or number format is an error. The gap shows in
      the time stamps.
    - Samples that are not read wait in a buffer: half an hour of them, 4 million at most. Then the oldest are dropped;
      they count as lost, each one, before the next that is read.
    - Which samples count as lost, and which are left out because they came before: see
      `streamdetect.sources.gaps.GapMarker`.
    - No wait is longer than 0.1 s at a time, so that Ctrl-C ends it, and `close` called from another thread.
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
        settle_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query = query
        self._picks = picks
        self._sfreq = sfreq
        self._timeout_s = timeout_s
        self.unit = unit
        self._settle_s = settle_s
        self._clock = clock
        self._closing = threading.Event()
        self._inlet: Inlet | None = None
        self._lookout: Lookout | None = None
        self._is_held = False  # until what came back was compared with what it was
        self._held: tuple[NDArray[Any], NDArray[np.float64]] | None = None
        self._settled_at = 0.0
        self._correction: float | None = None
        self._last_arrival = 0.0

    def __enter__(self) -> Self:
        from pylsl.util import LostError

        self._lost_error = LostError
        if self.unit is not None:
            volts_per(self.unit)  # refuse it before looking for a stream
        self.stream = resolve_stream(self._query, self._timeout_s, self._closing.is_set)
        _check_kind(self.stream, self._sfreq)
        inlet = Inlet(self.stream, self._closing)
        try:
            self._layout = inlet.describe()
            self._map_channels(self._layout)
            self._correction = inlet.measure_clock()
            if self._correction is None:
                _log.warning(
                    "stream %s: its clock could not be compared with this machine's (is UDP blocked?); "
                    "markers carry its own time until that succeeds",
                    self.stream.name,
                )
            inlet.open()
        except BaseException:
            inlet.close()
            raise
        self._inlet = inlet
        self._gaps = GapMarker(self.stream.sfreq)
        self._silent_s = max(_SILENT_S, _SILENT_SAMPLES / self.stream.sfreq)
        self._last_arrival = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; end `__enter__`, where another thread is still in it."""
        self._closing.set()
        if self._lookout is not None:
            self._lookout.close()
            self._lookout = None
        if self._inlet is not None:
            self._inlet.close()
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
            The stream came back with other channels, units, rate or number format, or sent a time stamp that is NaN or
            infinite.
        """
        if self._lookout is not None:
            has_nothing = self._is_held or self._inlet is None
            if self._lookout.done.wait(timeout_s if has_nothing else 0.0):
                self._follow(self._lookout)
            elif has_nothing:
                return []
        if self._held is not None:
            (samples, times), self._held = self._held, None
        else:
            samples, times = self._pull(timeout_s)
        if not len(times) or (now := self._clock()) < self._settled_at:
            return []
        self._last_arrival = now
        if np.count_nonzero(np.isfinite(times)) < len(times):
            raise StreamError(
                f"stream {self.stream.name!r}: sent a time stamp that is not a number, so its samples have no place; "
                "have its program send those of LSL's clock"
            )
        data = np.multiply(samples.T[self._rows], self._factors, order="C", dtype=np.float64)
        return self._gaps.mark(data, times)

    def discard(self) -> None:
        """Leave out what has arrived so far, as if the source had been entered just now."""
        while self.read(0.0):
            pass
        self._gaps.reset()

    def _pull(self, timeout_s: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Take what is there, unless it has to wait because the stream has come back."""
        assert self._inlet is not None, "not entered, or closed"
        n_waiting = self._inlet.n_waiting
        is_silent = self.seconds_since_last_sample > self._silent_s
        if not n_waiting and not timeout_s and not is_silent:
            return _NOTHING  # at once: of many streams most are asked in vain
        if n_waiting >= self._inlet.capacity:
            _log.warning("stream %s: read too slowly, its buffer ran over", self.stream.name)
            self._gaps.expect_loss()
        try:
            samples, times = self._inlet.pull(timeout_s, n_waiting)
        except self._lost_error:
            self._inlet.close()
            self._inlet = None
            self._look_out(has_returned=False)
            return _NOTHING
        if self._inlet.was_recovered() or (len(times) and self._lookout is not None and self._lookout.is_restarted):
            self._is_held = True
            self._held = (samples.copy(), times) if len(times) else None
            self._look_out(has_returned=True)
            return _NOTHING
        if len(times):
            if self._lookout is not None:
                self._lookout.close()
                self._lookout = None
        elif self._lookout is None and is_silent:
            self._look_out(has_returned=False)
        return samples, times

    def _look_out(self, *, has_returned: bool) -> None:
        if self._lookout is not None:
            self._lookout.close()
        self._lookout = Lookout(self._query, self.stream, self._layout, has_returned=has_returned)

    def _follow(self, lookout: Lookout) -> None:
        """Go on with the stream that came back."""
        returned = lookout.returned
        assert returned is not None
        if returned.change:  # and again, should somebody go on reading
            raise StreamError(
                f"stream {self.stream.name!r} came back as another: {returned.change}; "
                "set it up as before, or start this command again for the new one"
            )
        _log.info("%s is back", returned.stream)
        self._lookout, self._is_held = None, False
        self.stream, self._correction = returned.stream, returned.time_correction
        if returned.inlet is not None:
            if self._inlet is not None:
                self._inlet.close()
            self._inlet = returned.inlet
        if self._settle_s:
            is_new = returned.inlet is not None
            self._settled_at = self._clock() + (self._settle_s if is_new else min(_FOLLOWED_S, self._settle_s))

    @property
    def n_repeated(self) -> int:
        """Samples that came more than once, and were left out each further time."""
        return self._gaps.n_repeated

    @property
    def time_correction(self) -> float | None:
        """What to add to a time stamp to have it in this machine's LSL clock, in s; None before it was measured.

        Never waits: LSL measures in the background every few seconds.
        """
        if self._inlet is not None:
            measured = self._inlet.measure_clock(0.0)
            self._correction = self._correction if measured is None else measured
        return self._correction

    @property
    def seconds_since_last_sample(self) -> float:
        """Time since the last sample arrived, or since the source was entered, in s of the local clock."""
        return self._clock() - self._last_arrival

    def _map_channels(self, layout: Layout) -> None:
        where = f"stream {self.stream.name!r}"
        labels, units = layout.labels, layout.units
        wanted = labels if self._picks is None else tuple(self._picks)
        columns = pick_channels(labels, wanted, where=where)
        is_all = columns == list(range(len(labels)))  # then nothing has to be copied
        self._rows = slice(None) if is_all else np.array(columns, dtype=np.intp)
        self._factors = np.array([self._volts_per(units[column], where) for column in columns])[:, None]
        self.info = StreamInfo(tuple(wanted), self.stream.sfreq, self.stream.name)
        if self.unit is None and not all(units[column] for column in columns):
            _log.warning("%s: no unit given for its channels, microvolts assumed; --unit says otherwise", where)

    def _volts_per(self, unit: str, where: str) -> float:
        try:
            return volts_per(self.unit or unit or "microvolts")
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
