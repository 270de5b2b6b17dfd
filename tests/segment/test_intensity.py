import numpy as np
import pytest

from segment.errors import VolumeError
from segment.intensity import INVERTED_SKEWNESS, detail_skewness, intensity_range


class _Spy:
    """A volume that counts what is read."""

    def __init__(self, values):
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.read = []

    def __getitem__(self, key):
        part = self._values[key]
        self.read.append(part.shape)
        return part


def test_range_is_that_of_the_percentiles_and_does_not_depend_on_the_type():
    values = np.random.default_rng(0).permutation(np.arange(256)).reshape(4, 8, 8).astype(np.uint8)
    assert intensity_range(values) == tuple(np.percentile(values, (1, 99)))
    assert intensity_range(values, (0, 100)) == (0, 255)
    assert intensity_range(values.astype(np.uint16) * 257, (0, 100)) == (0, 65535)


def test_a_large_volume_is_sampled_evenly_a_slice_at_a_time():
    spy = _Spy(np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None], (100, 600, 600)))
    low, high = intensity_range(spy, (0, 100))
    assert (low, high) == (0, 99)
    assert spy.read == [(1, 600, 600)] * 32


def test_a_single_odd_voxel_does_not_count():
    values = np.random.default_rng(0).integers(90, 110, (5, 50, 50)).astype(np.uint16)
    values[2, 3, 4] = 65535
    assert intensity_range(values)[1] < 110


@pytest.mark.parametrize("odd", [False, True], ids=["constant", "next to constant"])
def test_a_constant_volume_is_refused(odd):
    values = np.full((3, 40, 40), 7, np.uint8)
    values[1, 2, 3] = 9 if odd else 7
    with pytest.raises(VolumeError, match="volume: next to nothing but the intensity 7"):
        intensity_range(values)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_volume_with_nan_is_refused(odd):
    values = np.random.default_rng(0).random((3, 40, 40), np.float32)
    values[1, 2, 3] = odd
    with pytest.raises(VolumeError, match="NaN or infinity"):
        intensity_range(values)


def test_an_empty_volume_is_refused():
    with pytest.raises(VolumeError, match="holds no voxels"):
        intensity_range(np.empty((0, 5, 5), np.uint8))


def _membranes(noise, seed=0, shape=(3, 200, 200)):
    """Draw thin dark lines on a bright ground, and noise."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, 170.0)
    for z in range(shape[0]):
        for position in rng.integers(0, shape[1] - 3, 12):
            image[z, position : position + 3] = 90
            image[z, :, position : position + 3] = 90
    return (image + rng.normal(0, noise, shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 15, 40])
def test_bright_lines_on_a_dark_ground_look_inverted(noise):
    image = _membranes(noise)
    assert detail_skewness(image, intensity_range(image)) < -INVERTED_SKEWNESS
    assert detail_skewness(255 - image, intensity_range(255 - image)) > INVERTED_SKEWNESS


def test_dark_organelles_do_not_hide_which_way_the_membranes_go():
    image = _membranes(15)
    image[:, :150] = (image[:, :150] * 0.6).astype(np.uint8)  # more than half of the volume: the histogram leans over
    assert np.median(image) < image.mean()
    assert detail_skewness(image, intensity_range(image)) < -INVERTED_SKEWNESS
    assert detail_skewness(255 - image, intensity_range(255 - image)) > INVERTED_SKEWNESS


def test_noise_and_flat_images_lean_neither_way():
    noise = np.random.default_rng(0).normal(128, 30, (8, 300, 300)).clip(0, 255).astype(np.uint8)
    assert abs(detail_skewness(noise, (60, 200))) < INVERTED_SKEWNESS / 2
    assert detail_skewness(np.full((2, 30, 30), 5, np.uint8), (4, 6)) == 0


def test_the_epfl_stack_has_the_contrast_that_is_expected(data_dir):
    import tifffile

    stack = tifffile.imread(data_dir / "em_epfl" / "training.tif", key=range(0, 165, 20))
    for image in (stack, stack[:1], stack[-1:]):
        assert detail_skewness(image, intensity_range(image)) < -INVERTED_SKEWNESS
        assert detail_skewness(255 - image, intensity_range(255 - image)) > INVERTED_SKEWNESS
