from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import naive
from streamdetect.chunk import Chunk
from streamdetect.detector import FeaturePipeline
from streamdetect.errors import InputError
from streamdetect.settings import AmplitudeSettings, FeatureSettings, FilterSettings, HealthSettings, PowerSettings
from streamdetect.stages import preprocess
from streamdetect.stages.features import POWER_FLOOR_UV2
from streamdetect.stages.metadata import name_features
from streamdetect.stages.preprocess import FilterBank, design_filter, settling_samples

NO_FLAT = HealthSettings(max_gap_samples=100, flat_samples=0)


def power_settings(filters, window_samples, hop_samples, *, log):
    return FeatureSettings("power", (PowerSettings(filters, window_samples, log),), hop_samples)


def features_of(data, sfreq, settings_):
    pipeline = FeaturePipeline(len(data), sfreq, NO_FLAT, settings_)
    return pipeline, pipeline.process(Chunk(data, np.arange(data.shape[1]) / sfreq))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_times=st.integers(1, 220),
    window=st.integers(1, 80),
    hop=st.integers(1, 50),
    offset=st.sampled_from([0.0, 1e-3, -0.02]),
)
def test_streaming_power_is_the_naive_power(seed, n_times, window, hop, offset):
    data = offset + 1e-5 * np.random.default_rng(seed).standard_normal((2, n_times))
    settings_ = power_settings((FilterSettings(None, 30.0),), window, hop, log=False)
    _, block = features_of(data, 160.0, settings_)
    expected = naive.average_power(data, 160.0, h_freq=30.0, order=4, window_samples=window, hop_samples=hop).reshape(
        -1, 2
    )
    assert block.values.shape == expected.shape
    np.testing.assert_allclose(block.values, expected, rtol=1e-6)  # one rounding to float32 is 6e-8


def test_a_bank_orders_features_filter_by_filter():
    data = 1e-5 * np.random.default_rng(0).standard_normal((2, 300))
    bands = (FilterSettings(None, 20.0), FilterSettings(8.0, 12.0, 2))
    _, block = features_of(data, 100.0, power_settings(bands, 100, 50, log=True))
    low = naive.average_power(data, 100.0, h_freq=20.0, order=4, window_samples=100, hop_samples=50)
    mu = naive.average_power(data, 100.0, l_freq=8.0, h_freq=12.0, order=2, window_samples=100, hop_samples=50)
    np.testing.assert_allclose(block.values, np.log10(np.hstack([low, mu])), rtol=1e-5, atol=1e-6)


def test_decisions_are_stamped_at_the_last_sample_of_their_window():
    data = 1e-5 * np.random.default_rng(0).standard_normal((1, 25))
    _, block = features_of(data, 100.0, power_settings((FilterSettings(None, 20.0),), 10, 4, log=False))
    np.testing.assert_array_equal(block.samples, [3, 7, 11, 15, 19, 23])
    np.testing.assert_array_equal(block.times, block.samples / 100.0)


def test_valid_decisions_are_those_of_the_naive_rule():
    rng = np.random.default_rng(3)
    data = 1e-5 * rng.standard_normal((1, 3000))
    bad = rng.random(3000) < 0.004
    data[:, bad] = np.nan
    pipeline, block = features_of(data, 100.0, power_settings((FilterSettings(None, 20.0),), 30, 3, log=False))
    expected = naive.valid_decisions(bad, block.samples.tolist(), pipeline.warmup_samples)
    np.testing.assert_array_equal(block.quality == 0, expected)
    assert 0 < sum(expected) < len(expected)


def test_rounding_does_not_drift_over_a_long_recording():
    rng = np.random.default_rng(0)
    data = 1e-5 * rng.standard_normal((1, 400_000))
    data[:, :1000] = 0.05  # 2.5e9 µV² once: a running sum would carry its rounding for ever
    settings_ = power_settings((FilterSettings(None, 30.0),), 160, 160, log=False)
    _, block = features_of(data, 160.0, settings_)
    tail = data[:, -2000:]
    sos = design_filter(FilterSettings(None, 30.0), 160.0)
    last = signal.sosfilt(sos, tail)[0, -160:] * 1e6
    assert block.values[-1, 0] == pytest.approx(np.mean(last**2), rel=1e-6)


def test_silence_has_the_floor_power_and_no_infinity():
    _, block = features_of(np.zeros((1, 50)), 100.0, power_settings((FilterSettings(None, 20.0),), 10, 5, log=True))
    np.testing.assert_array_equal(block.values, np.float32(np.log10(POWER_FLOOR_UV2)))


def test_an_electrode_offset_makes_no_transient():
    bank = FilterBank((FilterSettings(1.0, 20.0),), 1, 100.0)
    health = FeaturePipeline(1, 100.0, NO_FLAT, power_settings((FilterSettings(1.0, 20.0),), 10, 5, log=False))
    block = health.process(Chunk(np.full((1, 200), 0.02), np.arange(200) / 100))
    assert block.values.max() < 1e-6
    assert bank.settling_samples > 50


@pytest.mark.parametrize("private", [True, False])
def test_a_bank_filters_as_scipy_s_public_function_does(private, monkeypatch):
    """Bit for bit, with SciPy's private kernel and without it."""
    if not private:
        monkeypatch.setitem(sys.modules, "scipy.signal._sosfilt", None)
    module = importlib.reload(preprocess)
    try:
        settings_ = FilterSettings(1.0, 20.0)
        data = np.random.default_rng(0).standard_normal((3, 500)) + 5.0
        bank = module.FilterBank((settings_,), 3, 100.0)
        found = np.concatenate(
            [bank.process(Chunk(data[:, a:b], np.arange(a, b) / 100)).data for a, b in ((0, 1), (1, 20), (20, 500))],
            axis=1,
        )
        sos = design_filter(settings_, 100.0)
        zi = signal.sosfilt_zi(sos)[:, None, :] * data[None, :, :1]
        expected, _ = signal.sosfilt(sos, data, axis=-1, zi=zi)
        assert found.tobytes() == expected.tobytes()
    finally:
        monkeypatch.undo()
        importlib.reload(preprocess)


def test_settling_time_is_when_the_impulse_response_has_died():
    sos = design_filter(FilterSettings(None, 30.0), 500.0)
    n = settling_samples(sos)
    impulse = np.zeros(2000)
    impulse[0] = 1
    response = np.abs(signal.sosfilt(sos, impulse))
    assert response[n:].max() < 2e-3 * response.max()
    assert response[n // 3 :].max() > 2e-3 * response.max()


def test_a_filter_beyond_half_the_sampling_rate_is_refused():
    with pytest.raises(InputError, match="below half the sampling rate, which is 25 Hz"):
        FilterBank((FilterSettings(None, 30.0),), 1, 50.0)


def test_chunk_of_other_channels_is_refused():
    pipeline = FeaturePipeline(2, 100.0, NO_FLAT, power_settings((FilterSettings(None, 20.0),), 10, 5, log=True))
    with pytest.raises(ValueError, match="chunk has 3 channels, expected 2"):
        pipeline.process(Chunk(np.zeros((3, 5)), np.zeros(5)))


def test_amplitudes_are_the_naive_ones():
    rng = np.random.default_rng(0)
    data = 0.01 + 1e-5 * rng.standard_normal((5, 200))
    filters = (FilterSettings(None, 10.0, 2), FilterSettings(2.0, 20.0, 2))
    neighbours = ((1, 2), (0, 4), (1, 3), (0,), (3, 2, 1))
    values = AmplitudeSettings(filters, (0, 4, 30), reference="average")
    cosines = AmplitudeSettings(filters, (0, 4, 30), n_cosines=2, reference="laplacian")
    _, block = features_of(data, 100.0, FeatureSettings("both", (values, cosines), 25, neighbours))
    average = data - data.mean(axis=0)
    around = np.array([data[list(each)].mean(axis=0) for each in neighbours])
    expected = np.hstack(
        [
            naive.amplitudes(average, 100.0, filters, (0, 4, 30), hop_samples=25),
            naive.amplitudes(data - around, 100.0, filters, (0, 4, 30), hop_samples=25, n_cosines=2),
        ]
    )
    assert block.values.shape == expected.shape == (8, 2 * 3 * 5 + 2 * 2 * 5)
    np.testing.assert_allclose(block.values, expected, rtol=1e-5, atol=1e-4)


def test_features_are_named_in_the_order_in_which_they_are_computed():
    filters = (FilterSettings(None, 5.0),)
    settings_ = FeatureSettings(
        "all",
        (AmplitudeSettings(filters, (0, 7)), AmplitudeSettings(filters, (0, 7), 2), PowerSettings(filters, 9, True)),
        1,
    )
    assert name_features(settings_, ["C3"]) == (
        "0-5 Hz amplitude now C3",
        "0-5 Hz amplitude 7 samples before C3",
        "0-5 Hz amplitude cosine 0 C3",
        "0-5 Hz amplitude cosine 1 C3",
        "0-5 Hz C3",
    )
