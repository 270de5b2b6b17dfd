"""How long work stands: a picture redrawn in place on a terminal, lines every 5 s in a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

PLAIN_INTERVAL_S = 5.0
_TERMINAL_INTERVAL_S = 0.1


class StatusLine:
    """Shows the latest text on standard error; a context manager.

    Parameters
    ----------
    console : rich.console.Console or None
        Where to write; None for standard error.
    clock : callable
        Local clock in s.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, soft_wrap=not sys.stderr.isatty())
        self._clock = clock
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._stack = ExitStack()
        self._due = -float("inf")

    def __enter__(self) -> StatusLine:
        if self._console.is_terminal:
            before = sys.stderr
            self._live.start()
            self._stack.callback(self._live.stop)
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                    handler.setStream(sys.stderr)  # which writes above the picture now
                    self._stack.callback(handler.setStream, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, make_text: Callable[[], str], make_picture: Callable[[], RenderableType] | None = None) -> None:
        """Show how it stands, where it is time to.

        Parameters
        ----------
        make_text : callable
            Makes the text; called only where it is shown.
        make_picture : callable or None
            Makes what a terminal shows; None for the first line of the text, cut to the terminal's width.
        """
        now = self._clock()
        if now < self._due:
            return
        if self._console.is_terminal:
            self._due = now + _TERMINAL_INTERVAL_S
            picture = make_picture() if make_picture else Text(make_text(), no_wrap=True, overflow="ellipsis")
            self._live.update(picture, refresh=True)
        else:
            self._due = now + PLAIN_INTERVAL_S
            self._console.print(Text(make_text()))
