"""A recording as a live LSL stream."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.settings import to_samples
from streamdetect.sinks.lsl import MarkerOutlet, SignalOutlet
from streamdetect.sources.fault_plan import FaultPlan
from streamdetect.sources.faults import Delivery, FaultCount, Reopening, apply_faults, count_faults
from streamdetect.sources.lsl_streams import local_clock

_LONGEST_BLOCK_S = 1.0  # of signal: what is read, and at most sent, at a time
_MARKER_GRACE_S = 0.5  # who takes the signal and the markers connects to the two within this time
_LINGER_SLICE_S = 0.05
_FLUSH_S = 0.5  # before a stream leaves the network in the middle: what is still in the outlet would be lost uncounted


class PlayableRecording(Protocol):
    """What `play` needs of a recording; `streamdetect.sources.recording.Recording` has it."""

    @property
    def info(self) -> StreamInfo:
        """Channels and sampling rate."""

    @property
    def n_times(self) -> int:
        """Number of samples."""

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """What happened, by onset."""

    def chunks(self, picks: None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        """Yield the samples."""


@dataclass(frozen=True)
class PlaySummary:
    """What was played.

    Parameters
    ----------
    start_time : float or None
        Time stamp of the first sample in s; None where nothing was sent.
    n_samples, n_markers : int
        Samples and annotations sent.
    seconds : float
        Length of the signal sent, in s.
    complete : bool
        False where it was stopped before the end.
    worst_delay_s : float
        The latest that a block was sent, in s after its time.
    n_lost : int
        Samples that a receiver misses between those sent: the recording's own losses, gaps and restarts.
    n_repeated : int
        Samples that were sent a second time; they do not count in ``n_samples``.
    faults : dict of str to FaultCount
        What was performed of the fault plan, by kind.
    """

    start_time: float | None
    n_samples: int
    n_markers: int
    seconds: float
    complete: bool
    worst_delay_s: float
    n_lost: int = 0
    n_repeated: int = 0
    faults: dict[str, FaultCount] = field(default_factory=dict)


def play(
    recording: PlayableRecording,
    *,
    name: str | None = None,
    speed: float = 1.0,
    dtype: str = "float32",
    plan: FaultPlan | None = None,
    chunk_s: float = 0.02,
    wait_for_consumer_s: float | None = None,
    linger_s: float = 2.0,
    clock: Callable[[], float] = local_clock,
    stop: threading.Event | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PlaySummary:
    """Send a recording as a live EEG stream, and its annotations as the stream ``<name>-markers``.

    Parameters
    ----------
    recording : Recording
        What to play.
    name : str or None
        Name of the stream; None for the recording's.
    speed : float
        How many times faster than real time, above 0; ``inf`` for as fast as it goes.
    dtype : {"float32", "float64"}
        ``float32`` sends microvolts, ``float64`` volts bit for bit.
    plan : FaultPlan or None
        What is to go wrong; None for nothing.
    chunk_s : float
        Time between two sends, in s of the clock.
    wait_for_consumer_s : float or None
        The longest to wait for somebody to take the stream, before the first sample; None for as long as it takes.
    linger_s : float
        The longest that the stream stays on the network after its last sample, while somebody still takes it.
    clock : callable
        The LSL clock in s.
    stop : threading.Event or None
        Ends the play early; its ``wait`` is what the play sleeps in.
    on_progress : callable or None
        Called with the number of samples sent and of all after each send, with 0 once somebody takes the stream.

    Returns
    -------
    PlaySummary

    Raises
    ------
    InputError
        Speed, dtype or chunk length cannot be used.
    ChannelError
        The plan names a channel that the recording lacks.

    Notes
    -----
    Sample n, lost ones counted, has the time stamp ``t0 + n / sfreq`` at any speed, with ``t0`` the clock when the play
    began. A block is sent when its last sample is due on the schedule ``t0 + n / (sfreq * speed)``, which does not
    drift. Lost samples are left out and their time stamps with them; where a recording starts anew without a known
    gap, the time stamps jump ahead by so much that receivers start anew too (`LONGEST_GAP_S`). Annotations beyond the
    last sample are not sent. LSL has no flow control: at speeds that a receiver cannot follow, it loses what its
    buffer does not hold, which the time stamps show as a gap.

    A stream that restarts stays away until somebody takes it again, ``wait_for_consumer_s`` at most beyond its time:
    `PlaySummary.n_lost` counts that too, and ``t0`` moves on by it. The marker stream stays.
    """
    if not speed > 0:
        raise InputError(f"speed: expected a number above 0, found {speed:g}")
    if not (chunk_s > 0 and math.isfinite(chunk_s)):
        raise InputError(f"chunk_s: expected a duration above 0 s, found {chunk_s:g}")
    plan, stop = plan or FaultPlan(), stop or threading.Event()
    info = replace(recording.info, name=name or recording.info.name)
    block_samples = to_samples(min(chunk_s * speed, _LONGEST_BLOCK_S), info.sfreq)
    steps = apply_faults(plan, _blocks(recording, block_samples), info)
    stage = _Stage(info, dtype, recording.annotations, speed, wait_for_consumer_s, clock, stop)
    complete = False
    try:
        stage.open()
        if on_progress is not None:
            on_progress(0, recording.n_times)
        for step in steps:
            if isinstance(step, Reopening):
                stage.reopen(step)
            elif not stage.send(step):
                break
            elif on_progress is not None:
                on_progress(stage.n_sent, recording.n_times)
        else:
            complete = True
            _linger(stage.signal, linger_s, stop)
    finally:
        stage.close()
    return PlaySummary(
        start_time=stage.start_time,
        n_samples=stage.n_sent,
        n_markers=stage.n_markers,
        seconds=(stage.n_next + stage.n_away) / info.sfreq,
        complete=complete,
        worst_delay_s=stage.worst_delay_s,
        n_lost=stage.n_lost,
        n_repeated=stage.n_repeated,
        faults=count_faults(plan, info.sfreq, stage.n_next),
    )


class _Stage:
    """The two streams while they are played, and what was sent."""

    def __init__(
        self,
        info: StreamInfo,
        dtype: str,
        annotations: Iterable[Annotation],
        speed: float,
        wait_for_consumer_s: float | None,
        clock: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self._info = info
        self._dtype = dtype
        self._annotations = deque(sorted(annotations, key=lambda note: note.onset))
        self._speed = speed
        self._wait_for_consumer_s = wait_for_consumer_s
        self._clock = clock
        self._stop = stop
        self.signal = SignalOutlet(info, dtype)
        self._markers = MarkerOutlet(f"{info.name}-markers") if self._annotations else None
        self._source_id: str | None = None
        self._t0 = self._last_time = 0.0  # the clock at the start; time stamp of the sample before this block
        self.start_time: float | None = None
        self.worst_delay_s = 0.0
        self.n_sent = self.n_next = self.n_lost = self.n_repeated = self.n_markers = self.n_away = 0
        self._n_away_now = 0  # of those, since the last sample

    def open(self) -> None:
        """Wait for a receiver, and start the clock."""
        self.signal.wait_for_consumer(self._wait_for_consumer_s, self._stop.is_set)
        if self._markers is not None and self.signal.has_consumer:
            self._markers.wait_for_consumer(_MARKER_GRACE_S, self._stop.is_set)
        self._t0 = self._clock()

    def close(self) -> None:
        """Take the streams off the network."""
        self.signal.close()
        if self._markers is not None:
            self._markers.close()

    def reopen(self, reopening: Reopening) -> None:
        """Take the signal off the network, and bring it back when it is due and somebody takes it."""
        had_consumer = self.signal.has_consumer
        _linger(self.signal, _FLUSH_S, self._stop)
        self.signal.close()
        self._sleep_until(reopening.due)
        if reopening.new_source_id:
            self._source_id = f"{self._info.name}-{uuid4()}"
        self.signal = SignalOutlet(replace(self._info, ch_names=reopening.ch_names), self._dtype, self._source_id)
        came_back = self._clock()
        if had_consumer:
            self.signal.wait_for_consumer(self._wait_for_consumer_s, self._stop.is_set)
        n_late = math.ceil((self._clock() - came_back) * self._info.sfreq)
        self._t0 += n_late / self._info.sfreq
        self.n_away += n_late
        self._n_away_now += n_late if self.n_sent else 0

    def send(self, delivery: Delivery) -> bool:
        """Send samples when they are due, and the annotations beside them; say False where somebody stops it."""
        delay_s = self._sleep_until(delivery.due)
        if self._stop.is_set():
            return False
        block, times = delivery.chunk, self._t0 + delivery.stamps
        self.signal.push(block.data, times)
        if delivery.repeated:
            self.n_repeated += block.n_times
            return True
        if self.start_time is None:
            self.start_time = self._last_time = float(times[0])
        self.worst_delay_s = max(self.worst_delay_s, delay_s)
        self.n_next = delivery.n_next
        self.n_lost += block.n_lost + self._n_away_now
        self._n_away_now = 0
        self.n_sent += block.n_times
        if self._markers is not None:
            self._send_notes(self._markers, block, times)
        self._last_time = float(times[-1])
        return True

    def _send_notes(self, markers: MarkerOutlet, block: Chunk, times: NDArray[np.float64]) -> None:
        """Send annotations beside their samples: the file's own clock may run at another rate, or start anew."""
        earliest = min(self._last_time, float(times[0]))
        while self._annotations and self._annotations[0].onset < block.times[-1] + 1.0 / self._info.sfreq:
            note = self._annotations.popleft()
            stamp = float(times[0] + (note.onset - block.times[0]))
            markers.push(note.description, max(stamp, earliest))
            self.n_markers += 1

    def _sleep_until(self, due: float) -> float:
        """Sleep until ``due`` s of signal after the start, and return how late it is then."""
        while (remaining := self._t0 + due / self._speed - self._clock()) > 0 and not self._stop.is_set():
            self._stop.wait(remaining)
        return -remaining


def _blocks(recording: PlayableRecording, block_samples: int) -> Iterator[Chunk]:
    """Read ahead a second at a time and cut it into blocks; a gap keeps its place before the first sample after it."""
    for chunk in recording.chunks(chunk_samples=to_samples(_LONGEST_BLOCK_S, recording.info.sfreq)):
        for start in range(0, chunk.n_times, block_samples):
            stop = start + block_samples
            yield Chunk(
                chunk.data[:, start:stop],
                chunk.times[start:stop],
                n_lost=chunk.n_lost if start == 0 else 0,
                restart=chunk.restart and start == 0,
            )


def _linger(signal: SignalOutlet, linger_s: float, stop: threading.Event) -> None:
    """Give the last samples time to leave: what is still in the outlet when it closes is lost."""
    waited_s = 0.0
    while signal.has_consumer and waited_s < linger_s and not stop.wait(_LINGER_SLICE_S):
        waited_s += _LINGER_SLICE_S
