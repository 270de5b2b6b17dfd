from __future__ import annotations

import numpy as np
import pytest

from segment.errors import InputError
from segment.training.augment import Slab, change_intensity, draw_batch, list_planes, normalise

INTENSITY = (0.0, 255.0)


def make_slab(shape=(20, 48, 64)):
    """An image that tells each voxel's place, and labels that tell the same."""
    z, y, x = np.indices(shape)
    image = ((7 * z + 3 * y + 5 * x) % 251).astype(np.uint8)
    return Slab(image, image > 125)


def test_planes_cover_the_axes_and_fit_in_the_slab():
    planes = list_planes([make_slab()], 32, 8, "zyx")
    assert [plane.axis for plane in planes] == [0, 1, 2]
    assert (planes[0].height, planes[0].width) == (32, 32)
    for plane in planes[1:]:  # thinner, and longer for it
        assert (plane.height, plane.width) in ((16, 64), (16, 48))
        assert plane.weight < planes[0].weight


def test_a_slab_too_small_for_a_patch_is_refused():
    with pytest.raises(InputError, match="no patch of 64"):
        list_planes([make_slab((20, 12, 12))], 64, 16, "z")


def test_patches_and_labels_stay_together():
    """Without changes of grey values, labels follow from the middle channel whatever the turn and the axis."""
    slab = make_slab()
    planes = list_planes([slab], 16, 8, "zyx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segment.training.augment.change_intensity", lambda image, rng: image)
        seen = set()
        for step in range(30):
            x, y = draw_batch([slab], planes, 3, (-1, 0, 1), INTENSITY, np.random.default_rng(step))
            assert x.dtype == y.dtype == np.float32
            assert x.shape == (*y.shape[:3], 3)
            grey = np.rint((x[..., 1] + 1) * 127.5)
            np.testing.assert_array_equal(y[..., 0], grey > 125)
            seen |= {tuple(np.rint((patch_[0, 1, 1] - patch_[0, 0, 1]) * 127.5) for patch_ in x)}
        assert len(seen) > 5


def test_the_same_seed_draws_the_same_and_another_draws_another():
    slab = make_slab()
    planes = list_planes([slab], 16, 8, "z")
    one, again, other = (
        draw_batch([slab], planes, 2, (0,), INTENSITY, np.random.default_rng(seed))[0] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_neighbour_outside_the_slab_is_the_edge_slice():
    slab = Slab(
        np.arange(2, dtype=np.uint8)[:, None, None] * np.ones((2, 16, 16), np.uint8), np.ones((2, 16, 16), bool)
    )
    planes = list_planes([slab], 16, 8, "z")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segment.training.augment.change_intensity", lambda image, rng: image)
        x, _ = draw_batch([slab], planes, 8, (-5, 0, 5), (0.0, 1.0), np.random.default_rng(0))
    assert {tuple(channels) for channels in x[:, 0, 0]} == {(-1, -1, 1), (1, -1, -1), (-1, 1, 1), (1, 1, -1)}


def test_changes_of_intensity_keep_shape_and_bounds_and_leave_the_input():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    before = image.copy()
    changed = [change_intensity(image, rng) for _ in range(50)]
    np.testing.assert_array_equal(image, before)
    for each in changed:
        assert each.dtype == np.float32
        assert each.shape == image.shape
        assert np.abs(each).max() <= 2
    assert np.std([each.mean() for each in changed]) > 0.05


def test_normalise_cuts_off_and_takes_uint16():
    image = np.array([[[0, 1000, 3000, 65535]]], np.uint16)
    np.testing.assert_allclose(normalise(image, (1000.0, 3000.0)), [[[-2, -1, 1, 2]]])
