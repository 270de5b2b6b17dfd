from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segment import synthetic
from segment.synthetic import simulate_volume
from streamdetect.errors import InputError

SHAPE = (48, 160, 160)
ANISOTROPIC_NM = (25.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def volume():
    return simulate_volume(SHAPE, seed=1)


@pytest.fixture(scope="module")
def anisotropic():
    return simulate_volume((24, 160, 128), voxel_nm=ANISOTROPIC_NM, seed=1)


def half_width_nm(volume):
    """How far the deepest voxel of the mitochondria is from their surface."""
    padded = np.pad(volume.mitochondria, 1, mode="edge")  # the faces of the volume are no surface
    return ndimage.distance_transform_edt(padded, sampling=volume.voxel_nm).max()


def correlation(image, lag, axis):
    image = np.moveaxis(image, axis, 0)
    return np.corrcoef(image[lag:].ravel(), image[:-lag].ravel())[0, 1]


def test_same_seed_same_volume():
    np.random.default_rng().normal(size=10)
    first, again = (simulate_volume((16, 64, 64), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mitochondria, again.mitochondria)


def test_seeds_differ():
    first, other = (simulate_volume((16, 64, 64), seed=seed) for seed in (4, 5))
    assert abs(np.corrcoef(first.image.ravel(), other.image.ravel())[0, 1]) < 0.5
    assert (first.mitochondria != other.mitochondria).any()


def test_shapes_and_types(volume, anisotropic):
    for made, shape, voxel_nm in (
        (volume, SHAPE, (5.0, 5.0, 5.0)),
        (anisotropic, (24, 160, 128), ANISOTROPIC_NM),
    ):
        assert made.image.shape == made.mitochondria.shape == shape
        assert made.image.dtype == np.uint8
        assert made.mitochondria.dtype == bool
        assert made.voxel_nm == voxel_nm


@pytest.mark.parametrize("name", ["volume", "anisotropic"])
def test_share_and_contrast_are_those_of_tissue(name, request):
    made = request.getfixturevalue(name)
    inside, outside = made.image[made.mitochondria], made.image[~made.mitochondria]
    assert 0.04 < made.mitochondria.mean() < 0.11
    assert 85 < inside.mean() < 125  # 109 in the EPFL volume
    assert 25 < outside.mean() - inside.mean() < 50  # 34 there
    assert 22 < made.image.std() < 36  # 30 there
    assert np.mean((made.image == 0) | (made.image == 255)) < 1e-4


def test_noise_is_that_of_tissue(volume):
    second_difference = np.diff(volume.image.astype(float), n=2, axis=2) / np.sqrt(6.0)
    noise = 1.4826 * np.median(np.abs(second_difference))  # robust: edges are rare
    assert 8.0 < noise < 10.5  # 9.3 in the EPFL volume


def test_threshold_does_not_solve_it(volume):
    best = 0.0
    for sigma in (1, 2, 4, 6, 8, 12):
        blurred = ndimage.gaussian_filter(volume.image.astype(np.float32), sigma)
        for level in np.arange(80.0, 150.0, 4.0):
            dark = blurred < level
            best = max(best, np.sum(dark & volume.mitochondria) / np.sum(dark | volume.mitochondria))
    assert 0.1 < best < 0.55


@pytest.mark.parametrize("name", ["volume", "anisotropic"])
def test_mitochondria_have_their_width_in_nm(name, request):
    assert 80 < half_width_nm(request.getfixturevalue(name)) < 280


def test_slices_are_as_far_apart_as_asked(volume, anisotropic):
    assert abs(correlation(volume.image, 5, 0) - correlation(volume.image, 5, 2)) < 0.12
    assert correlation(anisotropic.image, 1, 0) < correlation(anisotropic.image, 1, 2) - 0.2


def test_brightness_jitters_from_slice_to_slice(monkeypatch):
    shape = (32, 64, 64)
    jittered = simulate_volume(shape, seed=1).image.mean(axis=(1, 2))
    monkeypatch.setattr(synthetic, "SLICE_JITTER", (0.0, 0.0))
    steady = simulate_volume(shape, seed=1).image.mean(axis=(1, 2))
    assert 0.7 < (jittered - steady).std() < 3.0


@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_volume_has_both_classes(seed):
    share = simulate_volume((4, 32, 32), seed=seed).mitochondria.mean()
    assert 0.0 < share < 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"shape": (64, 64)}, "shape: expected whole numbers of voxels"),
        ({"shape": (3, 64, 64)}, "shape: expected whole numbers of voxels"),
        ({"shape": (16, 64, 31)}, "shape: expected whole numbers of voxels"),
        ({"shape": (16, 64, 64.5)}, "shape: expected whole numbers of voxels"),
        (
            {"shape": (16, 64, 64), "voxel_nm": (1.0, 1.0, 1.0)},
            "shape: expected at least 160 nm along y and x, found 64",
        ),
        ({"shape": (16, 64, 64), "voxel_nm": (5.0, 5.0)}, "voxel_nm: expected edges"),
        ({"shape": (16, 64, 64), "voxel_nm": (5.0, 0.0, 5.0)}, "voxel_nm: expected edges"),
        ({"shape": (16, 64, 64), "voxel_nm": (float("nan"), 5.0, 5.0)}, "voxel_nm: expected edges"),
        ({"shape": (16, 64, 64), "seed": -1}, "seed: expected 0 or more, found -1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, expected):
    with pytest.raises(InputError) as refusal:
        simulate_volume(**arguments)
    message = str(refusal.value)
    assert message.startswith(expected)
    assert "\n" not in message
