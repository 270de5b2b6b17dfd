from __future__ import annotations

import json
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

from fake_lab import make_health
from streamdetect.dashboard.feed import Mark
from streamdetect.dashboard.health_document import parse_health
from streamdetect.dashboard.status import banner, channel_words, describe, health_lights

STREAM = SimpleNamespace(name=lambda: "lab", channel_count=lambda: 5, hostname=lambda: "amp-pc")


def make_feed(*, silence_s=0.0, health_silence_s=0.5, stream=STREAM, health=None, **changes):
    ports = {name: SimpleNamespace(last_arrival=1.0) for name in ("probabilities", "detections", "health")}
    raw = SimpleNamespace(stream=stream, is_connected=stream is not None)
    silence = {id(raw): silence_s, id(ports["health"]): health_silence_s}
    fields = {
        "query": None,
        "model": "model",
        "raw": raw,
        "outlets": ports,
        "health": parse_health(json.dumps(make_health() if health is None else health)),
        "probability": SimpleNamespace(ch_names=("HandStart", "LiftOff"), latest=np.array([0.75, np.nan])),
        "signal": SimpleNamespace(n_samples=1500, n_gaps=2),
        "marks": deque([Mark(10.0, "detection", "HandStart"), Mark(12.0, "annotation", "cough")]),
        "problem": "",
        "annotation_stream": "model-annotations",
        "silence_s": lambda port: silence[id(port)],
        "wall_time": lambda time_s: time_s + 86400.0,
    }
    return SimpleNamespace(**(fields | changes))


def levels(lights):
    return {light["name"] if isinstance(light, dict) else light.name: light for light in lights}


def test_all_is_well():
    told = describe(make_feed())
    assert (told["title"], told["banner"], told["stale"]) == ("model · lab", "", False)
    assert [light["name"] for light in told["lights"]] == [
        *("Stream", "Monitor", "Samples lost", "Rate", "Jitter", "Clock", "Channels", "Delay", "Load", "Decisions"),
    ]
    assert {light["level"] for light in told["lights"] if light["name"] != "Channels"} == {"ok"}
    assert told["events"] == [
        {"name": "HandStart", "probability": "0.75", "threshold": "0.50", "detections": "3", "is_over": True},
        {"name": "LiftOff", "probability": "–", "threshold": "0.60", "detections": "1", "is_over": False},
    ]
    assert told["log"][0] == {"time": "00:00:12", "kind": "annotation", "text": "cough"}
    assert {"name": "Signal", "value": "1:02:03"} in told["counts"]
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "name", "level", "text"),
    [
        ({"n_lost": 5, "n_samples": 9995}, "Samples lost", "warn", "5 (0.05%)"),
        ({"n_lost": 500, "n_samples": 500}, "Samples lost", "bad", "500 (50.00%)"),
        ({"effective_sfreq": 490.0}, "Rate", "warn", "490.0 of 500 Hz"),
        ({"effective_sfreq": 400.0}, "Rate", "bad", "400.0 of 500 Hz"),
        ({"effective_sfreq": None}, "Rate", "off", "of 500 Hz"),
        ({"jitter_s": 0.05}, "Jitter", "warn", "50.0 ms"),
        ({"jitter_s": None}, "Jitter", "off", "not yet known"),
        ({"n_clock_jumps": 1}, "Clock", "warn", "1 jump"),
        ({}, "Channels", "warn", "1 bad: Fz flat (repaired)"),
        ({"delay_s": {"median": 0.01, "p99": 0.9}}, "Delay", "bad", "10.0 ms, 99 % 900.0 ms"),
        ({"delay_s": {"median": None, "p99": None}}, "Delay", "off", "not yet known"),
        ({"load": 0.9}, "Load", "warn", "90% of a core"),
        ({"reason": "warm-up"}, "Decisions", "warn", "invalid: warm-up"),
        ({"warnings": ("journal: disk full",)}, "Warning", "bad", "journal: disk full"),
    ],
)
def test_each_trouble_has_its_light(changes, name, level, text):
    lights = levels(health_lights(parse_health(json.dumps(make_health(**changes)))))
    assert (lights[name].level, lights[name].text) == (level, text)
    assert lights[name].word in ("OK", "Check", "Bad", "Unknown")


def test_a_bad_channel_that_is_not_repaired_is_bad():
    channel = SimpleNamespace(name="C3", reasons=("railed", "muscle"), repaired=False)
    health = parse_health(json.dumps(make_health(channels=(channel,))))
    assert levels(health_lights(health))["Channels"].level == "bad"
    assert channel_words(health, "C3") == "railed, muscle"
    assert channel_words(health, "Cz") == channel_words(None, "C3") == ""


def test_a_pulled_cable_and_a_stream_that_left_are_told_apart():
    pulled = describe(make_feed(silence_s=12.4))
    assert pulled["banner"] == "No samples for 12 s: amplifier, cable or network?"
    assert pulled["stale"]
    assert levels(pulled["lights"])["Stream"]["text"] == "no samples for 12 s"
    gone = describe(make_feed(silence_s=12.4, stream=None))
    assert gone["banner"] == "No samples for 12 s: the stream has left the network"
    assert gone["title"] == "model · lab"


def test_a_monitor_that_is_silent_waits_or_has_ended_is_said():
    assert banner(make_feed(health_silence_s=9.0)) == "Monitor silent for 9 s"
    waiting = make_health(state="waiting", seconds_since_last_sample=7.0)
    assert banner(make_feed(health=waiting)) == "Monitor waits for samples, 7 s"
    ended = describe(make_feed(health=make_health(state="ended"), health_silence_s=99.0))
    assert levels(ended["lights"])["Monitor"]["level"] == "warn"


def test_a_stream_without_a_monitor_is_shown_as_far_as_it_goes():
    feed = make_feed(health_silence_s=None, model="", probability=None, marks=deque())
    feed.health = None
    told = describe(feed)
    assert [light["name"] for light in told["lights"]] == ["Stream", "Monitor"]
    assert told["counts"] == [{"name": "Samples", "value": "1,500"}, {"name": "Gaps", "value": "2"}]
    assert told["events"] == []
    assert told["banner"] == ""


def test_before_anything_is_found_it_says_what_it_looks_for():
    feed = make_feed(silence_s=None, stream=None, query="BrainAmp", signal=None)
    assert describe(feed)["banner"] == "Looking for BrainAmp …"
    feed.problem = "2 models run: a, b; choose one with --model-name"
    assert describe(feed)["banner"] == feed.problem
