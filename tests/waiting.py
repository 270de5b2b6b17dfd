"""Waits for what another process or thread is to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BOUND_S = 60.0  # for what should have been done long before


def wait_until(is_true: Callable[[], bool], timeout_s: float = BOUND_S) -> None:
    """Return once it is true, and fail where it is not in time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not is_true():
        assert time.monotonic() < deadline, "it took too long"
        pause.wait(0.02)
