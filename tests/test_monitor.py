from __future__ import annotations

import json
import logging
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fake_recording import FakeRecording
from models import make_model
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.decisions import Decisions, Detection, join
from streamdetect.detector import Detector
from streamdetect.errors import InputError, StreamError
from streamdetect.monitor import monitor, run_sessions
from streamdetect.player import play
from streamdetect.session import Session
from streamdetect.settings import DecisionSettings
from streamdetect.sinks.journal import Journal, read_journal
from streamdetect.sinks.lsl import MarkerOutlet, ProbabilityOutlet
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import local_clock
from streamdetect.stages.features import FeatureBlock
from streamdetect.status import EventStatus, health_document

SFREQ = 100.0
HOP = 10
RULE = DecisionSettings(threshold=0.3, dwell_samples=10, refractory_samples=250)


class FakeSource:
    """Gives out what it was given, read by read; an exception in the list is raised, nothing is the end."""

    def __init__(self, reads, on_empty=lambda: None):
        self.info = StreamInfo(("C3",), SFREQ, "amp")
        self.unit, self.n_repeated = None, 0
        self.time_correction = 0.5
        self.seconds_since_last_sample = 0.0
        self._reads = iter(reads)
        self._on_empty = on_empty

    def read(self, timeout_s):
        chunks = next(self._reads, [])
        if isinstance(chunks, BaseException):
            raise chunks
        if chunks:
            self.seconds_since_last_sample = 0.0
        else:
            self.seconds_since_last_sample += timeout_s
            self._on_empty()
        return chunks


class FakeDetector:
    """Decides every 10 samples, with the first channel's value as probability; detects from 0.9 on."""

    event_names = ("HandStart",)
    channel_states = ()
    model = SimpleNamespace(
        metadata=SimpleNamespace(name="fake", sfreq=SFREQ, thresholds=np.array([0.9])),
        sha256="f" * 64,
        predict=lambda rows: {},
    )

    def check(self, info):
        if info.sfreq != SFREQ:
            raise InputError("another rate")

    def reset(self):
        self._next = 0

    def settle(self):
        return False

    def copy(self):
        copy = FakeDetector()
        copy.reset()
        return copy

    def compute(self, chunk):
        self._next += chunk.n_lost
        samples = np.arange(self._next, self._next + chunk.n_times)
        self._next += chunk.n_times
        is_due = samples % HOP == HOP - 1
        probability = chunk.data[:1, is_due].T.astype(np.float32)
        quality = np.where(np.isnan(probability[:, 0]), 1, 0).astype(np.uint8)
        return FeatureBlock(samples[is_due], chunk.times[is_due], quality, probability)

    def complete(self, block, outputs):
        probability = block.values
        found = np.flatnonzero(probability[:, 0] >= 0.9)
        detections = (
            Detection("HandStart", int(block.samples[i]), float(block.times[i]), float(probability[i, 0]))
            for i in found
        )
        return Decisions(
            self.event_names, block.samples, block.times, block.quality, probability, {}, tuple(detections)
        )


def make_chunk(start, stop, value=0.5, **marks):
    return Chunk(np.full((1, stop - start), value), 50.0 + np.arange(start, stop) / SFREQ, **marks)


class ListSink:
    def __init__(self):
        self.blocks = []
        self.time_corrections = []

    def write(self, decisions, time_correction):
        self.blocks.append(decisions)
        self.time_corrections.append(time_correction)


def records_of(path, kind):
    return [record for record in read_journal(path) if record["type"] == kind]


def test_everything_reaches_the_sinks_and_the_journal(tmp_path):
    sink, journal = ListSink(), Journal(tmp_path / "j.jsonl")
    reads = [
        [make_chunk(0, 25)],
        [],
        [make_chunk(25, 40, 0.95)],
        [make_chunk(60, 80, np.nan, n_lost=20), make_chunk(80, 100, restart=True)],
    ]
    summary = monitor(FakeSource(reads), FakeDetector(), [sink], journal=journal, idle_timeout_s=1.0)
    journal.close()
    assert summary.reason == "idle"
    assert (summary.n_samples, summary.n_lost, summary.n_gaps, summary.seconds) == (80, 20, 2, 1.0)
    assert (summary.n_decisions, summary.n_invalid, summary.detections) == (8, 2, {"HandStart": 2})
    assert join(sink.blocks).samples.tolist() == [9, 19, 29, 39, 69, 79, 89, 99]
    assert set(sink.time_corrections) == {0.5}
    session, *records = read_journal(tmp_path / "j.jsonl")
    assert session["type"] == "session"
    assert session["model"] == {"name": "fake", "sha256": "f" * 64}
    assert (session["stream"], session["sfreq"], session["events"]) == ("amp", SFREQ, ["HandStart"])
    assert records[0] == {"type": "start", "sample": 0, "time": 50.0}
    assert records[1] == {"type": "clock", "time": 50.0, "time_correction": 0.5}
    assert [record["sample"] for record in records if record["type"] == "decision"] == [9, 19, 29, 39, 69, 79, 89, 99]
    assert [record for record in records if record["type"] == "reset"] == [
        {"type": "reset", "sample": 60, "time": 50.6, "n_lost": 20, "restart": False},
        {"type": "reset", "sample": 80, "time": 50.8, "n_lost": 0, "restart": True},
    ]
    assert [record["sample"] for record in records if record["type"] == "detection"] == [29, 39]
    assert records[-1]["type"] == "end"
    assert (records[-1]["reason"], records[-1]["n_decisions"]) == ("idle", 8)


@pytest.mark.parametrize(("duration_s", "n_samples"), [(0.55, 55), (0.25, 25), (0.01, 1), (1.0, 70)])
def test_the_duration_counts_samples_of_signal_lost_ones_included(duration_s, n_samples):
    reads = [[make_chunk(0, 25)], [make_chunk(25, 60), make_chunk(90, 200, n_lost=30)]]
    summary = monitor(FakeSource(reads), FakeDetector(), duration_s=duration_s)
    assert (summary.reason, summary.n_samples) == ("duration", n_samples)
    assert summary.seconds == pytest.approx(duration_s)


def test_a_duration_that_ends_inside_a_gap_ends_before_it():
    reads = [[make_chunk(0, 60), make_chunk(90, 200, n_lost=30)]]
    summary = monitor(FakeSource(reads), FakeDetector(), duration_s=0.8)
    assert (summary.reason, summary.n_samples, summary.n_lost) == ("duration", 60, 0)


@pytest.mark.parametrize(
    ("error", "reason"), [(StreamError("gone"), "lost"), (KeyboardInterrupt(), "error"), (OSError("disk"), "error")]
)
def test_the_journal_has_its_end_whatever_ends_the_session(tmp_path, error, reason):
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(type(error)):
        monitor(FakeSource([[make_chunk(0, 30)], error]), FakeDetector(), journal=journal)
    journal.close()
    (end,) = records_of(tmp_path / "j.jsonl", "end")
    assert (end["reason"], end["n_samples"]) == (reason, 30)


def test_a_stop_ends_it():
    stop = threading.Event()
    summary = monitor(FakeSource([[make_chunk(0, 30)]], on_empty=stop.set), FakeDetector(), stop=stop)
    assert (summary.reason, summary.n_samples) == ("stopped", 30)


def test_a_source_that_does_not_fit_is_refused():
    source = FakeSource([])
    source.info = StreamInfo(("C3",), 128.0, "amp")
    with pytest.raises(InputError):
        monitor(source, FakeDetector())


def play_for(seconds, now, value_of=lambda index: 0.25):
    """Yield reads of 0.1 s, each as it comes due."""
    for index in range(round(seconds / 0.1)):
        now[0] = 100.0 + (index + 1) * 0.1
        yield [make_chunk(10 * index, 10 * index + 10, value_of(index))]


def test_the_status_tells_rate_probability_detections_and_delay():
    now = [100.0]
    seen = []
    source = FakeSource(play_for(20.0, now, lambda index: 0.95 if index in (99, 149) else 0.25))
    source.time_correction = 50.0 + 0.01  # the newest sample of a read is one sample old
    monitor(
        source, FakeDetector(), clock=lambda: now[0], duration_s=20.0, on_status=seen.append, source_id=lambda: "amp-7"
    )
    assert len(seen) == pytest.approx(20.0 / 0.3, abs=2)  # a quarter of a second, and on to the next read
    first, last = seen[0], seen[-1]
    assert (last.state, last.name, last.stream, last.source_id) == ("running", "fake", "amp", "amp-7")
    assert last.effective_sfreq == pytest.approx(SFREQ)
    assert last.jitter_s == pytest.approx(0.0, abs=1e-9)
    assert last.time == pytest.approx(now[0], abs=0.3)
    assert last.events == {"HandStart": EventStatus(0.9, 0.25, 2)}
    assert [detection.sample for detection, _ in last.detections] == [1499, 999]
    assert [age_s for _, age_s in last.detections] == pytest.approx([last.seconds - 15.0, last.seconds - 10.0])
    assert last.delay_s == pytest.approx({"median": 0.0, "p99": 0.0}, abs=1e-6)
    assert last.warnings == ()
    assert (first.detections, first.effective_sfreq) == ((), None)


def test_the_load_is_the_share_of_time_that_processing_takes():
    now = [100.0]

    class SlowDetector(FakeDetector):
        def compute(self, chunk):
            now[0] += 0.03
            return super().compute(chunk)

    seen = []
    monitor(
        FakeSource(play_for(20.0, now)), SlowDetector(), clock=lambda: now[0], duration_s=20.0, on_status=seen.append
    )
    assert seen[-1].load == pytest.approx(0.3, abs=0.01)


class ListHealth:
    def __init__(self):
        self.statuses = []

    def push(self, status):
        json.dumps(health_document(status), allow_nan=False)
        self.statuses.append(status)


def test_health_goes_out_once_a_second_also_without_samples_and_at_the_end():
    now = [100.0]
    health = ListHealth()

    def wait():
        now[0] += 0.1

    monitor(
        FakeSource(play_for(3.0, now), on_empty=wait),
        FakeDetector(),
        health=health,
        clock=lambda: now[0],
        idle_timeout_s=4.05,
    )
    assert [status.state for status in health.statuses] == [*["running"] * 4, *["waiting"] * 3, "ended"]
    assert [status.n_samples for status in health.statuses] == pytest.approx([10, 110, 220, *[300] * 5], abs=20)
    assert health.statuses[6].seconds_since_last_sample > 3.0
    assert health_document(health.statuses[-1])["events"] == {"HandStart": {"threshold": 0.9, "detections": 0}}


def test_the_health_document_has_no_nan():
    document = health_document(Session(FakeSource([]), FakeDetector()).status())
    assert (document["state"], document["time"], document["effective_sfreq"]) == ("waiting", None, None)
    assert document["delay_ms"] == {"median": None, "p99": None}
    json.dumps(document, allow_nan=False)


def test_each_warning_is_told_once_and_kept_in_the_summary(caplog):
    now = [100.0]
    disk = SimpleNamespace(warning="")

    def value_of(index):
        disk.warning = f"disk full, {index} records lost" if 30 <= index < 60 else ""
        return 0.25

    seen = []
    with caplog.at_level(logging.WARNING, "streamdetect"):
        summary = monitor(
            FakeSource(play_for(9.0, now, value_of)),
            FakeDetector(),
            watched={"recorder": disk},
            clock=lambda: now[0],
            duration_s=9.0,
            on_status=seen.append,
        )
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("fake: recorder: disk full, 3")
    (kept,) = summary.warnings
    assert kept.startswith("recorder: disk full, 5")
    assert any(status.warnings for status in seen)
    assert seen[-1].warnings == ()


def test_a_clock_that_was_set_and_a_wrong_rate_are_told():
    now = [100.0]

    def reads():
        for index in range(300):
            now[0] = 100.0 + (index + 1) * 0.102  # 2 % slow
            times = 50.0 + 0.0102 * np.arange(10 * index, 10 * index + 10)
            yield [Chunk(np.full((1, 10), 0.25), times + 7.0 * (index >= 150), n_lost=686 * (index == 150))]

    seen = []
    summary = monitor(
        FakeSource(reads()), FakeDetector(), clock=lambda: now[0], idle_timeout_s=1.0, on_status=seen.append
    )
    assert summary.n_clock_jumps == 1
    assert summary.warnings == ("timing: rate 98.04 Hz, 2.0 % below the nominal 100 Hz",)


def test_changes_of_channels_are_written_and_told(tmp_path):
    now = [100.0]
    good, bad = (SimpleNamespace(name="C3", reasons=reasons, repaired=bool(reasons)) for reasons in ((), ("flat",)))

    class Watching(FakeDetector):
        @property
        def channel_states(self):
            is_bad = 103.0 < now[0] < 106.0 or now[0] > 109.9
            return (bad if is_bad else good,)

    seen, journal = [], Journal(tmp_path / "j.jsonl")
    monitor(
        FakeSource(play_for(10.0, now)),
        Watching(),
        journal=journal,
        clock=lambda: now[0],
        duration_s=10.0,
        on_status=seen.append,
    )
    journal.close()
    changes = records_of(tmp_path / "j.jsonl", "channel")
    assert [(change["name"], change["reasons"], change["repaired"]) for change in changes] == [
        ("C3", ["flat"], True),
        ("C3", [], False),
        ("C3", ["flat"], True),
    ]
    assert [change["sample"] for change in changes] == pytest.approx([350, 650, 999], abs=60)
    assert {status.channels[0].reasons for status in seen} == {(), ("flat",)}
    assert [record["type"] for record in read_journal(tmp_path / "j.jsonl")][-2:] == ["channel", "end"]


class Polled(FakeSource):
    """Of several sources none may be waited for."""

    def read(self, timeout_s):
        assert timeout_s == 0.0
        return super().read(0.01)


def test_several_sessions_run_side_by_side_and_one_that_fails_does_not_disturb_the_others(tmp_path):
    journals = [Journal(tmp_path / f"{name}.jsonl") for name in "abc"]
    lengths = (30, 20, 10)
    tails = ([], [StreamError("gone")], [InputError("other channels")])
    sessions = [
        Session(
            Polled([[], *([make_chunk(10 * k, 10 * k + 10)] for k in range(length)), *tail]),
            FakeDetector(),
            name=journal.path.stem,
            journal=journal,
            idle_timeout_s=0.5,
        )
        for length, tail, journal in zip(lengths, tails, journals, strict=True)
    ]
    seen = []
    summaries = run_sessions(sessions, on_status=seen.append)
    for journal in journals:
        journal.close()
    assert [summary.reason for summary in summaries] == ["idle", "lost", "error"]
    assert [summary.n_samples for summary in summaries] == [300, 200, 100]
    assert [type(session.error) for session in sessions] == [type(None), StreamError, InputError]
    ends = [records_of(journal.path, "end")[0]["reason"] for journal in journals]
    assert ends == ["idle", "lost", "error"]
    assert [status.name for status in seen[0]] == ["a", "b", "c"]


def test_a_fault_of_the_program_ends_all_sessions_and_each_has_its_end(tmp_path):
    journals = [Journal(tmp_path / f"{name}.jsonl") for name in "ab"]
    sessions = [
        Session(FakeSource([[make_chunk(0, 10)], tail]), FakeDetector(), journal=journal)
        for journal, tail in zip(journals, ([make_chunk(10, 20)], ZeroDivisionError()), strict=True)
    ]
    with pytest.raises(ZeroDivisionError):
        run_sessions(sessions)
    assert [records_of(journal.path, "end")[0]["reason"] for journal in journals] == ["error", "error"]
    for journal in journals:
        journal.close()


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", n_events=2, decisions=(RULE, RULE))


def make_signal(n_times, sfreq=250.0):
    """Noise whose power comes and goes, with a few samples missing altogether and a few not finite."""
    rng = np.random.default_rng(1)
    loud = 1.0 + 3.0 * (np.sin(2 * np.pi * np.arange(n_times) / (3.0 * sfreq)) > 0.0)
    data = rng.standard_normal((4, n_times)) * loud * 1e-5
    data[2, 2000:2005] = np.nan
    info = StreamInfo(("Cz", "AUX", "C4", "C3"), sfreq, "rec.edf")
    return FakeRecording(data, info, {1500: (60, False), 3210: (900, False)})


@pytest.mark.usefixtures("lsl")
def test_a_live_session_journals_the_decisions_of_an_offline_pass_bit_for_bit(model_path, tmp_path):
    recording = make_signal(6000)
    detector = Detector.load(model_path)
    n_all = 6000 + 960
    player = threading.Thread(target=play, args=(recording,), kwargs={"name": "e2e", "speed": 20.0, "dtype": "float64"})
    player.start()
    journal = Journal(tmp_path / "j.jsonl")
    outlets = (ProbabilityOutlet("e2e-p", detector.event_names, 50.0), MarkerOutlet("e2e-m"))
    with LSLSource("e2e", detector.ch_names, 250.0, clock=local_clock) as source:
        summary = monitor(
            source, detector, outlets, journal=journal, clock=local_clock, duration_s=n_all / 250.0, idle_timeout_s=20.0
        )
    journal.close()
    player.join(10.0)
    assert (summary.reason, summary.n_samples, summary.n_lost) == ("duration", 6000, 960)

    (start,) = records_of(tmp_path / "j.jsonl", "start")
    rows = [3, 0, 2]
    offline, next_sample, blocks = Detector.load(model_path), 0, []
    for chunk in recording.chunks(chunk_samples=777):
        next_sample += chunk.n_lost
        times = start["time"] + np.arange(next_sample, next_sample + chunk.n_times) / 250.0
        next_sample += chunk.n_times
        blocks.append(offline.process(Chunk(chunk.data[rows], times, n_lost=chunk.n_lost)))
    expected = join(blocks)

    live = records_of(tmp_path / "j.jsonl", "decision")
    assert [record["sample"] for record in live] == expected.samples.tolist()
    assert [record["valid"] for record in live] == expected.valid.tolist()
    read = np.array([[record[f"p_{event}"] for event in expected.event_names] for record in live], dtype=float)
    assert np.array_equal(read.astype(np.float32), expected.probability, equal_nan=True)
    assert expected.valid.any()
    assert not expected.valid.all()
    found = records_of(tmp_path / "j.jsonl", "detection")
    assert [(record["event"], record["sample"], record["probability"]) for record in found] == [
        (one.event, one.sample, one.probability) for one in expected.detections
    ]
    assert found
    resets = records_of(tmp_path / "j.jsonl", "reset")
    assert [(record["sample"], record["n_lost"]) for record in resets] == [(1560, 60), (3210 + 960, 900)]


@pytest.mark.usefixtures("lsl")
def test_a_stop_ends_a_silent_live_session_within_a_second(model_path):
    stop, stop_playing = threading.Event(), threading.Event()
    player = threading.Thread(
        target=play, args=(make_signal(250),), kwargs={"name": "quiet", "stop": stop_playing, "linger_s": 60.0}
    )
    player.start()
    detector = Detector.load(model_path)
    stopped_at = []

    def stop_when_silent(status):
        if status.seconds >= 1.0 and status.seconds_since_last_sample > 0.2 and not stop.is_set():
            stopped_at.append(time.monotonic())
            stop.set()

    with LSLSource("quiet", detector.ch_names, 250.0) as source:
        summary = monitor(source, detector, stop=stop, on_status=stop_when_silent)
    assert time.monotonic() - stopped_at[0] < 10.0
    stop_playing.set()
    player.join(5.0)
    assert (summary.reason, summary.n_samples) == ("stopped", 250)
