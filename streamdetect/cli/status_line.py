"""One line that tells how long work stands: rewritten in place on a terminal, printed every 5 s in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
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
        self._due = -float("inf")

    @property
    def width(self) -> int:
        """Characters that fit in the line."""
        return self._console.width

    def __enter__(self) -> StatusLine:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, make_text: Callable[[], str]) -> None:
        """Show a line, where it is time for one.

        Parameters
        ----------
        make_text : callable
            Makes the text; called only where it is shown.
        """
        now = self._clock()
        if now < self._due:
            return
        if self._console.is_terminal:
            self._due = now + _TERMINAL_INTERVAL_S
            self._live.update(Text(make_text(), no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._due = now + PLAIN_INTERVAL_S
            self._console.print(Text(make_text()))
