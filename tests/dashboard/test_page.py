"""What a page sends, without a browser that draws it."""

from __future__ import annotations

import json
from collections import deque

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.document.events import ColumnsStreamedEvent

from fake_lab import make_health
from fake_time import FakeTime
from streamdetect.dashboard.feed import Mark
from streamdetect.dashboard.figures import STRIP
from streamdetect.dashboard.health_document import parse_health
from streamdetect.dashboard.page import FRAMES_AHEAD, Page
from streamdetect.dashboard.port import Port
from streamdetect.dashboard.traces import Track

SFREQ = 500.0
CH_NAMES = ("Fz", "C3", "Cz", "C4", "Pz")


class FakeFeed:
    """What a page reads of a feed."""

    def __init__(self):
        self.time = FakeTime()
        self.clock = self.time.clock
        self.signal = self.probability = None
        self.health = parse_health(json.dumps(make_health()))
        self.raw, self.outlets = Port(self.clock), {"health": Port(self.clock)}
        self.marks, self.n_marks = deque(), 0
        self.query = self.model = self.problem = self.annotation_stream = ""
        self.wall_offset_s = 1e6

    def silence_s(self, port):
        return None

    def wall_time(self, time_s):
        return time_s + self.wall_offset_s

    def mark(self, mark):
        self.marks.append(mark)
        self.n_marks += 1

    def send(self, seconds, uv=20.0):
        """Let time pass, and samples come meanwhile."""
        n_times = round(seconds * SFREQ)
        times = self.time.now + np.arange(n_times) / SFREQ
        rhythm = uv * np.sin(2 * np.pi * 10 * times)
        self.signal.write(np.tile(rhythm, (len(self.signal.ch_names), 1)), times)
        self.time.now += seconds


@pytest.fixture
def feed():
    made = FakeFeed()
    made.signal = Track(CH_NAMES, SFREQ, baseline=True)
    return made


@pytest.fixture
def page(feed):
    return Page(Document(), feed)


def draw(page):
    """A tick, and a browser that draws at once what it sends."""
    page.tick()
    page.pulse.drawn = page.pulse.sent


def n_points(page):
    return len(page.traces.points.data["x"])


def test_no_more_frames_are_sent_than_the_browser_draws(page, feed):
    for _ in range(10):
        feed.send(0.1)
        page.tick()
    assert page.pulse.sent == FRAMES_AHEAD
    before = n_points(page)
    page.pulse.drawn = page.pulse.sent
    page.tick()
    assert page.pulse.sent == FRAMES_AHEAD + 1
    assert n_points(page) > 2 * before  # all that came meanwhile


def test_only_what_is_new_is_sent(page, feed):
    feed.send(5.0)
    draw(page)
    sent = []
    page._document.on_change(lambda event: sent.append(event))
    feed.send(0.1)
    draw(page)
    (streamed,) = [event for event in sent if isinstance(event, ColumnsStreamedEvent)]
    assert 10 < len(streamed.data["x"]) < 20
    for _ in range(100):
        feed.send(0.1)
        draw(page)
    assert n_points(page) == feed.signal.points_in_window
    shown = page.traces.x_range
    assert shown.end - shown.start == 10_000.0
    assert shown.end == pytest.approx(1000.0 * (feed.time.now + feed.wall_offset_s), abs=50.0)


def test_the_scale_suits_the_signal_until_a_person_chooses(page, feed):
    feed.send(2.0, uv=20.0)
    draw(page)
    assert page.status.scale == 50.0
    assert page.traces.bar.data["text"] == ["50 µV"]
    assert np.abs(page.traces.points.data["y0"]).max() == pytest.approx(20.0 / 50.0, rel=0.15)
    page.view.scale = 10.0
    draw(page)
    assert page.traces.bar.data["text"] == ["10 µV"]
    assert np.abs(page.traces.points.data["y0"]).max() < 1.5  # cut off, not over the neighbours


def test_a_row_is_a_channel_from_the_top_and_can_be_chosen(page, feed):
    feed.send(2.0)
    page.view.update(rows=2, first=3)
    draw(page)
    rows = json.loads(page.status.rows)["rows"]
    assert [row["name"] for row in rows] == ["C4", "Pz"]
    assert page.status.channels == "4–5 of 5"
    assert np.mean(page.traces.points.data["y1"]) == pytest.approx(-1.0, abs=0.05)


def test_while_it_is_paused_the_same_can_be_looked_at_in_another_scale(page, feed):
    feed.send(3.0)
    draw(page)
    end = page.traces.x_range.end
    page.view.paused = True
    feed.send(2.0)
    page.view.scale = 100.0
    feed.signal = Track(("O1", "O2"), SFREQ, baseline=True)  # the stream came back with others
    feed.send(1.0)
    draw(page)
    assert page.traces.x_range.end == end
    assert page.traces.bar.data["text"] == ["100 µV"]
    assert page.status.channels == "1–5 of 5"
    page.view.paused = False
    draw(page)
    assert page.traces.x_range.end > end
    assert page.status.channels == "1–2 of 2"


def test_bad_channels_and_events_are_marked(page, feed):
    feed.probability = Track(("HandStart", "LiftOff"), 50.0, baseline=False)
    feed.send(2.0)
    times = feed.time.now - 1.0 + np.arange(50) / 50.0
    feed.probability.write(np.tile([[0.5], [1.0]], (1, 50)), times)
    feed.mark(Mark(feed.time.now - 0.5, "detection", "LiftOff"))
    feed.mark(Mark(feed.time.now, "annotation", "cough"))
    draw(page)
    assert page.traces.words.data == {"y": [0.0], "text": ["✕ flat (repaired)"]}
    assert page.traces.marks.data["text"] == ["▼ LiftOff", "✎ cough"]
    assert len(set(page.traces.marks.data["color"])) == 2
    assert len(page.probabilities.flags.data["x"]) == 1
    assert np.allclose(page.probabilities.points.data["y0"], 0.0)  # at the threshold: the middle of the strip
    assert np.allclose(page.probabilities.points.data["y1"], -1.0 + STRIP / 2)


def test_a_page_of_nothing_is_no_fault(page, feed):
    feed.signal = feed.health = None
    page.view.dark = True
    draw(page)
    assert json.loads(page.status.text)["banner"] == "Looking for an EEG stream …"
