"""Streams that go and come back, on real LSL."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pylsl
import pytest

from streamdetect.errors import StreamError
from streamdetect.sources import lsl_inlet
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_inlet import Layout, describe_change
from streamdetect.sources.lsl_return import find_successor, is_followed_by_liblsl
from streamdetect.sources.lsl_streams import FoundStream, resolve_stream

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 500.0
LABELS = ("C3", "Cz")
_numbers = itertools.count()


def new_name():
    return f"gone-{next(_numbers)}"


def make_outlet(name, *, source_id, labels=LABELS, sfreq=SFREQ, dtype="double64", unit="volts", kind="EEG"):
    info = pylsl.StreamInfo(name, kind, len(labels), sfreq, dtype, source_id)
    channels = info.desc().append_child("channels")
    for label in labels:
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
    return pylsl.StreamOutlet(info)


def push(outlet, n, first_time, value=0.0, sfreq=SFREQ, n_channels=2):
    data = np.full((n, n_channels), value)
    outlet.push_chunk(data, (first_time + np.arange(n) / sfreq).tolist())


def read_samples(source, n_times, timeout_s=30.0):
    chunks = []
    deadline = time.monotonic() + timeout_s
    while sum(chunk.n_times for chunk in chunks) < n_times:
        assert time.monotonic() < deadline, f"only {sum(chunk.n_times for chunk in chunks)} samples came"
        chunks += source.read(0.1)
    return chunks


def wait_for_reader(source, outlet, timeout_s=30.0):
    """Read, which is what finds the stream, until somebody takes it."""
    deadline = time.monotonic() + timeout_s
    while not outlet.have_consumers():
        assert time.monotonic() < deadline, "nobody came"
        assert source.read(0.05) == []


@pytest.mark.parametrize(("before", "after"), [("same", "same"), ("old", "new"), ("", "")])
def test_it_goes_on_with_a_gap_whatever_its_source_id(before, after):
    name = new_name()
    before, after = (source_id and f"{source_id}-{name}" for source_id in (before, after))
    outlet = make_outlet(name, source_id=before)
    with LSLSource(name) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        del outlet
        outlet = make_outlet(name, source_id=after)
        wait_for_reader(source, outlet)
        push(outlet, 50, 104.0, value=1.0)
        chunks = read_samples(source, 50)
        assert chunks[0].n_lost == 1950
        assert all((chunk.data == 1.0).all() for chunk in chunks)
        assert source.stream.source_id == after
        assert source.time_correction == pytest.approx(0.0, abs=0.05)
        del outlet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("C3", "Pz")}, "channels C3, Cz before, C3, Pz now"),
        ({"labels": ("C3", "Cz", "C4")}, "channels C3, Cz before, C3, Cz, C4 now"),
        ({"unit": "microvolts"}, "units volts, volts before, microvolts, microvolts now"),
        ({"sfreq": 250.0}, "sampling rate 500 Hz before, 250 Hz now"),
        ({"dtype": "float32"}, "number format float64 before, float32 now"),
    ],
)
def test_another_layout_is_an_error_and_no_sample_of_it_is_delivered(change, message):
    name = new_name()
    outlet = make_outlet(name, source_id=f"same-{name}")
    with LSLSource(name, ["C3"]) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        del outlet
        outlet = make_outlet(name, source_id=("new-" if "labels" in change else "same-") + name, **change)

        def read_on(outlet):
            for step in range(600):
                push(outlet, 10, 104.0 + step, value=1.0, n_channels=len(change.get("labels", LABELS)))
                assert source.read(0.05) == []

        with pytest.raises(StreamError, match=message) as caught:
            read_on(outlet)
        assert "\n" not in str(caught.value)
        with pytest.raises(StreamError, match=message):
            source.read(0.05)  # whoever goes on reading gets no sample of it either
        del outlet


def test_a_restart_that_nobody_was_reading_loses_nothing_that_had_arrived():
    name = new_name()
    outlet = make_outlet(name, source_id=name)
    with LSLSource(name) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        push(outlet, 30, 100.1, value=1.0)
        time.sleep(0.2)  # what is in the outlet when it closes is lost: nothing that this side can see
        del outlet
        outlet = make_outlet(name, source_id=name)
        assert outlet.wait_for_consumers(30.0)
        push(outlet, 50, 104.0, value=2.0)
        chunks = read_samples(source, 80)
    values = np.concatenate([chunk.data[0] for chunk in chunks])
    assert values.tolist() == [1.0] * 30 + [2.0] * 50
    assert sum(chunk.n_lost for chunk in chunks) == 1920


def test_a_restart_with_other_channels_that_nobody_was_reading_is_seen_all_the_same():
    name = new_name()
    outlet = make_outlet(name, source_id=name)
    with LSLSource(name) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        del outlet
        outlet = make_outlet(name, source_id=name, labels=("C4", "Cz"))
        assert outlet.wait_for_consumers(30.0)  # liblsl has connected by itself: to it the two are the same
        push(outlet, 50, 100.1, value=2.0)
        with pytest.raises(StreamError, match="C4, Cz now"):
            assert [source.read(0.05) for _ in range(600)] == "an error"
        del outlet


def test_another_amplifier_does_not_take_the_place_of_the_one_that_went():
    kind = f"kind-{next(_numbers)}"
    name = new_name()
    outlet = make_outlet(name, source_id=name, kind=kind)
    with LSLSource(kind) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        del outlet
        other = make_outlet(f"{name}-other", source_id="other", kind=kind)
        for _ in range(20):
            assert source.read(0.1) == []
        assert not other.have_consumers()
        outlet = make_outlet(name, source_id=f"{name}-again", kind=kind)
        wait_for_reader(source, outlet)
        assert not other.have_consumers()
        del outlet, other


def test_a_silent_stream_is_left_as_it_is():
    name = new_name()
    outlet = make_outlet(name, source_id=name)
    with LSLSource(name) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        for _ in range(15):  # longer than it takes to be looked for
            assert source.read(0.1) == []
        push(outlet, 50, 100.1)
        (chunk, *_) = read_samples(source, 50)
        assert chunk.n_lost == 0
        assert source.read(0.05) == []
    del outlet


def test_what_comes_first_after_a_return_can_be_left_to_the_recorder():
    now = [1000.0]
    name = new_name()
    outlet = make_outlet(name, source_id="old")
    with LSLSource(name, settle_s=2.0, clock=lambda: now[0]) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        del outlet
        now[0] += 5.0
        outlet = make_outlet(name, source_id="new")
        wait_for_reader(source, outlet)
        source.read(0.1)
        push(outlet, 50, 104.0, value=1.0)
        for _ in range(5):
            assert source.read(0.1) == []
        now[0] += 2.0
        push(outlet, 50, 104.1, value=2.0)
        chunks = read_samples(source, 50)
    assert chunks[0].n_lost == 2000
    assert (chunks[0].data == 2.0).all()


@pytest.mark.parametrize("n_dropped", [1, 30, 200])
def test_each_sample_that_a_full_buffer_dropped_is_counted(n_dropped, monkeypatch, caplog):
    monkeypatch.setattr(lsl_inlet, "_BUFFER_S", 1)
    name = new_name()
    outlet = make_outlet(name, source_id=name)
    with LSLSource(name) as source:
        push(outlet, 50, 100.0)
        read_samples(source, 50)
        push(outlet, 500 + n_dropped, 100.1)
        inlet = source._inlet
        deadline = time.monotonic() + 30.0
        while inlet.n_waiting < inlet.capacity:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)  # for those behind the first 500
        chunks = read_samples(source, 500)
    assert [chunk.n_lost for chunk in chunks] == [n_dropped] + [0] * (len(chunks) - 1)
    assert "ran over" in caplog.text


def test_two_streams_of_one_name_are_told_apart_by_their_source_ids():
    name = new_name()
    outlets = {source_id: make_outlet(name, source_id=source_id) for source_id in (f"{name}-a", f"{name}-b")}
    for source_id, outlet in outlets.items():
        for query in (source_id, f"name='{name}' and source_id='{source_id}'"):
            with LSLSource(query) as source:
                push(outlet, 5, 100.0, value=3.0)
                assert (read_samples(source, 5)[0].data == 3.0).all()
                assert source.stream.source_id == source_id
    outlets.clear()


AMPLIFIER = """
import sys, pylsl
outlet = pylsl.StreamOutlet(pylsl.StreamInfo(sys.argv[1], "EEG", 2, 500.0, "double64", sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
"""


def test_close_ends_the_wait_for_a_stream_that_no_longer_answers(monkeypatch):
    name = new_name()
    amplifier = subprocess.Popen(
        [sys.executable, "-c", AMPLIFIER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert amplifier.stdout.readline() == "up\n"
        found = resolve_stream(name, 30.0)
        os.kill(amplifier.pid, signal.SIGSTOP)  # its connections stay, and nobody answers
        resolved = threading.Event()
        monkeypatch.setattr("streamdetect.sources.lsl.resolve_stream", lambda *_: (resolved.set(), found)[1])
        monkeypatch.setattr(lsl_inlet, "_CONNECT_S", 600.0)
        source, errors = LSLSource(name), []

        def enter():
            try:
                source.__enter__()
            except StreamError as error:
                errors.append(str(error))

        thread = threading.Thread(target=enter)
        thread.start()
        assert resolved.wait(30.0)
        source.close()
        thread.join(60.0)
        assert not thread.is_alive()
        assert errors == [f"stream '{name}': closed while connecting"]
    finally:
        amplifier.kill()
        amplifier.communicate()


@dataclasses.dataclass
class Handle:
    """As much of pylsl's description as is asked for."""

    id: str

    def uid(self):
        return self.id


def found(uid, name="Amp", source_id="s1", hostname="lab", kind="EEG", n_channels=2, sfreq=500.0, dtype="float32"):
    return FoundStream(name, kind, source_id, hostname, n_channels, sfreq, dtype, Handle(uid))


def test_which_stream_is_the_one_that_came_back():
    was = found("1")
    same_id, new_id, elsewhere = (
        found("2", name="Amp 2"),
        found("3", source_id="s2"),
        found("4", hostname="b", source_id=""),
    )
    assert find_successor(was, []) is None
    assert find_successor(was, [elsewhere]) is None
    assert find_successor(was, [new_id, elsewhere]) is new_id
    assert find_successor(was, [new_id, same_id]) is same_id
    assert find_successor(was, [new_id, found("5", source_id="s3")]) is None
    assert find_successor(was, [was, same_id]) is None
    assert find_successor(was, [was, same_id], is_gone=True) is same_id
    assert find_successor(found("1", source_id=""), [found("2", source_id="", name="B")]) is None


def test_which_stream_liblsl_follows_by_itself():
    was = found("1")
    assert is_followed_by_liblsl(was, found("2", sfreq=250.0, hostname="other"))
    for other in (
        found("2", source_id="s2"),
        found("2", n_channels=3),
        found("2", dtype="int16"),
        found("2", name="B"),
    ):
        assert not is_followed_by_liblsl(was, other)
    assert not is_followed_by_liblsl(found("1", source_id=""), found("2", source_id=""))


def test_every_change_is_told():
    before = Layout(("C3",), ("volts",), 500.0, "float32")
    assert describe_change(before, before) == ""
    now = Layout(("C4",), ("mV",), 250.0, "int16")
    assert describe_change(before, now).count("before") == 4
