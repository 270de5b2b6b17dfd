from __future__ import annotations

import numpy as np
import pytest

from streamdetect.chunk import Chunk
from streamdetect.sources.gaps import GapMarker
from streamdetect.stages.timing import JITTER_LIMIT_S, RATE_TOLERANCE, StreamTiming, Timing

SFREQ = 250.0
BLOCK = 10


def watch(times, *, arrivals=None, block=BLOCK):
    """Send time stamps through the gap marker as a source does; they arrive when they are stamped, unless told."""
    marker, timing = GapMarker(SFREQ), StreamTiming(SFREQ)
    arrivals = times if arrivals is None else arrivals
    for start in range(0, len(times), block):
        part = times[start : start + block]
        timing.note(marker.mark(np.zeros((1, len(part))), part), now=arrivals[start : start + block][-1])
    return timing


def stamps(seconds, sfreq=SFREQ, start=100.0):
    return start + np.arange(round(seconds * sfreq)) / sfreq


def test_a_good_stream_has_no_problem():
    timing = watch(stamps(30.0))
    measured = timing.measure()
    assert measured.effective_sfreq == pytest.approx(SFREQ, rel=1e-9)
    assert measured.jitter_s == pytest.approx(0.0, abs=1e-9)
    assert measured.problems == ()
    assert timing.n_clock_jumps == 0


@pytest.mark.parametrize("seconds", [0.0, 1.9])
def test_too_little_signal_is_not_measured(seconds):
    assert watch(stamps(seconds)).measure() == Timing()


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_rate_is_a_problem_beyond_its_tolerance_once_it_was_watched_for_long(sign):
    def measure(excess, seconds):
        return watch(stamps(seconds, SFREQ * (1 + sign * excess))).measure()

    beyond = measure(1.2 * RATE_TOLERANCE, 12.0)
    assert beyond.effective_sfreq == pytest.approx(SFREQ * (1 + sign * 1.2 * RATE_TOLERANCE), rel=1e-6)
    (problem,) = beyond.problems
    assert ("above" if sign > 0 else "below") in problem
    assert measure(0.8 * RATE_TOLERANCE, 12.0).problems == ()
    assert measure(1.2 * RATE_TOLERANCE, 9.0).problems == ()


def test_the_jitter_is_the_distance_from_a_straight_line():
    rng = np.random.default_rng(0)

    def measure(jitter_s):
        return watch(stamps(12.0) + rng.uniform(-1, 1, 3000) * np.sqrt(3) * jitter_s).measure()

    assert measure(0.005).jitter_s == pytest.approx(0.005, rel=0.05)
    assert measure(0.8 * JITTER_LIMIT_S).problems == ()
    assert "jitter by 2" in measure(1.2 * JITTER_LIMIT_S).problems[0]


def test_blocks_that_are_stamped_on_arrival_are_no_problem():
    times = stamps(12.0)
    measured = watch(times[BLOCK - 1 :: BLOCK].repeat(BLOCK)).measure()  # 40 ms
    assert measured.jitter_s == pytest.approx(0.04 / np.sqrt(12), rel=0.05)
    assert measured.problems == ()


def test_lost_samples_with_a_pause_are_no_clock_jump_and_do_not_change_the_rate():
    times = np.delete(stamps(30.0), slice(2000, 3500))
    timing = watch(times)
    assert timing.n_clock_jumps == 0
    assert timing.measure().effective_sfreq == pytest.approx(SFREQ, rel=1e-6)


@pytest.mark.parametrize(("step_s", "n_jumps"), [(5.0, 1), (0.3, 1), (-0.3, 1), (-5.0, 1), (700.0, 1), (0.05, 0)])
def test_time_stamps_that_jump_without_a_pause_are_a_clock_jump(step_s, n_jumps):
    arrivals = stamps(30.0)
    timing = watch(arrivals + np.where(np.arange(len(arrivals)) >= 4000, step_s, 0.0), arrivals=arrivals)
    assert timing.n_clock_jumps == n_jumps


def test_a_reader_that_was_away_does_not_make_a_loss_a_clock_jump():
    """What waited comes in one read: more time has passed than the gap is long."""
    times = np.delete(stamps(30.0), slice(2100, 2600))
    arrivals = times.copy()
    arrivals[2000:3000] = times[2999]
    marker, timing = GapMarker(SFREQ), StreamTiming(SFREQ)
    for part in np.split(np.arange(len(times)), [*range(10, 2001, 10), *range(3000, len(times), 10)]):
        timing.note(marker.mark(np.zeros((1, len(part))), times[part]), now=arrivals[part[-1]])
    assert timing.n_clock_jumps == 0


def test_a_recording_that_is_played_faster_is_not_compared_with_the_clock():
    times = np.delete(stamps(60.0), slice(2000, 3500))
    timing = watch(times, arrivals=100.0 + (times - 100.0) / 20.0)
    assert timing.n_clock_jumps == 0
    assert timing.measure().effective_sfreq == pytest.approx(SFREQ, rel=1e-6)
    back = watch(np.concatenate((times, times)), arrivals=100.0 + np.arange(2 * len(times)) / (20.0 * SFREQ))
    assert back.n_clock_jumps == 1


@pytest.mark.parametrize("block", [1, 7, 400])
def test_how_reads_are_cut_does_not_matter(block):
    times = np.delete(stamps(30.0, SFREQ * 0.98), slice(2000, 2500))
    one, other = watch(times), watch(times, block=block)
    assert other.measure().effective_sfreq == pytest.approx(one.measure().effective_sfreq, rel=1e-5)
    assert other.measure().problems == one.measure().problems
    assert other.n_clock_jumps == one.n_clock_jumps


@pytest.mark.parametrize("times", [np.full(3000, np.nan), np.full(3000, 7.0), -stamps(12.0)])
def test_time_stamps_that_make_no_sense_are_not_measured(times):
    timing = StreamTiming(SFREQ)
    for start in range(0, len(times), 10):
        timing.note([Chunk(np.zeros((1, 10)), times[start : start + 10])], now=100.0 + start / SFREQ)
    assert timing.measure() == Timing()


def test_a_read_without_samples_changes_nothing():
    timing = watch(stamps(12.0))
    before = timing.measure()
    timing.note([], now=1000.0)
    timing.note([Chunk(np.zeros((1, 0)), np.empty(0))], now=1000.0)
    assert timing.measure() == before


def test_time_stamps_are_kept_for_the_window_only():
    timing = watch(stamps(100.0))
    assert timing._n_kept == pytest.approx(10 * SFREQ, abs=BLOCK)


def test_the_time_stamps_of_a_buffer_that_is_used_again_are_kept():
    timing, buffer = StreamTiming(SFREQ), np.empty(BLOCK)
    for block in np.split(stamps(12.0), 300):
        buffer[:] = block
        timing.note([Chunk(np.zeros((1, BLOCK)), buffer)], now=block[-1])
    assert timing.measure().effective_sfreq == pytest.approx(SFREQ)
