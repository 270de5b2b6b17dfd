"""How fast a live session works: delay of its decisions, and load."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence

import numpy as np

RECENT_S = 10.0
_MAX_DELAYS = 100_000  # for the whole session: half an hour and more

Delay = dict[str, float | None]  # ``median`` and ``p99`` in s; None where there were no decisions


class Pace:
    """Takes how long each read of samples took.

    Parameters
    ----------
    now : float
        When the session begins, in s of the local clock.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._reads: deque[tuple[float, float, float]] = deque()  # when done, time taken, delay or NaN
        self._delays = array("f")
        self._n_delays = 0

    def note(self, done: float, taken_s: float, delay_s: float | None) -> None:
        """Take what one read was.

        Parameters
        ----------
        done : float
            When its decisions were out, in s of the local clock.
        taken_s : float
            How long that took from when the samples were there, in s.
        delay_s : float or None
            From its last decision's last sample to then, in s; None where it led to no decision.
        """
        self._reads.append((done, taken_s, math.nan if delay_s is None else delay_s))
        while self._reads[0][0] < done - RECENT_S:
            self._reads.popleft()
        if delay_s is None:
            return
        if self._n_delays < _MAX_DELAYS:
            self._delays.append(delay_s)
        else:
            self._delays[self._n_delays % _MAX_DELAYS] = delay_s
        self._n_delays += 1

    def measure(self, now: float) -> tuple[Delay, float]:
        """Return delay and load over the last 10 s.

        Parameters
        ----------
        now : float
            In s of the local clock.

        Returns
        -------
        delay_s : dict of str to float or None
            ``median`` and ``p99``.
        load : float
            Share of a core, 0 to 1.
        """
        recent = [read for read in self._reads if read[0] >= now - RECENT_S]
        span_s = min(RECENT_S, max(now - self._began, 0.1))
        load = min(1.0, sum(taken_s for _, taken_s, _ in recent) / span_s)
        return _quantiles([delay_s for _, _, delay_s in recent if not math.isnan(delay_s)]), load

    def measure_all(self) -> Delay:
        """Return the delay over the whole session: of the latest 100,000 reads with a decision."""
        return _quantiles(self._delays)


def _quantiles(delays_s: Sequence[float]) -> Delay:
    if not len(delays_s):
        return {"median": None, "p99": None}
    return {"median": float(np.median(delays_s)), "p99": float(np.percentile(delays_s, 99))}
