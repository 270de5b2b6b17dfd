"""A clock that stands still but for those who sleep."""

from __future__ import annotations

import threading


class FakeTime(threading.Event):
    """A clock and the event that is slept in: sleeping moves the clock, on and beyond the time asked for."""

    def __init__(self, oversleep_s=0.0):
        super().__init__()
        self.now = 1000.0
        self.oversleep_s = oversleep_s

    def clock(self):
        return self.now

    def wait(self, timeout=None):
        self.now += timeout + self.oversleep_s
        return self.is_set()
