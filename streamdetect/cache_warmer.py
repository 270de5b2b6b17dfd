"""Keeps a detector's code and data in the processor's caches while it waits for samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

from streamdetect.chunk import Chunk
from streamdetect.detector import Detector, decide_together
from streamdetect.sources.live import LiveSource

_AHEAD_S = 0.001  # from the end of an exercise to the samples: more than they are early by, less than caches last
_MOST_S = 0.1  # of signal in an exercise
_N_ARRIVALS = 9


class CacheWarmer:
    """Has a copy of a detector decide on the last samples once more, just before the next ones are due.

    Who has slept for 20 ms finds the caches full of what others did, and the processor at a low clock: the same chunk
    then takes several times as long as right after another one. What the copy decides is dropped. Where samples come
    every few ms, or later than they mostly do, nothing is done; samples that come in the midst of an exercise wait for
    its end.

    Parameters
    ----------
    detector : Detector
        Whose caches to keep; it is not touched.
    clock : callable
        In s.
    """

    def __init__(self, detector: Detector, clock: Callable[[], float]) -> None:
        self._detector = detector
        self._clock = clock
        self._copy: Detector | None = None
        self._n_most = round(_MOST_S * detector.model.metadata.sfreq)
        self._chunk: Chunk | None = None  # the last one, until it has been an exercise
        self._arrivals: deque[float] = deque(maxlen=_N_ARRIVALS)
        self._taken_s = 0.0

    def read(self, source: LiveSource, timeout_s: float) -> list[Chunk]:
        """Read as the source does, with an exercise before the samples where there is time for one.

        Parameters
        ----------
        source : LiveSource
        timeout_s : float
            The longest to wait for samples, in s.

        Returns
        -------
        list of Chunk

        Raises
        ------
        StreamError
            The source was lost for good.
        """
        left_s = self._seconds_to_exercise()
        chunks = []
        if left_s is not None and 0.0 < left_s < timeout_s:
            timeout_s -= left_s
            chunks = source.read(left_s)
            if not chunks:
                self._exercise()
        chunks = chunks or source.read(timeout_s)
        if chunks:
            self._arrivals.append(self._clock())
            last = chunks[-1]
            self._chunk = last.part(max(0, last.n_times - self._n_most), last.n_times)
        return chunks

    def _seconds_to_exercise(self) -> float | None:
        if self._chunk is None or len(self._arrivals) < _N_ARRIVALS:
            return None
        interval_s = sorted(after - before for before, after in pairwise(self._arrivals))[_N_ARRIVALS // 2]
        begins = self._arrivals[-1] + interval_s - _AHEAD_S - min(self._taken_s, interval_s / 2)
        return begins - self._clock()

    def _exercise(self) -> None:
        began = self._clock()
        if self._copy is None:
            self._copy = self._detector.copy()
        chunk, self._chunk = self._chunk, None
        if chunk is not None:
            decide_together([(self._copy, self._copy.compute(chunk))])
        self._taken_s = self._clock() - began
