from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.sources.gaps import GapMarker

SFREQ = 100.0


def mark(times, cuts=(), sfreq=SFREQ):
    """Return (n_lost, restart) of each marked sample by its index, and the samples joined."""
    times = np.asarray(times, dtype=float)
    data = np.arange(2.0 * len(times)).reshape(2, -1)
    marker = GapMarker(sfreq)
    marks, joined, index = {}, [np.zeros((3, 0))], 0
    for start, stop in pairwise([0, *sorted(cuts), len(times)]):
        for chunk in marker.mark(data[:, start:stop], times[start:stop]):
            if chunk.n_lost or chunk.restart:
                marks[index] = (chunk.n_lost, chunk.restart)
            joined.append(np.vstack([chunk.data, chunk.times]))
            index += chunk.n_times
    np.testing.assert_array_equal(np.hstack(joined), np.vstack([data, times]))
    return marks


def clock(n, start=0.0):
    return start + np.arange(n) / SFREQ


def test_regular_clock_has_no_marks():
    assert mark(clock(1000, start=1e6)) == {}


@pytest.mark.parametrize("n_lost", [11, 50, 3000])
def test_counts_lost_samples(n_lost):
    assert mark(np.delete(clock(4000), slice(300, 300 + n_lost))) == {300: (n_lost, False)}


def test_clock_that_goes_back_restarts():
    assert mark(np.concatenate([clock(100, 50.0), clock(100, 7.0)])) == {100: (0, True)}


def test_clock_that_jumps_by_more_than_ten_minutes_restarts():
    assert mark(np.concatenate([clock(100), clock(100, 700.0)])) == {100: (0, True)}


def test_a_time_that_is_not_a_number_restarts_before_and_after():
    times = clock(10)
    times[4] = np.nan
    assert mark(times) == {4: (0, True), 5: (0, True)}


@given(st.integers(0, 2**32 - 1))
def test_jitter_of_arriving_blocks_is_no_gap(seed):
    """Blocks of 8 samples, stamped on arrival up to 45 ms late, the samples in them back-dated."""
    late = np.repeat(np.random.default_rng(seed).uniform(0, 0.045, 50), 8)
    assert mark(clock(400) + late) == {}


def test_block_stamped_with_one_time_is_no_gap():
    assert mark(np.repeat(clock(400)[7::8], 8)) == {}


def test_true_rate_off_the_nominal_one_is_no_gap():
    assert mark(np.arange(100_000) / 92.6) == {}


def test_low_rates_do_not_round_jitter_to_a_loss():
    assert mark([0.0, 1.2, 2.0, 3.0], sfreq=1.0) == {}


def test_first_sample_and_reset_carry_no_mark():
    marker = GapMarker(SFREQ)
    for start in (5e5, 0.0):
        (chunk,) = marker.mark(np.zeros((1, 5)), clock(5, start))
        assert (chunk.n_lost, chunk.restart) == (0, False)
        marker.reset()


def test_gap_between_two_blocks_is_seen():
    marker = GapMarker(SFREQ)
    marker.mark(np.zeros((1, 5)), clock(5))
    assert marker.mark(np.zeros((1, 0)), np.zeros(0)) == []
    (chunk,) = marker.mark(np.zeros((1, 5)), clock(5, start=0.25))
    assert chunk.n_lost == 20


def test_data_and_times_must_agree():
    with pytest.raises(ValueError, match="3 samples, times has 2"):
        GapMarker(SFREQ).mark(np.zeros((1, 3)), np.zeros(2))


@given(
    steps=st.lists(st.sampled_from([0.01, 0.01, 0.01, 0.05, 0.2, 3.0, -0.05, -5.0, 900.0, np.nan]), max_size=30),
    data=st.data(),
)
def test_marks_do_not_depend_on_the_cuts(steps, data):
    times = np.cumsum([1000.0, *steps]) if not np.isnan(steps).any() else np.array([1000.0, *steps])
    cuts = data.draw(st.lists(st.integers(0, len(times)), max_size=10))
    assert mark(times, cuts) == mark(times) == mark(times, range(1, len(times)))


@pytest.mark.parametrize("sfreq", [160.0, 250.0, 500.0, 1000.0])
def test_a_gap_that_was_marked_is_marked_again_at_the_nominal_rate(sfreq):
    """What is played stands on the nominal grid: there a gap may be no longer than the tolerance to the bit."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        gap_s, t0 = rng.uniform(0.09, 0.11), rng.uniform(0, 1e4)
        recorded = GapMarker(sfreq).mark(np.zeros((1, 2)), np.array([0.0, 1 / sfreq + gap_s]))
        n_lost = recorded[-1].n_lost
        played = t0 + np.array([0, 1 + n_lost]) / sfreq
        assert GapMarker(sfreq).mark(np.zeros((1, 2)), played)[-1].n_lost == n_lost


def feed(marker, data, times, cuts=()):
    """Return what came out: values, and (n_lost, restart) of each marked sample by its place among them."""
    marks, joined, index = {}, [data[:, :0]], 0
    for start, stop in pairwise([0, *sorted(cuts), len(times)]):
        for chunk in marker.mark(data[:, start:stop], times[start:stop]):
            if chunk.n_lost or chunk.restart:
                marks[index] = (chunk.n_lost, chunk.restart)
            joined.append(chunk.data)
            index += chunk.n_times
    return np.hstack(joined), marks


def noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal((2, n))


@pytest.mark.parametrize("n_lost", [1, 2, 5, 10])
def test_of_regular_time_stamps_each_missing_sample_is_counted(n_lost):
    kept = np.delete(clock(1000, start=1e6), slice(300, 300 + n_lost))
    kept = np.delete(kept, 310)  # again ten samples later: a gap on the grid leaves the stamps regular
    assert mark(kept) == {300: (n_lost, False), 310: (1, False)}


def test_before_the_stamps_were_regular_for_a_second_a_short_step_is_jitter():
    assert mark(np.delete(clock(1000), 50)) == {}
    assert mark(np.delete(clock(1000), [150, 170])) == {150: (1, False), 169: (1, False)}


def test_a_step_off_the_grid_is_jitter_and_ends_regularity():
    late = clock(1000)
    late[300:] += 0.0123
    assert mark(late) == {}
    assert mark(np.delete(late, 350)) == {}
    assert mark(np.delete(late, 450)) == {450: (1, False)}


@pytest.mark.parametrize("again", [1, 7, 200, 1000])
def test_samples_that_come_again_are_left_out_and_counted(again):
    data, times = noise(2000), clock(2000, start=1e5)
    data[1, 1200:1300] = np.nan
    order = np.concatenate([np.arange(1500), np.arange(1500 - again, 2000)])
    marker = GapMarker(SFREQ)
    found, marks = feed(marker, data[:, order], times[order])
    np.testing.assert_array_equal(found, data)
    assert marks == {}
    assert marker.n_repeated == again


def test_each_sample_twice():
    data, times = noise(400), clock(400)
    order = np.concatenate([np.arange(200), np.repeat(np.arange(200, 400), 2)])
    marker = GapMarker(SFREQ)
    found, marks = feed(marker, data[:, order], times[order], cuts=[150, 301, 302, 377])
    np.testing.assert_array_equal(found, data)
    assert (marks, marker.n_repeated) == ({}, 200)
    assert type(marker.n_repeated) is int  # it is written as JSON


def test_a_clock_that_was_set_back_repeats_nothing():
    data, times = noise(600), np.concatenate([clock(300, 50.0), clock(300, 51.0)])
    marker = GapMarker(SFREQ)
    found, marks = feed(marker, data, times)
    np.testing.assert_array_equal(found, data)
    assert (marks, marker.n_repeated) == ({300: (0, True)}, 0)


def test_equal_values_of_irregular_time_stamps_are_kept():
    times, data = np.repeat(clock(400)[7::8], 8), np.zeros((2, 400))
    found, _ = feed(GapMarker(SFREQ), data, times)
    assert found.shape == (2, 400)


def test_what_came_before_a_gap_is_still_known_after_it():
    data, times = noise(1000), clock(1000)
    order = np.concatenate([np.arange(300), np.arange(400, 500), np.arange(250, 300), np.arange(500, 1000)])
    marker = GapMarker(SFREQ)
    found, marks = feed(marker, data[:, order], times[order])
    assert found.shape == (2, 900)
    assert (marks, marker.n_repeated) == ({300: (100, False)}, 50)


@pytest.mark.parametrize("seed", range(15))
def test_what_is_left_out_does_not_depend_on_the_cuts(seed):
    rng = np.random.default_rng(seed)
    data, times, order = noise(3000), clock(3000), []
    at = 0
    for _ in range(12):
        at += int(rng.integers(1, 250))
        start = max(0, at - int(rng.integers(0, 300))) if rng.random() < 0.5 else at + int(rng.integers(0, 30))
        stop = start + int(rng.integers(1, 400))
        order += range(start, min(stop, 3000))
        at = stop
    data, times = data[:, order], times[order] + (rng.random(len(order)) < 0.002) * 0.03
    cuts = rng.integers(0, len(order), rng.integers(0, 60)).tolist()
    whole, pieces, singly = GapMarker(SFREQ), GapMarker(SFREQ), GapMarker(SFREQ)
    expected, marks = feed(whole, data, times)
    for marker, how in ((pieces, cuts), (singly, range(1, len(order)))):
        found, its_marks = feed(marker, data, times, how)
        np.testing.assert_array_equal(found, expected)
        assert (its_marks, marker.n_repeated) == (marks, whole.n_repeated)


def test_a_loss_that_is_known_is_counted_however_short():
    marker = GapMarker(SFREQ)
    marker.mark(np.zeros((1, 5)), clock(5))
    marker.expect_loss()
    (chunk,) = marker.mark(np.zeros((1, 5)), clock(5, start=0.08))
    assert chunk.n_lost == 3
    marker.expect_loss()
    (chunk,) = marker.mark(np.zeros((1, 5)), clock(5, start=0.13))
    assert (chunk.n_lost, chunk.restart) == (0, False)


def test_time_stamps_that_stand_still_do_not_fill_the_memory():
    marker = GapMarker(SFREQ)
    for _ in range(300):
        marker.mark(np.zeros((1, 50)), np.full(50, 7.0))
    assert sum(len(times) for _, times in marker._recent) < 2100
