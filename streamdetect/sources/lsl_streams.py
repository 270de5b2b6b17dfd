"""Finding Lab Streaming Layer (LSL) streams on the network."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamdetect.errors import InputError, StreamError

if TYPE_CHECKING:
    import pylsl

_SETTLE_S = 0.8  # how long after the first answer another may come: liblsl asks known peers 0.5 s after all others
_POLL_S = 0.02  # between two looks for a stream
_SURVEY_S = 1.0  # how long to look for what else is on the network when nothing matched; liblsl's own default
_PREDICATE = re.compile(r"=|\b(?:starts-with|contains|not|count)\s*\(")


@dataclass(frozen=True, slots=True)
class FoundStream:
    """An LSL stream that answered.

    Parameters
    ----------
    name, type, source_id, hostname : str
        As the stream gives them; ``source_id`` may be empty.
    n_channels : int
        Number of channels.
    sfreq : float
        Nominal sampling rate in Hz; 0 for an irregular stream, such as markers.
    dtype : str
        ``float32``, ``float64``, ``int8``, ``int16``, ``int32``, ``int64`` or ``string``.
    """

    name: str
    type: str
    source_id: str
    hostname: str
    n_channels: int
    sfreq: float
    dtype: str
    handle: pylsl.StreamInfo = field(repr=False, compare=False)

    @property
    def uid(self) -> str:
        """Id of this very outlet: another one each time that the stream is put on the network."""
        return self.handle.uid()

    def __str__(self) -> str:
        rate = f"{self.sfreq:g} Hz" if self.sfreq else "irregular"
        return f"{self.name!r} (type {self.type}, {self.n_channels} channels, {rate}, on {self.hostname})"


def local_clock() -> float:
    """Return this machine's LSL clock in s."""
    import pylsl

    return pylsl.local_clock()


def find_streams(timeout_s: float = _SURVEY_S) -> list[FoundStream]:
    """List the streams on the network.

    Parameters
    ----------
    timeout_s : float
        How long to listen, in s; below 0.5 s some may be missed.

    Returns
    -------
    list of FoundStream
        By name, then by host.
    """
    import pylsl

    return describe_streams(pylsl.resolve_streams(timeout_s))


def resolve_stream(query: str, timeout_s: float, is_cancelled: Callable[[], bool] = lambda: False) -> FoundStream:
    """Find the one stream that a query means.

    Parameters
    ----------
    query : str
        A name, type or source id, or a predicate of LSL, such as ``type='EEG' and starts-with(name,'BrainAmp')``.
    timeout_s : float
        How long to look, in s.
    is_cancelled : callable
        Asked 50 times a second whether to give up.

    Returns
    -------
    FoundStream

    Raises
    ------
    StreamError
        None was found.
    InputError
        The query is empty, or several streams match.

    Notes
    -----
    Where multicast does not get through, liblsl asks at known peers for streams, and of each it asks 32 ports only
    (``PortRange`` in its configuration): of more streams than that on one machine some are not found.
    """
    import pylsl

    try:
        resolver = pylsl.ContinuousResolver(pred=make_predicate(query))
    except RuntimeError as error:
        raise InputError(f"stream: {query!r} is no predicate that LSL understands; try type='EEG'") from error
    if not _wait_for(lambda: is_cancelled() or len(resolver.results()) > 0, timeout_s):
        raise StreamError(_describe_absence(query, timeout_s))
    _wait_for(lambda: is_cancelled() or len(resolver.results()) > 1, _SETTLE_S)
    if is_cancelled():
        raise StreamError(f"stream: closed while looking for {query!r}")
    found = describe_streams(resolver.results())
    if len(found) > 1:
        listed = "; ".join(f"{stream}, source id {stream.source_id or 'none'}" for stream in found)
        raise InputError(
            f"stream: {query!r} matches {len(found)} streams: {listed}; name one of them by name or source id"
        )
    return found[0]


def _wait_for(is_true: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the answer is yes; unlike a wait inside liblsl, Ctrl-C ends it."""
    deadline = time.monotonic() + timeout_s
    while not (answer := is_true()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return answer


def make_predicate(query: str) -> str:
    """Return the LSL predicate (XPath 1.0) of a query.

    Parameters
    ----------
    query : str
        As in `resolve_stream`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The query is empty or holds both kinds of quotes.

    Examples
    --------
    >>> make_predicate("EEG")
    "name='EEG' or type='EEG' or source_id='EEG'"
    >>> make_predicate("type='EEG'")
    "type='EEG'"
    """
    query = query.strip()
    if not query:
        raise InputError("stream: empty; give a stream's name, type or source id, or a predicate such as type='EEG'")
    if _PREDICATE.search(query):
        return query
    if "'" in query and '"' in query:
        raise InputError(f"stream: {query} holds both kinds of quotes, which LSL cannot look for; use the source id")
    quoted = f'"{query}"' if "'" in query else f"'{query}'"
    return f"name={quoted} or type={quoted} or source_id={quoted}"


def describe_streams(handles: Sequence[pylsl.StreamInfo]) -> list[FoundStream]:
    """Return what pylsl has found, by name, then by host.

    Parameters
    ----------
    handles : sequence of pylsl.StreamInfo
        As its resolvers return them.

    Returns
    -------
    list of FoundStream
    """
    from pylsl.lib import cf_double64, cf_float32, cf_int8, cf_int16, cf_int32, cf_int64, cf_string

    dtypes = {
        cf_float32: "float32",
        cf_double64: "float64",
        cf_string: "string",
        cf_int8: "int8",
        cf_int16: "int16",
        cf_int32: "int32",
        cf_int64: "int64",
    }
    found = [
        FoundStream(
            name=handle.name(),
            type=handle.type(),
            source_id=handle.source_id(),
            hostname=handle.hostname(),
            n_channels=handle.channel_count(),
            sfreq=handle.nominal_srate(),
            dtype=dtypes.get(handle.channel_format(), "undefined"),
            handle=handle,
        )
        for handle in handles
    ]
    return sorted(found, key=lambda stream: (stream.name, stream.hostname, stream.source_id))


def _describe_absence(query: str, timeout_s: float) -> str:
    others = find_streams()
    seen = f"on the network: {', '.join(map(str, others))}" if others else "no stream at all is on the network"
    return (
        f"stream: no LSL stream matches {query!r} within {timeout_s:g} s; {seen}; "
        "start it, or see  streamdetect streams  and check network and firewall"
    )


def read_channels(description: pylsl.StreamInfo) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return label and unit of each channel; ``ch1``, ``ch2``, … and empty where the stream gives none.

    Parameters
    ----------
    description : pylsl.StreamInfo
        As an inlet's ``info`` gives it: what a search finds has no channels in it.

    Returns
    -------
    labels, units : tuple of str
    """
    labels, units = [], []
    channel = description.desc().child("channels").child("channel")
    for number in range(1, description.channel_count() + 1):  # past the last one all is empty
        labels.append(channel.child_value("label").strip() or f"ch{number}")
        units.append(channel.child_value("unit").strip())
        channel = channel.next_sibling("channel")
    return tuple(labels), tuple(units)
