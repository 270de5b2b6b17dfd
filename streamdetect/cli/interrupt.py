"""Ctrl-C and SIGTERM as a request to end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Set an event at the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once.

    Yields
    ------
    threading.Event
        Set once the user wants to stop.
    """
    stop = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}  # as under nohup

    def request_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        if signal.SIGINT in previous:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in previous:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
