"""How fast a live session works: delay of its decisions, and load."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
        self._reads = array("d")  # of each: when done, time taken, delay or NaN
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
        self._reads.extend((done, taken_s, math.nan if delay_s is None else delay_s))
        if delay_s is None:
            return
        if self._n_delays < _MAX_DELAYS:
            self._delays.append(delay_s)
        else:
            self._delays[self._n_delays % _MAX_DELAYS] = delay_s
        self._n_delays += 1

    def measure(self, now: float) -> tuple[Delay, float]:
        """Return delay and load over the last 10 s, and forget what was before.

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
        done, taken_s, delay_s = np.array(self._reads).reshape(-1, 3).T
        first = int(np.searchsorted(done, now - RECENT_S))
        del self._reads[: 3 * first]
        span_s = min(RECENT_S, max(now - self._began, 0.1))
        load = min(1.0, float(taken_s[first:].sum()) / span_s)
        return _quantiles(delay_s[first:][~np.isnan(delay_s[first:])]), load

    def measure_all(self) -> Delay:
        """Return the delay over the whole session: of the latest 100,000 reads with a decision."""
        return _quantiles(self._delays)


def _quantiles(delays_s: Sequence[float] | NDArray[np.float64]) -> Delay:
    if not len(delays_s):
        return {"median": None, "p99": None}
    median, p99 = np.percentile(delays_s, [50.0, 99.0]).tolist()
    return {"median": median, "p99": p99}
