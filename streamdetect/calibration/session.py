"""A cued session: a live source, cues at their time, and a recorder that takes both."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamdetect.calibration.cues import Cue
from streamdetect.calibration.recorder import Recorder
from streamdetect.chunk import Chunk
from streamdetect.errors import InputError, StreamError
from streamdetect.sources.live import LiveSource

_STEP_S = 0.02  # between two reads; how late a cue may be
_FIRST_SAMPLE_S = 5.0  # a driver that has answered sends within this time, or not at all
_SILENCE_S = 10.0  # an amplifier that dropped out has come back by then, or the session is over
_LATE_S = 2.0  # how long the last samples may be under way after the last cue
# An amplifier's buffers hold a sample back for far less; time stamps of another clock than LSL's are off by far more.
_CLOCK_TOLERANCE_S = 1.0

EndReason = Literal["complete", "stopped"]


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A few seconds of a live signal.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        Volts, without what was lost.
    sfreq : float
        Samples that came for each second of their time stamps, in Hz.
    """

    data: NDArray[np.float64]
    sfreq: float


def collect_excerpt(
    source: LiveSource, seconds: float, *, clock: Callable[[], float], stop: threading.Event
) -> Excerpt:
    """Take a few seconds of signal to look at.

    Parameters
    ----------
    source : LiveSource
        Connected.
    seconds : float
        How much, in s of the clock after the first sample.
    clock : callable
        This machine's LSL clock in s.
    stop : threading.Event
        Its ``wait`` is what is slept in; once set, what there is comes back.

    Returns
    -------
    Excerpt

    Raises
    ------
    StreamError
        Nothing came, or it stopped.
    InputError
        The time stamps are of another clock, on which cues have no place.
    """
    name = source.info.name
    chunks: list[Chunk] = []
    started = clock()
    end = np.inf
    while clock() < end and not stop.is_set():
        chunks += source.read(0.0)
        now = clock()
        if chunks and np.isinf(end):
            end = now + seconds
        elif not chunks and now - started > _FIRST_SAMPLE_S:
            raise StreamError(
                f"stream {name!r}: connected, but no sample came within {_FIRST_SAMPLE_S:g} s; start the amplifier's "
                "recording or streaming, and this command again"
            )
        stop.wait(_STEP_S)
    if not chunks:
        return Excerpt(np.empty((source.info.n_channels, 0)), 0.0)
    data = np.concatenate([chunk.data for chunk in chunks], axis=1)
    times = np.concatenate([chunk.times for chunk in chunks])
    behind_s = clock() - (float(times[-1]) + (source.time_correction or 0.0))
    if abs(behind_s) > _CLOCK_TOLERANCE_S and not stop.is_set():
        where = "behind" if behind_s > 0 else "ahead of"
        raise InputError(
            f"stream {name!r}: its newest time stamp is {abs(behind_s):.1f} s {where} LSL's clock, expected at most "
            f"{_CLOCK_TOLERANCE_S:g} s: cues would land on the wrong samples; let the amplifier's program stamp "
            "samples with LSL's clock (and play a recording at --speed 1)"
        )
    seconds_stamped = float(times[-1] - times[0])
    return Excerpt(data, (len(times) - 1) / seconds_stamped if seconds_stamped > 0 else 0.0)


def run_session(
    source: LiveSource,
    recorder: Recorder,
    cues: Sequence[Cue],
    *,
    countdown_s: float,
    show: Callable[[Cue, int], None],
    push: Callable[[str, float], None],
    clock: Callable[[], float],
    stop: threading.Event,
    on_countdown: Callable[[float], None] = lambda remaining_s: None,
) -> EndReason:
    """Give the cues and record, until the last one is over.

    Parameters
    ----------
    source : LiveSource
        Connected.
    recorder : Recorder
        Gets the signal, that of the countdown included (filters warm up on it), and each cue at the time when it was
        shown. It holds all there is whatever ends the session, an error included.
    cues : sequence of Cue
        In order.
    countdown_s : float
        Time before the first cue, in s.
    show : callable
        Shows a cue; called with it and its index, and returns when it is shown.
    push : callable
        Sends a cue to others; called with its name and its time in s of the clock.
    clock : callable
        This machine's LSL clock in s.
    stop : threading.Event
        Ends the session early; its ``wait`` is what is slept in.
    on_countdown : callable
        Called with the s that remain before the first cue, many times a second.

    Returns
    -------
    {"complete", "stopped"}

    Raises
    ------
    StreamError
        The source was lost, no sample came for 10 s, or the signal ended before the cues did.

    Notes
    -----
    A cue comes up to 20 ms after it is due; its time is that of the showing. What is due is counted from the first cue,
    so that delays do not add up.
    """
    pending = deque(enumerate(cues))
    first_due = clock() + countdown_s
    end = first_due + cues[-1].end
    while not stop.is_set():
        now = clock()
        if now < first_due:
            on_countdown(first_due - now)
        elif pending and now >= first_due + pending[0][1].onset:
            index, cue = pending.popleft()
            show(cue, index)
            shown = clock()
            push(cue.name, shown)
            recorder.add_cue(cue.name, shown, cue.duration)
        time_correction = source.time_correction or 0.0
        for chunk in source.read(0.0):
            recorder.add(chunk, time_correction)
        if not pending and recorder.last_time >= end:
            return "complete"
        silent_s = source.seconds_since_last_sample
        if silent_s > _SILENCE_S or clock() > end + _LATE_S:
            raise StreamError(
                f"stream {source.info.name!r}: no sample for {silent_s:.0f} s; check the amplifier and its program"
            )
        due = first_due + pending[0][1].onset if pending else np.inf
        stop.wait(min(_STEP_S, max(0.0, due - clock())))
    return "stopped"
