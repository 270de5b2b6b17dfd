from __future__ import annotations

import numpy as np
import pytest

from streamdetect.dashboard.traces import WINDOW_S, BaselineFilter, Decimator, Track

SFREQ = 1000.0


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def decimate(data, sfreq=SFREQ, *, cuts=(), columns_per_s=100.0):
    times = 50.0 + np.arange(data.shape[1]) / sfreq
    decimator = Decimator(len(data), sfreq, columns_per_s)
    parts = [
        decimator.process(part, part_times, starts_anew=False)
        for part, part_times in zip(np.split(data, cuts, axis=1), np.split(times, cuts), strict=True)
        if len(part_times)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts], axis=1)


def test_each_column_keeps_its_lowest_and_highest_value(rng):
    data = rng.standard_normal((3, 1000))
    times, points = decimate(data)
    columns = data.reshape(3, 100, 10)
    pairs = points.reshape(3, 100, 2)
    assert np.allclose(pairs.min(axis=2), columns.min(axis=2), rtol=1e-6)
    assert np.allclose(pairs.max(axis=2), columns.max(axis=2), rtol=1e-6)
    assert np.allclose(np.diff(times), 0.005)
    assert 50.0 < times[0] < 50.01


def test_a_spike_of_one_sample_is_seen():
    data = np.zeros((1, 1000))
    data[0, 777] = 1.0
    assert decimate(data)[1].max() == 1.0


def test_columns_do_not_depend_on_how_the_signal_is_cut(rng):
    data = rng.standard_normal((2, 997))
    whole, cut = decimate(data), decimate(data, cuts=(1, 8, 8, 350, 351, 980))
    assert np.array_equal(whole[1], cut[1])
    assert np.allclose(whole[0], cut[0])


def test_a_slow_signal_passes_as_it_is(rng):
    data = rng.standard_normal((2, 128))
    times, points = decimate(data, sfreq=128.0)
    assert np.array_equal(points, data.astype(np.float32))
    assert np.allclose(times, 50.0 + np.arange(128) / 128.0)


def test_a_column_shows_what_is_finite_in_it():
    data = np.ones((1, 20))
    data[0, :15] = np.nan
    _, points = decimate(data)
    assert np.isnan(points[0, :2]).all()
    assert (points[0, 2:] == 1.0).all()


def test_jitter_of_the_time_stamps_is_evened_out_and_a_true_drift_followed(rng):
    decimator = Decimator(1, SFREQ, 100.0)
    shown = []
    for block in range(400):  # 20 s, stamped 0.1 % slow, 5 ms of jitter a block
        times = 1.001 * (block * 50 + np.arange(50)) / SFREQ + 0.005 * rng.standard_normal()
        shown.append(decimator.process(np.zeros((1, 50)), times, starts_anew=False)[0])
    last = np.concatenate(shown[-40:])
    assert np.diff(last).min() > 0
    assert abs(last[-1] - 1.001 * 20.0) < 0.02


def test_the_baseline_goes_and_the_rhythm_stays():
    times = np.arange(5000) / SFREQ
    rhythm = 10 * np.sin(2 * np.pi * 10 * times)
    shown = BaselineFilter(1, SFREQ).process((300.0 + 0.5 * times + rhythm)[None])[0]
    assert np.abs(shown - rhythm).max() < 1.0


def test_values_that_are_not_finite_leave_no_trace_in_the_filter(rng):
    data = 20_000.0 + rng.standard_normal((2, 600))
    data[0, 100:300] = np.nan
    data[1, 0] = np.inf
    whole = BaselineFilter(2, SFREQ).process(data)
    assert np.isnan(whole[0, 100:300]).all()
    assert np.isfinite(whole[0, 300:]).all()
    assert np.abs(whole[0, 300:]).max() < 10.0
    halves = BaselineFilter(2, SFREQ)
    joined = np.concatenate([halves.process(data[:, :150]), halves.process(data[:, 150:])], axis=1)
    assert np.allclose(joined, whole, equal_nan=True)


def test_a_track_gives_each_reader_what_is_new_to_it(rng):
    track = Track(["a", "b"], SFREQ, baseline=False)
    assert track.read(0)[0] == 0
    assert track.read(0)[2].shape == (2, 0)
    times = np.arange(1000) / SFREQ
    track.write(rng.standard_normal((2, 500)), times[:500])
    until, _, first = track.read(0)
    track.write(rng.standard_normal((2, 500)), times[500:])
    _, _, second = track.read(until)
    end, _, everything = track.read(0)
    assert np.array_equal(np.concatenate([first, second], axis=1), everything)
    assert track.read(end)[2].shape == (2, 0)
    assert track.n_samples == 1000


def test_a_track_keeps_a_window_and_no_more():
    track = Track(["a"], SFREQ, baseline=True)
    n_times = round(3 * WINDOW_S * SFREQ)
    times = np.arange(n_times) / SFREQ
    for start in range(0, n_times, 777):
        track.write(np.zeros((1, len(times[start : start + 777]))), times[start : start + 777])
    _, shown, points = track.read(0)
    assert len(shown) == points.shape[1] == track.points_in_window
    assert shown[-1] - shown[0] == pytest.approx(WINDOW_S, abs=0.05)
    assert track.last_second().shape == (1, 1000)


def test_a_gap_is_a_hole_in_the_trace(rng):
    track = Track(["a"], SFREQ, baseline=True)
    times = np.arange(2000) / SFREQ
    track.write(500.0 + rng.standard_normal((1, 2000)), times)
    track.write(-500.0 + rng.standard_normal((1, 2000)), times + 5.0)
    _, shown, points = track.read(0)
    assert track.n_gaps == 1
    holes = np.flatnonzero(np.isnan(points[0]))
    assert shown[holes].tolist() == [5.0]
    assert np.nanmax(np.abs(points)) < 20.0  # the baseline began anew
