import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from segment.serving import resample as resample_module
from segment.serving.resample import Resampled, apply_taps, grid_span, resampled_shape, taps_back, taps_forward


def _random(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def _whole(values, ratios):
    view = Resampled(values, ratios)
    return view[tuple(slice(0, n) for n in view.shape)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_a_finer_grid_is_interpolated_linearly_from_centre_to_centre(dtype):
    values = _random((5, 12, 9), dtype)
    found = _whole(values, (8.0, 1.0, 1.7))
    assert (found.shape, found.dtype) == ((40, 12, 15), dtype if np.dtype(dtype).kind == "u" else np.float32)
    at = np.meshgrid((np.arange(40) + 0.5) / 8 - 0.5, np.arange(12), (np.arange(15) + 0.5) / 1.7 - 0.5, indexing="ij")
    expected = map_coordinates(values.astype(np.float64), at, order=1, mode="nearest")
    rounded = 0.501 if np.dtype(dtype).kind == "u" else 0.001  # of 255, in float32
    np.testing.assert_allclose(found, expected, atol=rounded)


def test_a_coarser_grid_takes_the_mean_of_what_a_voxel_covers():
    values = _random((8, 12, 9), np.float32)
    found = _whole(values, (0.25, 0.5, 1.0))
    np.testing.assert_allclose(found, values.reshape(2, 4, 6, 2, 9).mean(axis=(1, 3)), rtol=1e-6)


def test_a_fractional_coarser_grid_weighs_the_voxels_at_the_edges():
    values = np.array([[[0, 30, 60, 90]]], np.float32)
    found = _whole(values, (1.0, 1.0, 2 / 3))  # a voxel takes one and a half
    np.testing.assert_allclose(found[0, 0], [(0 + 15) / 1.5, (15 + 60) / 1.5, 90], rtol=1e-6)


def test_fine_stripes_do_not_alias():
    stripes = np.broadcast_to((np.arange(400) % 2 * 200).astype(np.uint8), (1, 1, 400))
    assert np.ptp(_whole(stripes, (1.0, 1.0, 0.5))) == 0
    assert np.ptp(_whole(stripes, (1.0, 1.0, 0.14))) < 40


@pytest.mark.parametrize("ratios", [(8.0, 1.0, 1.3), (0.3, 0.77, 1.0), (2.5, 0.125, 0.9), (1.0, 1.021, 1.0)])
def test_a_box_is_a_part_of_the_whole_to_the_last_bit(ratios, monkeypatch):
    monkeypatch.setattr(resample_module, "MAX_AT_ONCE", 3000)  # in more than one run of slices
    values = _random((11, 40, 37), np.float32)
    whole, view = _whole(values, ratios), Resampled(values, ratios)
    rng = np.random.default_rng(1)
    for _ in range(20):
        bounds = [sorted(rng.choice(n + 1, 2, replace=False)) for n in view.shape]
        box = tuple(slice(int(start), int(stop)) for start, stop in bounds)
        np.testing.assert_array_equal(view[box], whole[box])


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize("ratio", [0.125, 0.3, 0.9, 1.0, 1.021, 3.7, 8.0])
def test_a_ramp_comes_back(n, ratio):
    ramp = np.arange(n, dtype=np.float32)
    m = resampled_shape((n, 1, 1), (ratio, 1.0, 1.0))[0]
    there = taps_forward(0, m, ratio, n)
    assert 0 <= there.extent[0] < there.extent[1] <= n
    back = taps_back(0, n, ratio, m)
    assert 0 <= back.extent[0] < back.extent[1] <= m
    again = apply_taps(apply_taps(ramp, there, 0, 0), back, 0, 0)
    edge = int(np.ceil(1 / ratio)) + 1  # there the end voxel repeats
    # the mean of the steps under a voxel that does not end on one is off by a fraction of a step
    tolerance = 1e-4 if ratio >= 1 or 1 / ratio == round(1 / ratio) else 0.15
    np.testing.assert_allclose(again[edge:-edge], ramp[edge:-edge], atol=tolerance)
    assert (again >= 0).all()
    assert (again <= n - 1).all()


@pytest.mark.parametrize("ratio", [0.125, 0.3, 0.9, 1.0, 1.021, 3.7, 8.0])
def test_the_span_of_the_grid_is_what_interpolation_takes_and_no_more(ratio):
    n = 50
    m = resampled_shape((n, 1, 1), (ratio, 1.0, 1.0))[0]
    for start in range(0, n, 3):
        stop = min(start + 3, n)
        at = np.clip((np.arange(start, stop) + 0.5) * ratio - 0.5, 0, m - 1)
        first, last = grid_span(start, stop, ratio, m)
        assert first == np.floor(at[0])
        assert last - 1 == (stop - 1 if ratio == 1 else min(np.floor(at[-1]) + 1, m - 1))
