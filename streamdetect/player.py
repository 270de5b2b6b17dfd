"""A recording as a live LSL stream."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.settings import to_samples
from streamdetect.sinks.lsl import MarkerOutlet, SignalOutlet
from streamdetect.sources.gaps import LONGEST_GAP_S
from streamdetect.sources.lsl_streams import local_clock

_LONGEST_BLOCK_S = 1.0  # of signal: what is read, and at most sent, at a time
_MARKER_GRACE_S = 0.5  # who takes the signal and the markers connects to the two within this time
_LINGER_SLICE_S = 0.05


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
    """

    start_time: float | None
    n_samples: int
    n_markers: int
    seconds: float
    complete: bool
    worst_delay_s: float


def play(
    recording: PlayableRecording,
    *,
    name: str | None = None,
    speed: float = 1.0,
    dtype: str = "float32",
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

    Notes
    -----
    Sample n, lost ones counted, has the time stamp ``t0 + n / sfreq`` at any speed, with ``t0`` the clock when the play
    began. A block is sent when its last sample is due on the schedule ``t0 + n / (sfreq * speed)``, which does not
    drift. Lost samples are left out and their time stamps with them; where a recording starts anew without a known
    gap, the time stamps jump ahead by so much that receivers start anew too (`LONGEST_GAP_S`). Annotations beyond the
    last sample are not sent. LSL has no flow control: at speeds that a receiver cannot follow, it loses what its
    buffer does not hold, which the time stamps show as a gap.
    """
    if not speed > 0:
        raise InputError(f"speed: expected a number above 0, found {speed:g}")
    if not (chunk_s > 0 and math.isfinite(chunk_s)):
        raise InputError(f"chunk_s: expected a duration above 0 s, found {chunk_s:g}")
    stop = stop or threading.Event()
    info = replace(recording.info, name=name or recording.info.name)
    annotations = deque(sorted(recording.annotations, key=lambda note: note.onset))
    signal = SignalOutlet(info, dtype)
    markers = MarkerOutlet(f"{info.name}-markers") if annotations else None

    n_sent = n_next = n_markers = 0
    shift_s = worst_delay_s = 0.0
    start_time: float | None = None
    last_time = 0.0  # of the sample before this block
    complete = False
    try:
        signal.wait_for_consumer(wait_for_consumer_s, stop.is_set)
        if markers is not None and signal.has_consumer:
            markers.wait_for_consumer(_MARKER_GRACE_S, stop.is_set)
        if on_progress is not None:
            on_progress(0, recording.n_times)
        t0 = clock()
        block_samples = to_samples(min(chunk_s * speed, _LONGEST_BLOCK_S), info.sfreq)
        for block in _blocks(recording, block_samples):
            if block.restart and n_sent:
                shift_s += LONGEST_GAP_S + 1.0
            n_next += block.n_lost
            times = t0 + shift_s + np.arange(n_next, n_next + block.n_times) / info.sfreq
            n_next += block.n_times
            due = t0 + (n_next - 1) / (info.sfreq * speed)
            while (remaining := due - clock()) > 0 and not stop.is_set():
                stop.wait(remaining)
            if stop.is_set():
                break
            if start_time is None:
                start_time = last_time = float(times[0])
            signal.push(block.data, times)
            n_sent += block.n_times
            worst_delay_s = max(worst_delay_s, -remaining)
            while markers is not None and annotations and annotations[0].onset < block.times[-1] + 1.0 / info.sfreq:
                # Beside its samples, which the file's own clock may have stamped at another rate, or after a reset.
                note = annotations.popleft()
                stamp = float(times[0] + (note.onset - block.times[0]))
                markers.push(note.description, max(stamp, last_time))
                n_markers += 1
            last_time = float(times[-1])
            if on_progress is not None:
                on_progress(n_sent, recording.n_times)
        else:
            complete = True
            _linger(signal, linger_s, stop)
    finally:
        signal.close()
        if markers is not None:
            markers.close()
    return PlaySummary(start_time, n_sent, n_markers, n_next / info.sfreq, complete, worst_delay_s)


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
