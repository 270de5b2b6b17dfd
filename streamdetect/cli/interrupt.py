"""Ctrl-C and SIGTERM as a request to end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130


class StopRequest(threading.Event):
    """Set once the user wants to stop."""

    _interrupts = False

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the request interrupt what is done within, at once: for waits that do not look at the event.

        Raises
        ------
        KeyboardInterrupt
            The user wants to stop, or wanted to before.
        """
        if self.is_set():
            raise KeyboardInterrupt
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def request(self) -> None:
        """Note the wish to stop."""
        self.set()
        if self._interrupts:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Set an event at the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once.

    Yields
    ------
    StopRequest
        Set once the user wants to stop.
    """
    stop = StopRequest()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}  # as under nohup

    def request_stop(number: int, frame: FrameType | None) -> None:
        if signal.SIGINT in previous:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.request()

    for number in previous:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
