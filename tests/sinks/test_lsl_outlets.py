from __future__ import annotations

import itertools
import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pylsl
import pytest

from streamdetect.chunk import StreamInfo
from streamdetect.decisions import Decisions, Detection
from streamdetect.errors import InputError
from streamdetect.sinks.lsl import HealthOutlet, MarkerOutlet, ProbabilityOutlet, SignalOutlet
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import resolve_stream
from streamdetect.status import EventStatus, Status

pytestmark = pytest.mark.usefixtures("lsl")

_numbers = itertools.count()


@pytest.fixture
def name():
    return f"outlet-{next(_numbers)}"


def connect(name):
    inlet = pylsl.StreamInlet(resolve_stream(name, 10.0).handle)
    inlet.open_stream(10.0)
    return inlet


def pull(inlet, n_samples):
    samples, times = [], []
    deadline = time.monotonic() + 10.0
    while len(times) < n_samples and time.monotonic() < deadline:
        new, new_times = inlet.pull_chunk(0.2, n_samples)
        samples += new
        times += new_times
    return samples, times


def make_decisions():
    return Decisions(
        event_names=("HandStart", "LiftOff"),
        samples=np.array([9, 19]),
        times=np.array([100.018, 100.038]),
        quality=np.zeros(2, np.uint8),
        probability=np.array([[0.25, np.nan], [0.1, 0.9]], dtype=np.float32),
        members={},
        detections=(Detection("LiftOff", 19, 100.038, 0.9),),
    )


def test_markers_carry_the_event_at_its_time_in_the_local_clock(name):
    outlet = MarkerOutlet(name)
    inlet = connect(name)
    assert outlet.wait_for_consumer(10.0)
    assert outlet.has_consumer
    outlet.write(make_decisions(), time_correction=2.5)
    samples, times = pull(inlet, 1)
    assert samples == [["LiftOff"]]
    assert times == [100.038 + 2.5]
    info = inlet.info()
    assert (info.type(), info.nominal_srate(), info.channel_format()) == ("Markers", 0.0, pylsl.cf_string)
    assert name in info.source_id()
    outlet.close()


def test_probabilities_are_a_labelled_signal(name):
    decisions = make_decisions()
    outlet = ProbabilityOutlet(name, decisions.event_names, 50.0)
    inlet = connect(name)
    outlet.write(decisions, time_correction=-1.0)
    outlet.write(Decisions(decisions.event_names, *(np.empty(0),) * 3, np.empty((0, 2), np.float32), {}), 0.0)
    samples, times = pull(inlet, 2)
    assert np.array_equal(np.array(samples, np.float32), decisions.probability, equal_nan=True)
    assert times == (decisions.times - 1.0).tolist()
    info = inlet.info()
    assert info.get_channel_labels() == ["p_HandStart", "p_LiftOff"]
    assert info.nominal_srate() == 50.0
    assert info.type() == "Probability"
    outlet.close()


def test_health_is_a_json_document_and_its_stream_tells_whom_it_listens_to(name):
    channel = SimpleNamespace(name="Fz", reasons=("flat", "line-noise"), repaired=True)
    status = Status(
        state="running",
        name="hands",
        stream="Verstärker",
        source_id="amp-7",
        time=12.5,
        seconds=10.0,
        sfreq=500.0,
        effective_sfreq=499.5,
        jitter_s=0.002,
        n_samples=4990,
        n_lost=10,
        n_repeated=0,
        n_gaps=1,
        n_restarts=0,
        n_clock_jumps=0,
        seconds_since_last_sample=0.01,
        delay_s={"median": 0.001, "p99": math.nan},
        load=0.03,
        n_decisions=500,
        n_invalid=3,
        reason="",
        events={"HandStart": EventStatus(0.5, math.nan, 7)},
        detections=(),
        channels=(channel,),
        warnings=("journal: disk full",),
    )
    outlet = HealthOutlet(name, stream="Verstärker", source_id="amp-7")
    inlet = connect(name)
    wait_for_consumer(outlet)
    before = pylsl.local_clock()
    outlet.push(status)
    ((text,),), (when,) = pull(inlet, 1)
    assert before <= when <= pylsl.local_clock()
    assert json.loads(text) == {
        "schema_version": 1,
        "state": "running",
        "model": "hands",
        "stream": "Verstärker",
        "source_id": "amp-7",
        "time": 12.5,
        "seconds": 10.0,
        "sfreq": 500.0,
        "effective_sfreq": 499.5,
        "jitter_ms": 2.0,
        "n_samples": 4990,
        "n_lost": 10,
        "n_repeated": 0,
        "n_gaps": 1,
        "n_restarts": 0,
        "n_clock_jumps": 0,
        "seconds_since_last_sample": 0.01,
        "delay_ms": {"median": 1.0, "p99": None},
        "load": 0.03,
        "n_decisions": 500,
        "n_invalid": 3,
        "reason": "",
        "events": {"HandStart": {"threshold": 0.5, "detections": 7}},
        "channels": [{"name": "Fz", "reasons": ["flat", "line-noise"], "repaired": True}],
        "warnings": ["journal: disk full"],
    }
    info = inlet.info()
    assert (info.type(), info.nominal_srate(), info.channel_format()) == ("Health", 0.0, pylsl.cf_string)
    listens_to = info.desc().child("listens_to")
    assert (listens_to.child_value("name"), listens_to.child_value("source_id")) == ("Verstärker", "amp-7")
    outlet.close()


def wait_for_consumer(outlet):
    deadline = time.monotonic() + 10.0
    while not outlet.has_consumer:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_source_id_is_the_same_each_time(name):
    first = MarkerOutlet(name)
    source_id = connect(name).info().source_id()
    first.close()
    second = MarkerOutlet(f"{name}-other")
    assert connect(f"{name}-other").info().source_id() == source_id + "-other"
    second.close()


@pytest.mark.parametrize(("dtype", "unit"), [("float32", "microvolts"), ("float64", "volts")])
def test_a_signal_describes_its_channels_and_its_source_gives_volts(name, dtype, unit):
    data = np.random.default_rng(0).standard_normal((2, 500)) * 1e-5
    data[0, 3] = np.nan
    times = 1000.0 + np.arange(500) / 250.0
    outlet = SignalOutlet(StreamInfo(("C3", "Čz"), 250.0, name), dtype)
    with LSLSource(name) as source:
        info = connect(name).info()
        assert info.get_channel_labels() == ["C3", "Čz"]
        assert info.get_channel_units() == [unit, unit]
        assert info.get_channel_types() == ["EEG", "EEG"]
        assert info.type() == "EEG"
        outlet.push(data, times)
        chunks = []
        deadline = time.monotonic() + 10.0
        while sum(chunk.n_times for chunk in chunks) < 500 and time.monotonic() < deadline:
            chunks += source.read(0.1)
    received = np.concatenate([chunk.data for chunk in chunks], axis=1)
    expected = data if dtype == "float64" else (data * 1e6).astype(np.float32).astype(np.float64) * 1e-6
    assert np.array_equal(received, expected, equal_nan=True)
    assert np.array_equal(np.concatenate([chunk.times for chunk in chunks]), times)
    outlet.close()


def test_waiting_for_nobody_ends(name):
    outlet = SignalOutlet(StreamInfo(("C3",), 250.0, name))
    assert not outlet.wait_for_consumer(0.05)
    assert not outlet.wait_for_consumer(0.0)
    assert not outlet.wait_for_consumer(None, is_stopped=lambda: True)
    outlet.close()


def test_other_dtypes_are_refused(name):
    with pytest.raises(InputError, match="int16"):
        SignalOutlet(StreamInfo(("C3",), 250.0, name), "int16")
