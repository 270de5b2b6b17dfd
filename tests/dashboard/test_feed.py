"""The feed on real LSL."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pylsl
import pytest

from fake_lab import FakeLab
from streamdetect.dashboard.feed import Feed
from streamdetect.errors import InputError
from streamdetect.sources.lsl_streams import resolve_stream

pytestmark = pytest.mark.usefixtures("lsl")

_numbers = itertools.count()


@pytest.fixture
def names():
    number = next(_numbers)
    return {"name": f"feed-{number}", "model": f"feedmodel-{number}"}


def poll_until(feed, is_true, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not is_true():
        feed.poll()
        assert time.monotonic() < deadline, f"it took too long; problem: {feed.problem}"
        time.sleep(0.01)


def test_it_finds_the_only_monitor_and_the_stream_that_it_listens_to(names):
    with FakeLab(**names) as lab, FakeLab(f"other-{names['name']}", with_monitor=False):
        feed = Feed()
        poll_until(feed, lambda: feed.signal is not None and feed.signal.n_samples > 100)
        assert feed.model == lab.model
        assert feed.raw.stream.name() == lab.name
        assert feed.signal.ch_names == lab.ch_names
        poll_until(feed, lambda: feed.probability is not None and feed.probability.n_samples > 5)
        assert feed.probability.ch_names == lab.events
        assert np.nanmax(np.abs(feed.signal.read(0)[2])) < 10 * lab.uv  # in µV
        lab.detect("LiftOff")
        poll_until(feed, lambda: feed.marks)
        assert (feed.marks[0].kind, feed.marks[0].text) == ("detection", "LiftOff")
        assert abs(feed.marks[0].time - feed.clock()) < 5.0
        assert feed.health.events["HandStart"].threshold == 0.5


def test_it_says_that_it_cannot_choose_between_two_monitors(names):
    with FakeLab(**names), FakeLab(f"b-{names['name']}", f"b-{names['model']}"):
        feed = Feed()
        poll_until(feed, lambda: feed.problem)
        assert feed.problem.startswith("2 models run: ")
        assert names["model"] in feed.problem
        chosen = Feed(model_name=names["model"])
        poll_until(chosen, lambda: chosen.signal is not None)
        assert chosen.raw.stream.name() == names["name"]


def test_without_a_monitor_the_query_decides(names):
    with FakeLab(**names, with_monitor=False), FakeLab(f"{names['name']}-b", with_monitor=False):
        feed = Feed(names["name"])
        poll_until(feed, lambda: feed.signal is not None and feed.signal.n_samples > 100)
        assert feed.health is None
        assert feed.annotate("blink").text == "blink"
        assert feed.annotation_stream == f"{names['name']}-annotations"
        several = Feed(f"starts-with(name,'{names['name']}')")
        poll_until(several, lambda: several.problem)
        assert several.problem.startswith("2 streams match: ")


def test_a_stream_that_comes_back_with_other_channels_is_another_signal(names):
    with FakeLab(**names) as lab:
        feed = Feed(lab.name, lab.model)
        poll_until(feed, lambda: feed.signal is not None and feed.signal.n_samples > 10)
        first = feed.signal
        lab.stop_stream()
        poll_until(feed, lambda: feed.raw.stream is None)
        assert feed.silence_s(feed.raw) >= 0
        lab.start_stream(("O1", "O2"))
        poll_until(feed, lambda: feed.signal is not first and feed.signal.n_samples > 10)
        assert feed.signal.ch_names == ("O1", "O2")


def test_a_pulled_cable_is_a_growing_silence(names):
    with FakeLab(**names) as lab:
        feed = Feed(lab.name, lab.model)
        poll_until(feed, lambda: feed.signal is not None and feed.signal.n_samples > 10)
        lab.cable_in = False
        poll_until(feed, lambda: feed.silence_s(feed.raw) > 0.5)
        assert feed.raw.is_connected
        lab.cable_in = True
        poll_until(feed, lambda: feed.silence_s(feed.raw) < 0.1)
        assert feed.signal.n_gaps == 1


def test_an_annotation_goes_out_over_lsl(names):
    feed = Feed(model_name=names["model"])
    inlet = pylsl.StreamInlet(resolve_stream(f"{names['model']}-annotations", 10.0).handle)
    inlet.open_stream(10.0)
    mark = feed.annotate("eyes closed")
    sample, when = inlet.pull_sample(10.0)
    assert sample == ["eyes closed"]
    assert when == mark.time
    assert list(feed.marks) == [mark]


def test_before_anything_is_found_nothing_is_annotated():
    assert Feed("nobody").annotate("too early") is None


def test_a_health_document_that_is_not_understood_is_a_problem_and_no_end(names):
    with FakeLab(**names) as lab:
        feed = Feed(model_name=lab.model)
        poll_until(feed, lambda: feed.health is not None)
        before = feed.health
        lab.health._outlet.push_sample(['{"schema_version": 99}'])
        poll_until(feed, lambda: feed.problem)
        assert feed.problem.startswith("health document: ")
        poll_until(feed, lambda: not feed.problem and feed.health is not before)


def test_a_query_that_lsl_does_not_understand_is_the_users_error():
    with pytest.raises(InputError, match="--stream name='x: no predicate"):
        Feed("name='x")
