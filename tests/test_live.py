"""Sessions put together on real streams, as `streamdetect monitor` and a user's own loop have them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import numpy as np
import pylsl
import pytest

import streamdetect
from fake_recording import FakeRecording
from models import make_model
from streamdetect.chunk import StreamInfo
from streamdetect.decisions import join
from streamdetect.errors import InputError, ModelError, StreamError
from streamdetect.monitor import run_sessions
from streamdetect.player import play
from streamdetect.sessions import Wish, name_sessions, open_sessions
from streamdetect.settings import DecisionSettings
from streamdetect.sinks.journal import read_journal
from streamdetect.sinks.lsl import SignalOutlet
from streamdetect.sources.lsl_streams import local_clock, resolve_stream
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 250.0
CHANNELS = ("C3", "Cz", "C4")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    rule = DecisionSettings(threshold=0.3, dwell_samples=10, refractory_samples=250)
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", n_events=2, decisions=(rule, rule))


def make_recording(n_times):
    rng = np.random.default_rng(1)
    loud = 1.0 + 3.0 * (np.sin(2 * np.pi * np.arange(n_times) / (3.0 * SFREQ)) > 0.0)
    return FakeRecording(rng.standard_normal((3, n_times)) * loud * 1e-5, StreamInfo(CHANNELS, SFREQ, "rec.edf"))


@contextmanager
def playing(name, n_times, speed=20.0):
    stop = threading.Event()
    options = {"name": name, "speed": speed, "dtype": "float64", "wait_for_consumer_s": 20.0, "stop": stop}
    player = threading.Thread(target=play, args=(make_recording(n_times),), kwargs=options)
    player.start()
    try:
        yield
    finally:
        stop.set()
        player.join(10.0)


def test_a_loop_of_ones_own_gets_the_decisions_of_an_offline_pass(model_path):
    before = local_clock()
    with playing("own-loop", 5000):
        live = list(streamdetect.detect("own-loop", model_path, duration_s=20.0, idle_timeout_s=10.0))
    detector = streamdetect.Detector.load(model_path)
    offline = join([detector.process(chunk) for chunk in make_recording(5000).chunks(chunk_samples=777)])
    assert [decision.sample for decision in live] == offline.samples.tolist()
    probability = np.array([list(decision.probability.values()) for decision in live])
    assert np.array_equal(probability.astype(np.float32), offline.probability, equal_nan=True)
    assert [decision.valid for decision in live] == offline.valid.tolist()
    found = [(decision.sample, event) for decision in live for event in decision.detected]
    assert sorted(found) == sorted((detection.sample, detection.event) for detection in offline.detections)
    assert found
    steps = np.diff([decision.time for decision in live])
    assert steps == pytest.approx(np.diff(offline.samples) / SFREQ, abs=1e-6)
    assert before < live[0].time < local_clock() + 20.0


def test_leaving_the_loop_closes_the_connection(model_path):
    outlet = SignalOutlet(StreamInfo(CHANNELS, SFREQ, "left-loop"))
    ends = threading.Event()
    pusher = threading.Thread(target=push_until, args=(outlet, ends))
    pusher.start()
    for _ in streamdetect.detect("left-loop", model_path):
        assert outlet.has_consumer
        break
    wait_until(lambda: not outlet.has_consumer)
    ends.set()
    pusher.join()
    outlet.close()


def push_until(outlet, ends):
    n = 0
    while not ends.wait(0.02):
        outlet.push(np.random.default_rng(n).standard_normal((3, 5)) * 1e-5, local_clock() + np.arange(5) / SFREQ)
        n += 1


def test_a_loop_says_what_is_wrong(model_path):
    with pytest.raises(ModelError):
        next(streamdetect.detect("own-loop", "no-such-model.onnx"))
    with pytest.raises(StreamError, match="nobody"):
        next(streamdetect.detect("nobody", model_path, timeout_s=0.1))


def test_several_sessions_have_outlets_and_journals_of_their_own(model_path, tmp_path):
    wishes = [Wish("two-a", str(model_path)), Wish("two-b", str(model_path))]
    with (
        playing("two-a", 1500),
        playing("two-b", 1000),
        open_sessions(wishes, journal=tmp_path / "day.jsonl", idle_timeout_s=2.0) as sessions,
    ):
        health = pylsl.StreamInlet(resolve_stream("tiny-two-a-health", 10.0).handle)
        health.open_stream(10.0)
        for name, kind in (("probabilities", "Probability"), ("detections", "Markers"), ("health", "Health")):
            assert resolve_stream(f"tiny-two-b-{name}", 10.0).type == kind
        summaries = run_sessions(sessions, clock=local_clock)
        ended = None
        while ended is None or ended["state"] != "ended":
            (text,), _ = health.pull_sample(10.0)
            ended = json.loads(text)
    assert [summary.reason for summary in summaries] == ["idle", "idle"]
    assert [summary.n_samples for summary in summaries] == [1500, 1000]
    assert (ended["model"], ended["stream"], ended["n_samples"]) == ("tiny-two-a", "two-a", 1500)
    assert ended["source_id"].endswith(":two-a")
    for name, n_samples in (("two-a", 1500), ("two-b", 1000)):
        first, *_, last = read_journal(tmp_path / f"day-tiny-{name}.jsonl")
        assert (first["stream"], last["type"], last["n_samples"]) == (name, "end", n_samples)


def test_what_cannot_be_opened_leaves_nothing_behind(model_path, tmp_path):
    wishes = [Wish("here", str(model_path)), Wish("not-here", str(model_path))]
    outlet = SignalOutlet(StreamInfo(CHANNELS, SFREQ, "here"))
    with (
        pytest.raises(StreamError, match="not-here"),
        open_sessions(wishes, journal=tmp_path / "j.jsonl", timeout_s=0.5),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not outlet.has_consumer)
    outlet.close()


def test_names_are_told_apart():
    wishes = [Wish("left", "m"), Wish("right", "m"), Wish("left", "n"), Wish("left", "m", "mine")]
    assert name_sessions(wishes, ["m", "m", "n", "m"]) == ["m-left", "m-right", "n", "mine"]
    with pytest.raises(InputError, match="'m-left' is the name of 2 sessions"):
        name_sessions([Wish("left", "m"), Wish("left", "m")], ["m", "m"])
    with pytest.raises(InputError, match="--name"):
        name_sessions([Wish("left", "m", "a b"), Wish("right", "m", "a_b")], ["m", "m"])
