"""Real LSL on the loopback interface."""

from __future__ import annotations

import itertools
import logging
import time

import numpy as np
import pylsl
import pytest

from streamdetect.errors import ChannelError, InputError, StreamError
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_config import quiet_liblsl
from streamdetect.sources.lsl_streams import find_streams, make_predicate, resolve_stream

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 500.0
_numbers = itertools.count()


def make_outlet(
    labels, *, units=None, sfreq=SFREQ, channel_format=pylsl.cf_double64, kind="EEG", name=None, source_id=None
):
    """Put a stream on the network; units None leaves them out of the description, labels None all of it."""
    name = name or f"amp-{next(_numbers)}"
    n_channels = len(labels) if labels else 2
    info = pylsl.StreamInfo(name, kind, n_channels, sfreq, channel_format, name if source_id is None else source_id)
    if labels:
        channels = info.desc().append_child("channels")
        for index, label in enumerate(labels):
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            if units is not None:
                channel.append_child_value("unit", units if isinstance(units, str) else units[index])
    return name, pylsl.StreamOutlet(info)


def read_samples(source, n_times, timeout_s=10.0):
    """Read until that many samples are there, or fail."""
    chunks = []
    deadline = time.monotonic() + timeout_s
    while sum(chunk.n_times for chunk in chunks) < n_times:
        assert time.monotonic() < deadline, f"only {sum(chunk.n_times for chunk in chunks)} samples came"
        chunks += source.read(0.1)
    return chunks


def join(chunks):
    return np.concatenate([chunk.data for chunk in chunks], axis=1)


def push(outlet, data, first_time=100.0, sfreq=SFREQ):
    times = first_time + np.arange(data.shape[1]) / sfreq
    outlet.push_chunk(np.ascontiguousarray(data.T), times.tolist())
    return times


def test_volts_in_float64_arrive_bit_for_bit_with_their_times():
    data = np.random.default_rng(0).standard_normal((3, 5000)) * 1e-5
    data[1, 7] = np.nan
    name, outlet = make_outlet(["C3", "Cz", "C4"], units="volts")
    with LSLSource(name) as source:
        times = push(outlet, data, first_time=1234.5678)
        chunks = read_samples(source, 5000)
    assert np.array_equal(join(chunks), data, equal_nan=True)
    assert np.array_equal(np.concatenate([chunk.times for chunk in chunks]), times)
    assert all(chunk.data.dtype == np.float64 and chunk.data.flags.c_contiguous for chunk in chunks)
    assert source.info.ch_names == ("C3", "Cz", "C4")
    assert (source.info.sfreq, source.info.name) == (SFREQ, name)


def test_a_chunk_does_not_change_with_the_next_read():
    name, outlet = make_outlet(["C3"], units="volts")
    with LSLSource(name) as source:
        push(outlet, np.ones((1, 10)))
        (first, *_) = read_samples(source, 10)
        push(outlet, np.zeros((1, 10)), first_time=100.02)
        read_samples(source, 10)
        assert (first.data == 1.0).all()


@pytest.mark.parametrize(
    ("channel_format", "dtype"),
    [
        (pylsl.cf_float32, np.float32),
        (pylsl.cf_int16, np.int16),
        (pylsl.cf_int32, np.int32),
        (pylsl.cf_int64, np.int64),
    ],
)
def test_other_formats_and_units_become_volts(channel_format, dtype):
    data = np.arange(-20, 20).reshape(2, 20).astype(dtype)
    name, outlet = make_outlet(["C3", "C4"], units=["microvolts", "mV"], channel_format=channel_format)
    with LSLSource(name) as source:
        push(outlet, data)
        found = join(read_samples(source, 20))
    assert np.array_equal(found, data.astype(np.float64) * np.array([[1e-6], [1e-3]]))


def test_channels_are_found_by_name_in_any_order_among_others():
    data = np.arange(40.0).reshape(4, 10)
    name, outlet = make_outlet(["AUX", "C4", "Trigger", "C3"], units=["parsecs", "volts", "none", "volts"])
    with LSLSource(name, ["C3", "C4"], SFREQ) as source:
        push(outlet, data)
        found = join(read_samples(source, 10))
    assert source.info.ch_names == ("C3", "C4")
    assert np.array_equal(found, data[[3, 1]])


def test_missing_channels_are_named():
    name, outlet = make_outlet(["C3", "C4"], units="volts")
    with pytest.raises(ChannelError, match="Cz"), LSLSource(name, ["C3", "Cz"]):
        pass
    del outlet


def test_duplicated_labels_are_refused():
    name, outlet = make_outlet(["C3", "C3"], units="volts")
    with pytest.raises(ChannelError, match="C3"), LSLSource(name):
        pass
    del outlet


def test_channels_without_labels_are_numbered():
    name, outlet = make_outlet(None)
    with LSLSource(name, unit="volts") as source:
        assert source.info.ch_names == ("ch1", "ch2")
    with pytest.raises(ChannelError, match="C3"), LSLSource(name, ["C3"], unit="volts"):
        pass
    del outlet


def test_another_rate_is_refused_and_a_hair_off_is_not():
    name, outlet = make_outlet(["C3"], units="volts", sfreq=500.4)
    with LSLSource(name, sfreq=500.0) as source:
        assert source.info.sfreq == 500.4
    with pytest.raises(InputError, match=r"500\.4 Hz.*512 Hz"), LSLSource(name, sfreq=512.0):
        pass
    del outlet


def test_streams_without_a_signal_are_refused():
    name, outlet = make_outlet(["C3"], units="volts", sfreq=0.0)
    with pytest.raises(InputError, match="no regular sampling rate"), LSLSource(name):
        pass
    marker_name, markers = make_outlet(["event"], channel_format=pylsl.cf_string, sfreq=0.0, kind="Markers")
    with pytest.raises(InputError, match="strings"), LSLSource(marker_name):
        pass
    del outlet, markers


def test_units_that_are_unknown_missing_or_overruled(caplog):
    name, outlet = make_outlet(["C3"], units="parsecs")
    with pytest.raises(InputError, match="parsecs"), LSLSource(name):
        pass
    with pytest.raises(InputError, match="parsecs"), LSLSource(name, unit="parsecs"):
        pass
    with LSLSource(name, unit="mV") as source:
        push(outlet, np.ones((1, 5)))
        assert (read_samples(source, 5)[0].data == 1e-3).all()
    assert not caplog.records
    bare_name, bare = make_outlet(["C3"])
    with caplog.at_level(logging.WARNING), LSLSource(bare_name) as source:
        push(bare, np.ones((1, 5)))
        assert (read_samples(source, 5)[0].data == 1e-6).all()
    assert "microvolts assumed" in caplog.text


def test_nothing_found_says_what_there_is():
    name, outlet = make_outlet(["C3"], units="volts")
    with pytest.raises(StreamError) as caught:
        resolve_stream("no-such-stream", 0.1)
    message = str(caught.value)
    assert "no-such-stream" in message
    assert "0.1 s" in message
    assert name in message
    assert "streamdetect streams" in message
    assert "\n" not in message
    del outlet


def test_several_matches_are_listed_and_each_can_be_named():
    kind = f"kind-{next(_numbers)}"
    first, outlet = make_outlet(["C3"], kind=kind)
    second, other = make_outlet(["C3"], kind=kind, source_id="cap'2")
    with pytest.raises(InputError) as caught:
        resolve_stream(kind, 5.0)
    assert first in str(caught.value)
    assert second in str(caught.value)
    assert "cap'2" in str(caught.value)
    assert resolve_stream(second, 5.0).name == second
    assert resolve_stream("cap'2", 5.0).name == second
    assert resolve_stream(f"type='{kind}' and starts-with(name,'{first}')", 5.0).name == first
    del outlet, other


def test_streams_are_listed():
    name, outlet = make_outlet(["C3", "C4"], units="volts", channel_format=pylsl.cf_float32)
    (found,) = [stream for stream in find_streams(0.6) if stream.name == name]
    assert (found.type, found.n_channels, found.sfreq, found.dtype) == ("EEG", 2, SFREQ, "float32")
    del outlet


@pytest.mark.parametrize("query", ["", "  ", 'it\'s "so"'])
def test_queries_that_cannot_be_looked_for(query):
    with pytest.raises(InputError):
        make_predicate(query)


def test_a_jump_of_the_time_stamps_marks_lost_samples():
    name, outlet = make_outlet(["C3"], units="volts")
    with LSLSource(name) as source:
        push(outlet, np.zeros((1, 50)), first_time=100.0)
        push(outlet, np.ones((1, 50)), first_time=101.1)  # 500 samples later than the next one
        push(outlet, np.ones((1, 50)), first_time=5.0)
        chunks = read_samples(source, 150)
    marked = [(chunk.n_lost, chunk.restart) for chunk in chunks if chunk.n_lost or chunk.restart]
    assert marked == [(500, False), (0, True)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_time_stamps_that_are_no_numbers_are_refused(bad):
    name, outlet = make_outlet(["C3"], units="volts")
    with LSLSource(name) as source:
        push(outlet, np.ones((1, 10)))
        read_samples(source, 10)
        outlet.push_chunk([[1.0]] * 3, [100.02, bad, 100.024])
        with pytest.raises(StreamError, match="a time stamp that is not a number"):
            read_samples(source, 3)


def test_reading_waits_no_longer_than_told_and_not_at_all_for_samples_that_are_there():
    name, outlet = make_outlet(["C3"], units="volts")
    now = [10.0]
    with LSLSource(name, clock=lambda: now[0]) as source:
        now[0] = 12.5
        started = time.monotonic()
        assert source.read(0.05) == []
        assert time.monotonic() - started < 10.0
        assert source.seconds_since_last_sample == 2.5
        push(outlet, np.zeros((1, 10)))
        started = time.monotonic()
        assert sum(chunk.n_times for chunk in source.read(60.0)) > 0
        assert time.monotonic() - started < 30.0
        assert source.seconds_since_last_sample == 0.0


def test_the_clock_offset_is_measured_without_waiting():
    name, outlet = make_outlet(["C3"], units="volts")
    with LSLSource(name) as source:
        assert source.time_correction == pytest.approx(0.0, abs=0.01)  # the same machine
        started = time.monotonic()
        for _ in range(100):
            assert source.time_correction is not None
        assert time.monotonic() - started < 0.5
    assert source.time_correction is not None
    del outlet


def test_a_stream_that_comes_back_goes_on_with_a_gap():
    name, outlet = make_outlet(["C3"], units="volts")
    with LSLSource(name) as source:
        push(outlet, np.zeros((1, 50)), first_time=100.0)
        read_samples(source, 50)
        del outlet
        name, outlet = make_outlet(["C3"], units="volts", name=name)
        assert outlet.wait_for_consumers(30.0)
        push(outlet, np.ones((1, 50)), first_time=104.0)
        chunks = read_samples(source, 50)
    assert chunks[0].n_lost == 1950
    del outlet


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("[lab]\nSessionID=a\n", "[lab]\nSessionID=a\n\n[log]\nlevel = -3\n"),
        ("[log]\nfile=x\n[lab]\n", "[log]\nlevel = -3\nfile=x\n[lab]\n"),
        ("[log]\nlevel=0\n", None),
    ],
)
def test_liblsl_is_quiet_unless_the_user_wants_its_log(config, expected, tmp_path, monkeypatch):
    path = tmp_path / "lsl_api.cfg"
    path.write_text(config)
    monkeypatch.setenv("LSLAPICFG", str(path))
    given = []
    monkeypatch.setattr(pylsl, "set_config_content", given.append)
    quiet_liblsl()
    assert given == ([] if expected is None else [expected])
