"""A stream that fell silent or came back: where it is now, and whether it is still what it was."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from streamdetect.errors import StreamError
from streamdetect.sources.lsl_inlet import Inlet, Layout, describe_change
from streamdetect.sources.lsl_streams import FoundStream, describe_streams, make_predicate

_POLL_S = 0.05  # between two looks at what has answered
_FORGET_S = 2.0  # how long a stream that no longer answers still counts as there

_log = logging.getLogger(__name__)


def find_successor(stream: FoundStream, found: Sequence[FoundStream], *, is_gone: bool = False) -> FoundStream | None:
    """Pick the stream that another one has come back as.

    Parameters
    ----------
    stream : FoundStream
        As it was.
    found : sequence of FoundStream
        What answers now.
    is_gone : bool
        Whether it is known to be gone; else it is where it still answers.

    Returns
    -------
    FoundStream or None
        The one with the same source id; else the one with the same name, type and host, whatever its source id. None
        where there is none, where several fit, and where the stream itself still answers.
    """
    if not is_gone and any(each.uid == stream.uid for each in found):
        return None
    others = [each for each in found if each.uid != stream.uid]
    same_id = [each for each in others if each.source_id and each.source_id == stream.source_id]
    same_place = [each for each in others if _place(each) == _place(stream)]
    candidates = same_id or same_place
    return candidates[0] if len(candidates) == 1 else None


def _place(stream: FoundStream) -> tuple[str, str, str]:
    return stream.name, stream.type, stream.hostname


def is_followed_by_liblsl(stream: FoundStream, successor: FoundStream) -> bool:
    """Say whether liblsl connects to a successor by itself."""
    return bool(stream.source_id) and all(
        getattr(stream, what) == getattr(successor, what)
        for what in ("source_id", "name", "type", "n_channels", "dtype")
    )


@dataclass(frozen=True, slots=True)
class Returned:
    """A stream that came back.

    Parameters
    ----------
    stream : FoundStream
        As it answers now.
    change : str
        How its layout differs from before; empty where it does not.
    time_correction : float or None
        As in `Inlet.measure_clock`.
    inlet : Inlet or None
        Open and yet to be read; None where liblsl has connected by itself, and where the layout differs.
    """

    stream: FoundStream
    change: str
    time_correction: float | None
    inlet: Inlet | None


class Lookout:
    """Looks for a stream in the background, until it has come back or `close` is called.

    Parameters
    ----------
    query : str
        What the user asked for, as in `streamdetect.sources.lsl_streams.resolve_stream`.
    stream : FoundStream
        The stream as it was.
    layout : Layout
        Its layout, with which that of the stream that comes back is compared.
    has_returned : bool
        True where liblsl has connected to it already, and only the comparison is wanted; False where it is silent, and
        liblsl is left to connect by itself where it does that.

    Attributes
    ----------
    done : threading.Event
        Set once `returned` is there.
    returned : Returned or None
        What was found.
    is_restarted : bool
        True once a stream has answered that liblsl will connect to by itself.
    """

    def __init__(self, query: str, stream: FoundStream, layout: Layout, *, has_returned: bool) -> None:
        self.done = threading.Event()
        self.returned: Returned | None = None
        self.is_restarted = False
        self._predicate = f"({make_predicate(query)})"
        if stream.source_id and not {"'", '"'} <= set(stream.source_id):  # also where the query asks for a rate
            quote = '"' if "'" in stream.source_id else "'"
            self._predicate += f" or source_id={quote}{stream.source_id}{quote}"
        self._stream = stream
        self._layout = layout
        self._has_returned = has_returned
        self._closing = threading.Event()
        threading.Thread(target=self._look, name=f"lookout {stream.name}", daemon=True).start()

    def close(self) -> None:
        """End the search; its thread ends within 0.1 s."""
        self._closing.set()

    def _look(self) -> None:
        import pylsl

        resolver = pylsl.ContinuousResolver(pred=self._predicate, forget_after=_FORGET_S)
        while not self._closing.wait(_POLL_S):
            successor = find_successor(self._stream, describe_streams(resolver.results()), is_gone=self._has_returned)
            if successor is None:
                continue
            if not self._has_returned and is_followed_by_liblsl(self._stream, successor):
                self.is_restarted = True
                continue
            try:
                self.returned = self._compare(successor)
            except StreamError as error:  # gone again
                _log.info("%s", error)
                continue
            self.done.set()
            return

    def _compare(self, successor: FoundStream) -> Returned:
        inlet = Inlet(successor, self._closing)
        is_kept = False
        try:
            change = describe_change(self._layout, inlet.describe())
            correction = None if change else inlet.measure_clock()
            if not change and not self._has_returned:
                inlet.open()
                is_kept = True
            return Returned(successor, change, correction, inlet if is_kept else None)
        finally:
            if not is_kept:
                inlet.close()
