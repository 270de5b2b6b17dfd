from __future__ import annotations

import numpy as np
import pytest

from fake_time import FakeTime
from streamdetect.calibration.cues import Cue, draw_cues
from streamdetect.calibration.recorder import Recorder
from streamdetect.calibration.session import collect_excerpt, run_session
from streamdetect.chunk import StreamInfo
from streamdetect.errors import InputError, StreamError
from streamdetect.sources.gaps import GapMarker

SFREQ = 200.0
CUES = draw_cues("movement", n_trials=4, movement_s=1.0, rest_s=(1.0, 2.0), seed=5)


class FakeSource:
    """Samples numbered in their values, as they come with the time: none while ``is_lost`` says so."""

    def __init__(self, time, *, offset_s=70.0, is_lost=lambda t: False, stamp_error_s=0.0, error=None):
        self.info = StreamInfo(("C3", "Cz"), SFREQ, "amp")
        self.time_correction = offset_s
        self._time, self._is_lost, self._error, self._stamp_error_s = time, is_lost, error, stamp_error_s
        self._first = time.now
        self._n = 0
        self._gaps = GapMarker(SFREQ)
        self._last_arrival = time.now

    @property
    def seconds_since_last_sample(self):
        return self._time.now - self._last_arrival

    def read(self, timeout_s):
        if self._error is not None and self._time.now - self._first > 4.0:
            raise self._error
        n_new = int((self._time.now - self._first) * SFREQ)
        samples = [n for n in range(self._n, n_new) if not self._is_lost(n / SFREQ)]
        self._n = n_new
        if not samples:
            return []
        self._last_arrival = self._time.now
        times = self._first + np.array(samples) / SFREQ - self.time_correction + self._stamp_error_s
        return self._gaps.mark(np.tile(np.array(samples, dtype=float), (2, 1)), times)


def run(time, source, cues=CUES, **options):
    recorder, shown, pushed = Recorder(source.info), [], []
    ended = run_session(
        source,
        recorder,
        cues,
        **{
            "countdown_s": 2.0,
            "show": lambda cue, index: shown.append((cue, index, time.now)),
            "push": lambda name, when: pushed.append((name, when)),
            "clock": time.clock,
            "stop": time,
            **options,
        },
    )
    return ended, recorder, shown, pushed


def test_every_cue_comes_at_its_time_and_lies_on_its_sample():
    time = FakeTime(oversleep_s=0.003)
    started = time.now
    ended, recorder, shown, pushed = run(time, FakeSource(time))
    assert ended == "complete"
    assert [(cue, index) for cue, index, _ in shown] == [(cue, index) for index, cue in enumerate(CUES)]
    late = np.array([when - (started + 2.0 + cue.onset) for cue, _, when in shown])
    assert late.min() >= 0.0
    assert late.max() < 0.025
    assert pushed == [(cue.name, when) for cue, _, when in shown]
    samples = [note.onset * SFREQ for note in recorder.annotations]
    assert samples == pytest.approx([(when - started) * SFREQ for _, when in pushed], abs=0.1)
    assert recorder.annotations[-1].description == "rest"
    assert recorder.n_times / SFREQ == pytest.approx(2.0 + CUES[-1].end, abs=0.1)


def test_the_countdown_counts_down():
    time = FakeTime(oversleep_s=0.003)
    seen = []
    run(time, FakeSource(time), on_countdown=seen.append)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == pytest.approx(2.0)
    assert 0.0 < seen[-1] < 0.03


def test_a_stall_does_not_shift_what_follows():
    time = FakeTime(oversleep_s=0.003)
    started = time.now

    def show(cue, index):
        if index == 1:
            time.now += 0.7  # the terminal hangs

    _, _, _, pushed = run(time, FakeSource(time), show=show)
    late = [when - started - 2.0 - cue.onset for cue, (_, when) in zip(CUES, pushed, strict=True)]
    assert late[1] == pytest.approx(0.7, abs=0.03)  # its time is when it was shown
    assert max(late[2:]) < 0.03


def test_lost_samples_keep_their_place():
    time = FakeTime(oversleep_s=0.003)
    started = time.now
    _, recorder, _, pushed = run(time, FakeSource(time, is_lost=lambda t: 3.0 <= t < 5.5))
    assert recorder.n_gaps == 1
    assert recorder.n_lost == 500
    samples = [note.onset * SFREQ for note in recorder.annotations]
    assert samples == pytest.approx([(when - started) * SFREQ for _, when in pushed], abs=0.1)
    values = recorder.to_raw().get_data()[0]
    assert np.array_equal(values[~np.isnan(values)], np.flatnonzero(~np.isnan(values)))


def test_a_stop_leaves_what_there_is():
    time = FakeTime(oversleep_s=0.003)

    def show(cue, index):
        if index == 3:
            time.set()

    ended, recorder, _, pushed = run(time, FakeSource(time), show=show)
    assert ended == "stopped"
    assert len(pushed) == 4
    assert len(recorder.annotations) >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"is_lost": lambda t: t > 4.0}, "no sample for 10 s"),
        ({"error": StreamError("it was lost")}, "it was lost"),
        ({"is_lost": lambda t: t > 2.0 + CUES[-1].onset}, "no sample for"),
    ],
)
def test_a_lost_stream_leaves_what_there_is(options, message):
    time = FakeTime(oversleep_s=0.003)
    source = FakeSource(time, **options)
    recorder = Recorder(source.info)
    with pytest.raises(StreamError, match=message):
        run_session(
            *(source, recorder, CUES),
            countdown_s=2.0,
            show=lambda cue, index: None,
            push=lambda name, when: None,
            clock=time.clock,
            stop=time,
        )
    assert recorder.n_times > 700
    assert recorder.annotations


def test_without_a_countdown_the_first_cue_is_kept():
    time = FakeTime(oversleep_s=0.003)
    _, recorder, _, pushed = run(time, FakeSource(time), countdown_s=0.0)
    assert [note.description for note in recorder.annotations] == [name for name, _ in pushed]
    assert recorder.annotations[0].onset < 0.05


def test_an_excerpt_is_a_few_seconds_of_signal():
    time = FakeTime(oversleep_s=0.003)
    excerpt = collect_excerpt(FakeSource(time), 3.0, clock=time.clock, stop=time)
    assert excerpt.data.shape[1] / SFREQ == pytest.approx(3.0, abs=0.1)
    assert np.array_equal(excerpt.data[0], np.arange(excerpt.data.shape[1]))
    assert excerpt.sfreq == pytest.approx(SFREQ)


def test_an_excerpt_tells_when_samples_are_lost():
    time = FakeTime(oversleep_s=0.003)
    excerpt = collect_excerpt(FakeSource(time, is_lost=lambda t: 1.0 < t < 2.0), 4.0, clock=time.clock, stop=time)
    assert excerpt.sfreq == pytest.approx(0.75 * SFREQ, rel=0.02)


def test_a_stream_without_samples_is_refused():
    time = FakeTime(oversleep_s=0.003)
    with pytest.raises(StreamError, match="no sample came within 5 s"):
        collect_excerpt(FakeSource(time, is_lost=lambda t: True), 3.0, clock=time.clock, stop=time)


@pytest.mark.parametrize(("error_s", "where"), [(-30.0, "30.0 s behind"), (2.0, "2.0 s ahead of")])
def test_time_stamps_of_another_clock_are_refused(error_s, where):
    time = FakeTime(oversleep_s=0.003)
    with pytest.raises(InputError, match=where):
        collect_excerpt(FakeSource(time, stamp_error_s=error_s), 3.0, clock=time.clock, stop=time)


def test_a_stop_ends_the_look_at_the_signal():
    time = FakeTime(oversleep_s=0.003)
    time.set()
    assert collect_excerpt(FakeSource(time), 3.0, clock=time.clock, stop=time).data.shape == (2, 0)


def test_a_cue_knows_its_end():
    assert Cue("rest", 1.0, 2.5).end == 3.5
