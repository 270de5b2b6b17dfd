"""Simulated trouble: the samples of a recording with the faults of a plan, for `streamdetect.player.play` to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.sources.channel_faults import ChannelFaults
from streamdetect.sources.channels import pick_channels
from streamdetect.sources.fault_plan import ClockJump, Drift, Duplicates, FaultPlan, Gap, Restart, span_of
from streamdetect.sources.gaps import LONGEST_GAP_S


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """Samples to send.

    Parameters
    ----------
    chunk : Chunk
        The samples in volts, with the recording's own times. ``n_lost`` is what is missing before them, of the
        recording itself and through the plan; 0 before the first samples, and where the stamps start anew.
    stamps : ndarray, shape (n_times,), float64
        Time stamp of each sample in s after the start of the play.
    due : float
        When the last sample is due, in s after the start at real speed: a clock that jumps does not change it.
    n_next : int
        Index of the sample after the last, lost ones counted.
    repeated : bool
        True where all of them were sent before.
    """

    chunk: Chunk
    stamps: NDArray[np.float64]
    due: float
    n_next: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Reopening:
    """The stream has to leave the network now, and to come back.

    Parameters
    ----------
    due : float
        When it comes back, in s after the start at real speed.
    new_source_id : bool
        Whether it comes back under a new source id.
    ch_names : tuple of str
        The channels that it has from then on.
    """

    due: float
    new_source_id: bool
    ch_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FaultCount:
    """What was performed of the faults of a kind.

    Parameters
    ----------
    n_faults : int
        How many began.
    n_samples : int
        How many samples they befell, sent or not; 0 for clock jumps.
    """

    n_faults: int
    n_samples: int


def count_faults(plan: FaultPlan, sfreq: float, n_samples: int) -> dict[str, FaultCount]:
    """Count what of a plan befell the first samples of a recording.

    Parameters
    ----------
    plan : FaultPlan
        The plan.
    sfreq : float
        Sampling rate in Hz.
    n_samples : int
        How many samples, lost ones counted.

    Returns
    -------
    dict of str to FaultCount
        For each kind in the plan, in the plan's order.

    Examples
    --------
    >>> plan = FaultPlan(faults=({"kind": "gap", "onset": 1.0, "duration": 2.0},))
    >>> count_faults(plan, 10.0, 25)
    {'gap': FaultCount(n_faults=1, n_samples=15)}
    """
    counts: dict[str, FaultCount] = {}
    for fault in plan.faults:
        start, stop = span_of(fault, sfreq)
        before = counts.get(fault.kind, FaultCount(0, 0))
        n_befallen = max(0, min(stop, n_samples) - start)
        counts[fault.kind] = FaultCount(before.n_faults + (start < n_samples), before.n_samples + n_befallen)
    return counts


def apply_faults(plan: FaultPlan, chunks: Iterable[Chunk], info: StreamInfo) -> Iterator[Delivery | Reopening]:
    """Let the faults of a plan befall the samples of a recording.

    Parameters
    ----------
    plan : FaultPlan
        Without faults every sample comes through as it is.
    chunks : iterable of Chunk
        The recording; asked for the next one only once everything before it was taken.
    info : StreamInfo
        Its channels and sampling rate.

    Returns
    -------
    iterator of Delivery or Reopening
        In the order in which they are to be performed.

    Raises
    ------
    ChannelError
        A fault names a channel that the recording lacks.

    Notes
    -----
    Sample n, lost ones counted, is due ``n / sfreq`` after the start, drifts aside. Where the recording starts anew
    without a known gap, the stamps jump ahead by so much that receivers start anew too (`LONGEST_GAP_S`). Joined, the
    samples and stamps do not depend on how the recording is cut. A stretch of duplicates is kept until its end.

    Examples
    --------
    >>> plan = FaultPlan(faults=({"kind": "gap", "onset": 0.2, "duration": 0.3},))
    >>> recording = [Chunk(np.zeros((1, 10)), np.arange(10) / 10)]
    >>> [(one.chunk.n_times, one.chunk.n_lost) for one in apply_faults(plan, recording, StreamInfo(("C3",), 10.0))]
    [(2, 0), (5, 3)]
    """
    return _perform(ChannelFaults(plan, info), _StreamFaults(plan, info), chunks)


def _perform(
    channel_faults: ChannelFaults, stream_faults: _StreamFaults, chunks: Iterable[Chunk]
) -> Iterator[Delivery | Reopening]:
    n_next = 0
    for whole in chunks:
        n_next += whole.n_lost
        chunk = replace(whole, data=channel_faults.process(whole.data, n_next))
        yield from stream_faults.process(chunk, n_next)
        n_next += whole.n_times
    yield from stream_faults.flush()


class _StreamFaults:
    """Leaves samples out, sends some twice and stamps them all."""

    def __init__(self, plan: FaultPlan, info: StreamInfo) -> None:
        self._info = info
        placed = sorted(((*span_of(fault, info.sfreq), fault) for fault in plan.faults), key=lambda each: each[0])
        self._edges = sorted({edge for start, stop, _ in placed for edge in (start, stop)})
        self._holes = [(start, stop) for start, stop, fault in placed if isinstance(fault, Gap | Restart)]
        self._restarts = [
            (start, stop, fault, self._pick(fault)) for start, stop, fault in placed if isinstance(fault, Restart)
        ]
        self._repeats = [(start, stop) for start, stop, fault in placed if isinstance(fault, Duplicates)]
        self._jumps = [(start, fault.jump_s) for start, _, fault in placed if isinstance(fault, ClockJump)]
        self._drifts = [(start, stop, fault.ppm) for start, stop, fault in placed if isinstance(fault, Drift)]
        self._rows: list[int] | None = None  # all, in their order
        self._stretch: list[Delivery] = []  # sent, and to be sent again
        self._clock_ahead_s = 0.0
        self._is_sent = self._restart = False
        self._n_lost = 0

    def process(self, chunk: Chunk, n_next: int) -> Iterator[Delivery | Reopening]:
        """Perform what befalls a chunk, whose first sample is number ``n_next``."""
        self._n_lost += chunk.n_lost
        if chunk.restart:
            self._jump(LONGEST_GAP_S + 1.0)
        if chunk.n_times == 0:
            return
        edges = [n_next, *(e for e in self._edges if n_next < e < n_next + chunk.n_times), n_next + chunk.n_times]
        for first, stop in pairwise(edges):
            yield from self._turn(first)
            if any(start <= first < end for start, end in self._holes):
                self._n_lost += stop - first
                continue
            delivery = self._deliver(chunk, first, first - n_next, stop - n_next)
            if self._repeats and self._repeats[0][0] <= first:
                self._stretch.append(replace(delivery, chunk=replace(delivery.chunk, n_lost=0), repeated=True))
            yield delivery

    def flush(self) -> Iterator[Delivery]:
        """Send again what the end of the recording has cut short."""
        yield from self._stretch

    def _turn(self, first: int) -> Iterator[Delivery | Reopening]:
        """Perform what comes between two samples, ``first`` being the second."""
        if self._repeats and self._repeats[0][1] <= first:
            yield from self._stretch
            self._stretch = []
            del self._repeats[0]
        while self._jumps and self._jumps[0][0] <= first:
            self._jump(self._jumps.pop(0)[1])
        while self._restarts and self._restarts[0][0] <= first:
            _, stop, fault, self._rows = self._restarts.pop(0)
            due = float(self._due(np.array([stop]))[0])
            yield Reopening(due, fault.source_id == "new", tuple(self._info.ch_names[row] for row in self._rows))

    def _pick(self, fault: Restart) -> list[int]:
        return pick_channels(self._info.ch_names, fault.ch_names or self._info.ch_names, where="fault plan")

    def _deliver(self, chunk: Chunk, first: int, start: int, stop: int) -> Delivery:
        n_next = first + stop - start
        due = self._due(np.arange(first, n_next))
        n_lost = self._n_lost if self._is_sent and not self._restart else 0
        data = chunk.data[:, start:stop] if self._rows is None else chunk.data[self._rows, start:stop]
        piece = Chunk(data, chunk.times[start:stop], n_lost, self._restart)
        self._is_sent, self._restart, self._n_lost = True, False, 0
        return Delivery(piece, due + self._clock_ahead_s, float(due[-1]), n_next)

    def _jump(self, seconds: float) -> None:
        self._clock_ahead_s += seconds
        self._restart = self._is_sent

    def _due(self, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return when samples are due, in s."""
        due = samples / self._info.sfreq
        for start, stop, ppm in self._drifts:
            drifted_s = np.clip(samples - start, 0, stop - start) / self._info.sfreq
            due += drifted_s * (1.0 / (1.0 + 1e-6 * ppm) - 1.0)
        return due
