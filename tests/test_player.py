from __future__ import annotations

import itertools
import math
import threading
import time

import numpy as np
import pylsl
import pytest

from fake_recording import FakeRecording
from fake_time import FakeTime
from streamdetect.chunk import StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.player import play
from streamdetect.sources.fault_plan import ClockJump, Duplicates, FaultPlan, Gap, Restart
from streamdetect.sources.faults import FaultCount
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import resolve_stream

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 500.0
INFO = StreamInfo(("C3", "Cz"), SFREQ, "rec.edf")
_numbers = itertools.count()


def make_recording(n_times=5000, gaps=None, annotations=()):
    data = np.random.default_rng(0).standard_normal((2, n_times)) * 1e-5
    return FakeRecording(data, INFO, gaps or {}, annotations)


def start_play(recording, name, **options):
    """Play in a thread; the summary comes from the second value's ``pop``."""
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(play(recording, name=name, **options)), daemon=True)
    thread.start()
    return thread, summaries


def receive(source, n_times):
    chunks = []
    deadline = time.monotonic() + 20.0
    while sum(chunk.n_times for chunk in chunks) < n_times and time.monotonic() < deadline:
        chunks += source.read(0.1)
    return chunks


@pytest.fixture
def name():
    return f"play-{next(_numbers)}"


@pytest.mark.parametrize("speed", [20.0, math.inf])
def test_at_high_speed_every_sample_arrives_with_its_exact_time(name, speed):
    recording = make_recording(20_000)
    recording.data[0, 77] = np.nan
    thread, summaries = start_play(recording, name, speed=speed, dtype="float64")
    with LSLSource(name) as source:
        chunks = receive(source, 20_000)
    thread.join(10.0)
    (summary,) = summaries
    assert np.array_equal(np.concatenate([c.data for c in chunks], axis=1), recording.data, equal_nan=True)
    times = np.concatenate([c.times for c in chunks])
    assert np.array_equal(times, summary.start_time + np.arange(20_000) / SFREQ)
    assert not any(chunk.n_lost or chunk.restart for chunk in chunks)
    assert (summary.n_samples, summary.seconds, summary.complete) == (20_000, 40.0, True)
    assert abs(summary.start_time - pylsl.local_clock()) < 60.0


def test_lost_samples_keep_their_time_and_a_new_start_is_seen_as_one(name):
    recording = make_recording(3000, {1000: (250, False), 1777: (0, True)})
    thread, _ = start_play(recording, name, speed=math.inf, dtype="float64")
    with LSLSource(name) as source:
        chunks = receive(source, 3000)
    thread.join(10.0)
    marks = [(c.n_lost, c.restart) for c in chunks if c.n_lost or c.restart]
    assert marks == [(250, False), (0, True)]
    assert np.array_equal(np.concatenate([c.data for c in chunks], axis=1), recording.data)


def test_annotations_arrive_at_their_time_on_the_marker_stream(name):
    notes = (Annotation(1.5, 0.0, "HandStart"), Annotation(0.25, 1.0, "T1"), Annotation(9.9, 0.0, "LiftOff"))
    thread, summaries = start_play(make_recording(annotations=notes), name, speed=math.inf)
    inlet = pylsl.StreamInlet(resolve_stream(f"{name}-markers", 10.0).handle)
    inlet.open_stream(10.0)
    received = []
    with LSLSource(name):
        deadline = time.monotonic() + 10.0
        while len(received) < 3 and time.monotonic() < deadline:
            received += zip(*inlet.pull_chunk(0.2, 3, min_samples=1), strict=True)
    thread.join(10.0)
    start = summaries[0].start_time
    assert received == [(["T1"], start + 0.25), (["HandStart"], start + 1.5), (["LiftOff"], start + 9.9)]
    assert summaries[0].n_markers == 3


@pytest.mark.parametrize(("speed", "n_sends"), [(1.0, 500), (0.5, 1000), (10.0, 50)])
def test_the_schedule_does_not_drift_however_late_each_sleep_ends(name, speed, n_sends):
    fake = FakeTime(oversleep_s=0.015)
    sends = []
    summary = play(
        make_recording(5000),
        name=name,
        speed=speed,
        wait_for_consumer_s=0.0,
        clock=fake.clock,
        stop=fake,
        on_progress=lambda n_sent, n_all: sends.append((n_sent, fake.now)),
    )
    n_sent, when = np.array(sends[1:]).T
    late = when - (1000.0 + (n_sent - 1) / SFREQ / speed)
    assert len(n_sent) == n_sends
    assert late.min() >= 0.0
    assert late.max() < 0.0151
    assert summary.worst_delay_s == pytest.approx(late.max())


def test_lost_samples_take_their_time(name):
    fake = FakeTime()
    recording = make_recording(1000, {500: (5000, False)})
    summary = play(recording, name=name, wait_for_consumer_s=0.0, clock=fake.clock, stop=fake)
    assert fake.now == pytest.approx(1000.0 + 5999 / SFREQ)
    assert summary.seconds == 12.0


def test_a_stop_ends_it_before_the_end(name):
    fake = FakeTime()

    def stop_in_the_middle(n_sent, n_all):
        if n_sent >= 2500:
            fake.set()

    summary = play(
        make_recording(5000),
        name=name,
        wait_for_consumer_s=0.0,
        clock=fake.clock,
        stop=fake,
        on_progress=stop_in_the_middle,
    )
    assert (summary.n_samples, summary.complete) == (2500, False)


def test_a_stop_while_waiting_for_a_receiver_sends_nothing(name):
    stop = threading.Event()
    thread, summaries = start_play(make_recording(), name, stop=stop)
    resolve_stream(name, 10.0)
    stop.set()
    thread.join(5.0)
    assert summaries[0].start_time is None
    assert (summaries[0].n_samples, summaries[0].complete) == (0, False)


@pytest.mark.parametrize("options", [{"speed": 0.0}, {"speed": math.nan}, {"chunk_s": 0.0}, {"dtype": "int16"}])
def test_options_that_make_no_sense_are_refused(name, options):
    with pytest.raises(InputError):
        play(make_recording(), name=name, **options)


def test_faults_are_performed_and_told(name):
    recording = make_recording(3000)
    plan = FaultPlan(faults=(Gap(onset=1.0, duration=0.5), Duplicates(onset=3.0, duration=0.2)))
    thread, summaries = start_play(recording, name, speed=20.0, dtype="float64", plan=plan)
    inlet = pylsl.StreamInlet(resolve_stream(name, 10.0).handle)
    inlet.open_stream(10.0)
    received = []
    deadline = time.monotonic() + 20.0
    while len(received) < 2850 and time.monotonic() < deadline:
        received += zip(*inlet.pull_chunk(0.2, 3000, min_samples=1), strict=True)
    inlet.close_stream()
    thread.join(10.0)
    (summary,) = summaries
    sent = [*range(500), *range(750, 1600), *range(1500, 3000)]
    assert [stamp for _, stamp in received] == (summary.start_time + np.array(sent) / SFREQ).tolist()
    assert np.array_equal([sample for sample, _ in received], recording.data[:, sent].T)
    assert (summary.n_samples, summary.n_lost, summary.n_repeated, summary.complete) == (2750, 250, 100, True)
    assert summary.faults == {"gap": FaultCount(1, 250), "duplicates": FaultCount(1, 100)}


def test_annotations_keep_beside_their_samples_whatever_the_clock_does(name):
    notes = tuple(Annotation(onset, 0.0, f"at {onset}") for onset in (1.0, 2.4, 3.5, 5.0))
    faults = (Gap(onset=2.0, duration=1.0), ClockJump(onset=3.2, jump_s=-50.0), Duplicates(onset=4.0, duration=2.0))
    plan = FaultPlan(faults=faults)
    thread, summaries = start_play(make_recording(4000, annotations=notes), name, speed=math.inf, plan=plan)
    inlet = pylsl.StreamInlet(resolve_stream(f"{name}-markers", 10.0).handle)
    inlet.open_stream(10.0)
    received = []
    with LSLSource(name):
        deadline = time.monotonic() + 10.0
        while len(received) < 4 and time.monotonic() < deadline:
            received += zip(*inlet.pull_chunk(0.2, 4, min_samples=1), strict=True)
    thread.join(10.0)
    stamps = {text: stamp - summaries[0].start_time for (text,), stamp in received}
    expected = {"at 1.0": 1.0, "at 2.4": 2.4, "at 3.5": 3.5 - 50.0, "at 5.0": 5.0 - 50.0}
    assert stamps == pytest.approx(expected)
    assert len(received) == 4


def test_a_restart_takes_its_time_and_what_was_due_meanwhile_is_not_sent(name):
    fake = FakeTime()
    plan = FaultPlan(faults=(Restart(onset=2.0, duration=3.0, source_id="new"),))
    sent = []
    summary = play(
        make_recording(5000),
        name=name,
        plan=plan,
        wait_for_consumer_s=0.0,
        clock=fake.clock,
        stop=fake,
        on_progress=lambda n_sent, n_all: sent.append((fake.now - 1000.0, n_sent)),
    )
    assert (summary.n_samples, summary.n_lost, summary.seconds) == (3500, 1500, 10.0)
    times = [when for when, n_sent in sent if 990 < n_sent <= 1010]
    assert times == pytest.approx([999 / SFREQ, 2509 / SFREQ])


def test_what_nobody_can_know_to_be_lost_is_not_counted(name):
    fake = FakeTime()
    plan = FaultPlan(faults=(Restart(onset=2.0, duration=3.0),))
    summary = play(
        make_recording(5000),
        name=name,
        plan=plan,
        wait_for_consumer_s=0.0,
        clock=fake.clock,
        stop=fake,
        on_progress=lambda n_sent, n_all: fake.set() if n_sent == 1000 else None,
    )
    assert (summary.n_samples, summary.n_lost, summary.complete) == (1000, 0, False)


def test_a_plan_for_another_recording_is_refused_before_anything_is_sent(name):
    plan = FaultPlan(faults=({"kind": "flat", "onset": 1.0, "duration": 1.0, "channels": ["Oz"]},))
    with pytest.raises(InputError, match=r"fault plan: .*Oz"):
        play(make_recording(), name=name, plan=plan)
