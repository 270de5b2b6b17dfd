from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import naive
from streamdetect.chunk import Chunk, Quality
from streamdetect.sources.recording import read_recording
from streamdetect.sources.simulate import simulate_series
from streamdetect.stages import channel_health
from streamdetect.stages.channel_health import FAULTS, NEEDED, ChannelHealth, find_faults

SFREQ = 500.0
CHANNEL = 12  # C3


def chunk_of(data, quality=None, first=0, sfreq=SFREQ, restart=False):
    n_times = data.shape[1]
    quality = np.zeros(n_times, np.uint8) if quality is None else quality
    return Chunk(data, (first + np.arange(n_times)) / sfreq, restart=restart, quality=quality, first_sample=first)


def reasons_over_time(data, sfreq, block):
    """The faults of each channel after each block."""
    rules = ChannelHealth(len(data), sfreq, block)
    times = []
    for start in range(0, data.shape[1] - block + 1, block):
        rules.process(chunk_of(data[:, start : start + block], first=start, sfreq=sfreq))
        times.append(rules.reasons)
    return times


@pytest.fixture(scope="module")
def eeg():
    return simulate_series(1, 1, minutes=0.5).data


def pink(rng, n_times, exponent=1.0):
    values = np.fft.rfft(rng.standard_normal(n_times))
    values[1:] /= np.arange(1, len(values)) ** (exponent / 2)
    values[0] = 0
    signal = np.fft.irfft(values, n_times)
    return signal / signal.std()


def make_fault(fault, good, rng):
    """The signal of one channel with a fault, in volts, and what may be found beside it."""
    n_times = len(good)
    t = np.arange(n_times) / SFREQ
    return {
        "flat": np.full(n_times, good[0]),
        "rests at the rail": np.full(n_times, 0.1875),
        "clips": np.clip(good, *np.quantile(good, (0.2, 0.8))),
        "mains of 50 Hz": good + 60e-6 * np.sin(2 * np.pi * 50 * t),
        "mains of 60 Hz": good + 60e-6 * np.sin(2 * np.pi * 60 * t),
        "muscle": good + 60e-6 * rng.standard_normal(n_times),
        "steps": good + 400e-6 * (np.floor(t / 0.7) % 2),
        "noise of its own": 15e-6 * rng.standard_normal(n_times),
    }[fault]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("flat", "flat"),
        ("rests at the rail", "railed"),
        ("clips", "railed"),
        ("mains of 50 Hz", "line-noise"),
        ("mains of 60 Hz", "line-noise"),
        ("muscle", "muscle"),
        ("steps", "steps"),
        ("noise of its own", "uncorrelated"),
    ],
)
def test_a_fault_is_found_in_its_channel_and_in_no_other(eeg, fault, reason):
    data = eeg.copy()
    data[CHANNEL, 5000:] = make_fault(fault, data[CHANNEL, 5000:], np.random.default_rng(0))
    over_time = reasons_over_time(data, SFREQ, 500)
    assert not any(any(found) for found in over_time[:10])
    assert any(reason in found[CHANNEL] for found in over_time[10:20])  # within 10 s
    assert not any(found for each in over_time for i, found in enumerate(each) if i != CHANNEL)


@pytest.mark.parametrize("subject", [1, 2, 3])
def test_simulated_eeg_has_no_bad_channel(subject):
    data = simulate_series(subject, 2, minutes=1).data
    assert not any(any(found) for found in reasons_over_time(data, SFREQ, 500))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("n_channels", "sfreq"), [(32, 500), (8, 250), (3, 100), (1, 100)])
def test_noise_has_no_bad_channel(exponent, n_channels, sfreq):
    rng = np.random.default_rng(0)
    data = 1e-5 * np.stack([pink(rng, 60 * sfreq, exponent) for _ in range(n_channels)])
    assert not any(any(found) for found in reasons_over_time(data, float(sfreq), sfreq))


def test_mains_and_muscles_in_all_channels_are_no_fault_of_one(eeg):
    rng, t = np.random.default_rng(0), np.arange(eeg.shape[1]) / SFREQ
    gain = rng.uniform(0.5, 2.0, (len(eeg), 1))
    data = eeg + gain * 60e-6 * (np.sin(2 * np.pi * 50 * t) + rng.standard_normal(eeg.shape))
    assert not any(
        {"line-noise", "muscle"} & set(found) for each in reasons_over_time(data, SFREQ, 500) for found in each
    )


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rules_do_not_depend_on_the_unit(eeg, scale):
    data = eeg[:, :500].copy()
    for row, fault in enumerate(("clips", "mains of 50 Hz", "muscle", "steps", "noise of its own")):
        data[row] = make_fault(fault, data[row], np.random.default_rng(row))
    np.testing.assert_array_equal(find_faults(scale * data, SFREQ), find_faults(data, SFREQ))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sfreq=st.sampled_from([90.0, 128.0, 250.0]))
@example(seed=951, sfreq=128.0)  # a channel held at 30 mV, whose power was once one of rounding errors
def test_rules_are_the_naive_ones(seed, sfreq):
    rng = np.random.default_rng(seed)
    t = np.arange(100) / sfreq
    common = pink(rng, 100)
    data = np.stack([common + 0.3 * pink(rng, 100) for _ in range(7)])
    for row in rng.choice(7, 3, replace=False):
        data[row] = [
            np.full(100, rng.choice([0.0, 3e3])),
            np.clip(data[row], -0.5, 1.0),
            data[row] + 5 * np.sin(2 * np.pi * rng.choice([50, 60]) * t),
            data[row] + 3 * rng.standard_normal(100),
            data[row] + 20 * (t > t[50]),
            pink(rng, 100, 0.0),
        ][rng.integers(6)]
    data *= 1e-5
    np.testing.assert_array_equal(find_faults(data, sfreq), naive.faults(data, sfreq))


def test_verdicts_are_the_naive_ones(monkeypatch):
    rng = np.random.default_rng(2)
    rate = rng.choice([0.0, 0.05, 0.6], (20, len(FAULTS), 3), p=[0.4, 0.4, 0.2])
    found = rng.random((400, len(FAULTS), 3)) < np.repeat(rate, 20, axis=0)
    drawn = iter(found)
    monkeypatch.setattr(channel_health, "find_faults", lambda data, sfreq: next(drawn))
    over_time = reasons_over_time(np.zeros((3, 4000)), 100.0, 10)
    for fault, needed in enumerate(NEEDED.ravel().tolist()):
        for channel in range(3):
            expected = naive.in_force(found[:, fault, channel].tolist(), needed)
            assert [FAULTS[fault] in each[channel] for each in over_time] == expected
            assert 0 < sum(expected) < 400


def test_a_verdict_is_about_the_samples_after_its_block():
    data = 1e-5 * np.random.default_rng(0).standard_normal((3, 2000))
    data[1, 250:620] = 0.0  # wholly flat: the blocks that begin at 300, 400 and 500
    pieces = ChannelHealth(3, 100.0, 100).process(chunk_of(data, sfreq=100.0))
    assert [(piece.first_sample, piece.n_times, piece.bad_channels) for piece in pieces] == [
        (0, 400, ()),
        (400, 1200, (1,)),  # good again after ten blocks, the first of which begins at 600
        (1600, 400, ()),
    ]
    assert not any(piece.restart for piece in pieces)


def test_a_verdict_may_wait_and_be_judged_between_two_chunks():
    data = 1e-5 * np.random.default_rng(0).standard_normal((3, 2000))
    data[1, 250:620] = 0.0
    (before, during, after) = ChannelHealth(3, 100.0, 100, lag_samples=20).process(chunk_of(data, sfreq=100.0))
    assert [(piece.first_sample, piece.bad_channels) for piece in (before, during, after)] == [
        (0, ()),
        (420, (1,)),
        (1620, ()),
    ]
    rules, settled, bad = ChannelHealth(3, 100.0, 100, lag_samples=20), [], []
    for start in range(0, 2000, 10):
        bad += [piece.bad_channels for piece in rules.process(chunk_of(data[:, start : start + 10], first=start))]
        settled.append(rules.settle())
    assert [10 * index for index, is_done in enumerate(settled) if is_done] == [90 + 100 * n for n in range(20)]
    assert bad == [()] * 42 + [(1,)] * 120 + [()] * 38


def test_a_block_with_bad_samples_is_not_judged():
    data = 1e-5 * np.random.default_rng(0).standard_normal((3, 300))
    data[1] = 0.0
    quality = np.zeros(300, np.uint8)
    quality[[20, 199]] = Quality.LOST, Quality.NON_FINITE
    pieces = ChannelHealth(3, 100.0, 100).process(chunk_of(data, quality, sfreq=100.0))
    assert [(piece.n_times, piece.bad_channels) for piece in pieces] == [(300, ())]


def test_a_restart_begins_a_block_and_keeps_the_verdicts():
    rng = np.random.default_rng(0)
    flat = 1e-5 * rng.standard_normal((3, 150))
    flat[1] = 0.0
    rules = ChannelHealth(3, 100.0, 100)
    rules.process(chunk_of(flat, sfreq=100.0))
    good = 1e-5 * rng.standard_normal((3, 1000))
    pieces = rules.process(chunk_of(good, first=150, sfreq=100.0, restart=True))
    assert [(piece.first_sample, piece.n_times, piece.bad_channels) for piece in pieces] == [(150, 1000, (1,))]
    assert rules.process(chunk_of(good[:, :1], first=1150, sfreq=100.0))[0].bad_channels == ()
    rules.process(chunk_of(flat, first=1151, sfreq=100.0, restart=True))
    assert rules.reasons[1] == ("flat",)
    rules.reset()
    assert rules.reasons == ((), (), ())


def test_values_too_large_to_be_squared_are_survived():
    data = 1e-5 * np.random.default_rng(0).standard_normal((8, 500))
    data[2] *= 1e200
    data[3] = 0.0
    assert np.argwhere(find_faults(data, 500.0))[0].tolist() == [FAULTS.index("flat"), 3]


@pytest.mark.parametrize("run", [3, 5, 7, 9])
def test_rules_fire_rarely_on_a_good_recording(data_dir, run):
    recording = read_recording(data_dir / "eeg_motor_S001" / f"S001R{run:02d}.edf")
    (chunk,) = recording.chunks(chunk_samples=recording.n_times)
    over_time = reasons_over_time(chunk.data, 160.0, 159)
    assert np.mean([bool(found) for each in over_time for found in each]) < 0.005
