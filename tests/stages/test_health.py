from __future__ import annotations

import numpy as np
import pytest

from streamdetect.chunk import Chunk, Quality
from streamdetect.settings import HealthSettings
from streamdetect.stages.health import Health

SETTINGS = HealthSettings(max_gap_samples=5, flat_samples=8)


def noise(n_times, start=0, seed=0):
    data = np.random.default_rng(seed).standard_normal((2, n_times))
    return Chunk(data, (start + np.arange(n_times)) / 100)


@pytest.fixture
def health():
    return Health(2, 100.0, SETTINGS)


def test_a_short_gap_is_filled_with_zeros_that_are_marked_lost(health):
    first, second = noise(10), noise(10, start=13)
    health.process(first)
    (out,) = health.process(Chunk(second.data, second.times, n_lost=3))
    assert out.first_sample == 10
    assert not out.restart
    np.testing.assert_array_equal(out.quality, [Quality.LOST] * 3 + [Quality.GOOD] * 10)
    np.testing.assert_array_equal(out.data[:, :3], 0.0)
    np.testing.assert_allclose(out.times, np.arange(10, 23) / 100)


def test_a_long_gap_starts_anew_and_keeps_the_sample_count(health):
    health.process(noise(10))
    (out,) = health.process(Chunk(noise(10).data, noise(10, start=16).times, n_lost=6))
    assert out.restart
    assert out.first_sample == 16
    assert not out.quality.any()


def test_a_gap_told_of_by_empty_chunks_adds_up(health):
    health.process(noise(10))
    empty = Chunk(np.empty((2, 0)), np.empty(0), n_lost=4)
    assert health.process(empty) == []
    (out,) = health.process(Chunk(noise(2).data, noise(2).times, n_lost=2))
    assert out.restart
    assert out.first_sample == 16


def test_non_finite_samples_become_zero_only_where_they_are(health):
    chunk = noise(6)
    data = chunk.data.copy()
    data[0, 2] = np.nan
    data[1, 3] = np.inf
    (out,) = health.process(Chunk(data, chunk.times))
    np.testing.assert_array_equal(np.flatnonzero(out.quality), [2, 3])
    assert out.data[0, 2] == 0.0
    assert out.data[1, 2] == data[1, 2]
    assert np.isnan(data[0, 2])


@pytest.mark.parametrize(("length", "restarts"), [(5, False), (6, True)])
def test_a_run_of_nan_resets_only_past_max_gap(health, length, restarts):
    chunk = noise(30)
    data = chunk.data.copy()
    data[:, 10 : 10 + length] = np.nan
    pieces = health.process(Chunk(data, chunk.times))
    assert [piece.restart for piece in pieces] == ([False, True] if restarts else [False])
    if restarts:
        assert pieces[1].first_sample == 10 + length


def test_nan_and_lost_samples_count_together_towards_the_limit(health):
    chunk = noise(10)
    data = chunk.data.copy()
    data[:, 6:] = np.nan  # 4 bad, then 2 lost: 6 > 5
    health.process(Chunk(data, chunk.times))
    (out,) = health.process(Chunk(noise(3).data, noise(3).times, n_lost=2))
    assert out.restart


def test_a_channel_is_flat_from_the_sample_that_completes_the_run(health):
    chunk = noise(40)
    data = chunk.data.copy()
    data[1, 10:25] = data[1, 10]
    (out,) = health.process(Chunk(data, chunk.times))
    np.testing.assert_array_equal(np.flatnonzero(out.quality == Quality.FLAT), np.arange(17, 25))


def test_flat_rule_can_be_switched_off():
    health = Health(2, 100.0, HealthSettings(max_gap_samples=5, flat_samples=0))
    (out,) = health.process(Chunk(np.zeros((2, 100)), np.arange(100) / 100))
    assert not out.quality.any()


def test_a_source_that_restarts_is_passed_on(health):
    health.process(noise(10))
    (out,) = health.process(Chunk(noise(5).data, noise(5).times, restart=True))
    assert out.restart
    assert out.first_sample == 10
