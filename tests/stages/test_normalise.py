from __future__ import annotations

import numpy as np
import pytest

import naive
from streamdetect.settings import NormaliserSettings
from streamdetect.stages.features import FeatureBlock
from streamdetect.stages.normalise import Normaliser

GAIN = 1 - np.exp(-0.1 / 3.0)


def block_of(values, quality=None):
    values = np.asarray(values, dtype=np.float32)
    n = len(values)
    return FeatureBlock(np.arange(n), np.arange(n) / 10, np.zeros(n, np.uint8) if quality is None else quality, values)


def test_it_moves_mean_and_variance_as_the_naive_one():
    values = np.random.default_rng(0).normal(5, 2, (300, 2))
    found = Normaliser(NormaliserSettings(3.0, (0.0, 4.0), (1.0, 9.0)), hop_s=0.1).process(block_of(values)).values
    for column, (mean, variance) in enumerate([(0.0, 1.0), (4.0, 9.0)]):
        expected = naive.normalised(values[:, column].astype(np.float32).tolist(), GAIN, mean, variance)
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-5, atol=1e-5)


def test_a_drift_of_the_whole_level_is_gone_after_some_time_constants():
    values = np.random.default_rng(0).normal(100, 5, (600, 1))
    found = Normaliser(NormaliserSettings(3.0, (0.0,), (1.0,)), hop_s=0.1).process(block_of(values)).values[400:]
    assert abs(found.mean()) < 0.2
    assert found.std() == pytest.approx(1, abs=0.15)


def test_a_channel_that_was_railed_for_a_second_is_forgotten_within_a_few_time_constants():
    values = np.random.default_rng(0).normal(0, 1, (9000, 2))
    spoilt = values.copy()
    spoilt[500:550, 0] = 1e5
    settings = NormaliserSettings(30.0, (0.0, 0.0), (1.0, 1.0))
    found = Normaliser(settings, 0.02).process(block_of(spoilt)).values
    without = Normaliser(settings, 0.02).process(block_of(values)).values
    np.testing.assert_array_equal(found[:, 1], without[:, 1])
    assert np.abs(found[500:550]).max() < 10
    assert found[8000:, 0].std() == pytest.approx(without[8000:, 0].std(), rel=0.2)  # 150 s later


@pytest.mark.parametrize("cut", [1, 7, 256, 300])
def test_outliers_do_not_depend_on_where_the_signal_is_cut(cut):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (900, 3)) * np.where(rng.random((900, 3)) < 0.02, 500, 1)
    settings = NormaliserSettings(3.0, (0.0,) * 3, (1.0,) * 3)
    whole, parts = Normaliser(settings, 0.1), Normaliser(settings, 0.1)
    expected = whole.process(block_of(values)).values
    found = [parts.process(block_of(values[start : start + cut])).values for start in range(0, 900, cut)]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    for column in range(3):
        naive_values = naive.normalised(values[:, column].astype(np.float32).tolist(), GAIN, 0.0, 1.0)
        np.testing.assert_allclose(expected[:, column], naive_values, rtol=1e-5, atol=1e-5)


def test_invalid_decisions_move_nothing():
    values = np.random.default_rng(0).normal(0, 1, (50, 1))
    quality = np.zeros(50, np.uint8)
    quality[10:30] = 3
    spoilt = values.copy()
    spoilt[10:30] = 1e6
    settings = NormaliserSettings(3.0, (0.0,), (1.0,))
    found = Normaliser(settings, 0.1).process(block_of(spoilt, quality)).values
    without = Normaliser(settings, 0.1).process(block_of(np.delete(values, np.s_[10:30], axis=0))).values
    assert (found[10:30] == 0).all()
    np.testing.assert_array_equal(np.delete(found, np.s_[10:30], axis=0), without)


def test_a_feature_that_stood_still_in_training_stays_finite():
    found = Normaliser(NormaliserSettings(3.0, (1.0,), (0.0,)), 0.1).process(block_of(np.ones((5, 1)))).values
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [((0.0,), "time_constant_s"), ((1.0, (0.0,), ()), "one value a feature"), ((1.0, (0.0,), (-1.0,)), "variance")],
)
def test_nonsense_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NormaliserSettings(*fields)
