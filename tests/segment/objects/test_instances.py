from __future__ import annotations

import numpy as np
import pytest
from naive_objects import components, objects
from shapes import two_balls

from segment.errors import InputError
from segment.objects.instances import drop_small, label_objects, split_objects

VOXEL_NM = (5.0, 5.0, 5.0)


def random_mask(share, seed=0, shape=(9, 11, 13)):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize(("connectivity", "n_shared"), [(6, 1), (18, 2), (26, 3)])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_objects_and_their_order_are_those_of_a_flood_fill(connectivity, n_shared, share):
    mask = random_mask(share)
    labels, n_objects = label_objects(mask, connectivity=connectivity)
    expected = components(mask, n_shared)
    assert n_objects == len(expected)
    assert objects(labels) == dict(enumerate(expected, start=1))
    assert labels.dtype == np.uint32


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 3, 3), (1, 7, 5), (2, 3, 3), (9, 5, 7)])
@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_the_most_objects_that_a_mask_can_hold(shape, connectivity):
    # cc3d 4.1 alone stops with an error for 26 neighbours and odd sides.
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert label_objects(mask, connectivity=connectivity)[1] == mask.sum()


def test_order_does_not_depend_on_the_layout_in_memory():
    mask = random_mask(0.1)
    for layout in (np.asfortranarray(mask), np.repeat(mask, 2, axis=2)[..., ::2]):
        np.testing.assert_array_equal(label_objects(layout)[0], label_objects(mask)[0])


@pytest.mark.parametrize("min_voxels", [0, 1, 2, 3, 10, 10_000])
def test_specks_are_left_out_and_the_rest_is_numbered_on(min_voxels):
    mask = random_mask(0.08)
    labels, n_objects = label_objects(mask, min_voxels=min_voxels)
    expected = [each for each in components(mask, 3) if len(each) >= min_voxels]
    assert n_objects == len(expected)
    assert objects(labels) == dict(enumerate(expected, start=1))


def test_a_mask_of_nothing_and_one_of_everything():
    for mask, expected in (
        (np.zeros((3, 4, 5), bool), 0),
        (np.ones((3, 4, 5), bool), 1),
        (np.zeros((0, 4, 5), bool), 0),
    ):
        labels, n_objects = label_objects(mask, neck_nm=20.0, voxel_nm=VOXEL_NM)
        assert (n_objects, labels.shape, labels.dtype) == (expected, mask.shape, np.uint32)
        assert (labels == expected).all()


def test_more_voxels_than_uint32_counts_are_numbered_in_uint64_only_where_needed(monkeypatch):
    monkeypatch.setattr("segment.objects.instances._UINT32_MAX", 3)
    apart = np.zeros((1, 1, 9), bool)
    apart[..., ::2] = True
    assert label_objects(apart)[0].dtype == np.uint64
    assert label_objects(apart[..., :5])[0].dtype == np.uint32


def test_the_mask_is_not_changed():
    mask = random_mask(0.3)
    before = mask.copy()
    label_objects(mask, min_voxels=5, neck_nm=10.0, voxel_nm=VOXEL_NM)
    np.testing.assert_array_equal(mask, before)


def test_balls_that_touch_are_split_in_the_middle():
    mask = two_balls(100.0)  # radius 60: at the neck the radius is 33
    assert label_objects(mask)[1] == 1
    labels, n_objects = label_objects(mask, neck_nm=15.0, voxel_nm=VOXEL_NM)
    assert n_objects == 2
    np.testing.assert_array_equal(labels > 0, mask)
    sizes = np.bincount(labels.ravel())[1:]
    assert abs(sizes[0] - sizes[1]) <= 0.05 * sizes.sum()
    middle = mask.shape[2] // 2
    assert set(np.unique(labels[..., : middle - 1])) == {0, 1}
    assert set(np.unique(labels[..., middle + 2 :])) == {0, 2}


def test_the_neck_decides_whether_an_object_is_split():
    mask = two_balls(100.0)  # widest 60 nm, neck √(60² - 50²) = 33 nm: 27 nm narrower, within a voxel
    counts = [label_objects(mask, neck_nm=neck_nm, voxel_nm=VOXEL_NM)[1] for neck_nm in (10.0, 20.0, 33.0, 60.0)]
    assert counts == [2, 2, 1, 1]


def test_necks_are_measured_in_nm_along_each_axis():
    coarse = (20.0, 5.0, 5.0)
    mask = two_balls(100.0, voxel_nm=coarse)
    assert label_objects(mask, neck_nm=15.0, voxel_nm=coarse)[1] == 2
    # The same voxels, thinner along z: no part is wider than a neck now.
    assert label_objects(mask, neck_nm=15.0, voxel_nm=(2.0, 5.0, 5.0))[1] == 1


def test_a_straight_rod_and_a_ball_with_a_rough_surface_stay_whole():
    rod = np.zeros((20, 20, 100), bool)
    rod[4:16, 4:16, 5:95] = True
    assert label_objects(rod, neck_nm=10.0, voxel_nm=VOXEL_NM)[1] == 1
    rough = two_balls(0.0)
    edge = rough & ~np.pad(two_balls(0.0, radius_nm=50.0), 2)
    rough[edge & random_mask(0.2, shape=rough.shape)] = False
    labels, n_objects = label_objects(rough, min_voxels=50, neck_nm=10.0, voxel_nm=VOXEL_NM)
    assert n_objects == 1
    assert (labels > 0).sum() >= 0.99 * rough.sum()


@pytest.mark.parametrize("which", [0, -1])
def test_what_hangs_on_by_a_corner_goes_with_its_part(which):
    mask = two_balls(100.0)
    tips = np.argwhere(mask[:3])
    z, y, x = tips[np.argsort(tips[:, 2])[which]]  # of the left ball, of the right
    side = 1 if which else -1
    mask[z - 1, y - 1, x + side] = True
    assert label_objects(mask)[1] == 1
    labels, n_objects = label_objects(mask, neck_nm=15.0, voxel_nm=VOXEL_NM)
    assert n_objects == 2
    assert labels[z - 1, y - 1, x + side] == labels[z, y, x]
    np.testing.assert_array_equal(labels > 0, mask)


def test_faces_of_an_object_are_edges_but_those_of_the_volume_are_none():
    plate = np.zeros((6, 50, 100), bool)  # two squares with a bridge; as thick as 30 nm
    plate[:, 5:45, 5:45] = plate[:, 5:45, 55:95] = plate[:, 20:30, 45:55] = True
    assert label_objects(plate, neck_nm=20.0, voxel_nm=VOXEL_NM)[1] == 2  # cut by the volume above and below
    inside = np.pad(plate, ((3, 3), (0, 0), (0, 0)))
    assert label_objects(inside, neck_nm=20.0, voxel_nm=VOXEL_NM)[1] == 1  # nowhere wider than 15 nm


def test_parts_of_a_split_are_numbered_by_their_first_voxel():
    pair = two_balls(100.0)
    speck = np.zeros_like(pair)
    speck[pair.shape[0] // 2, 1, 1] = True
    labels, n_objects = label_objects(pair | speck, neck_nm=15.0, voxel_nm=VOXEL_NM)
    assert n_objects == 3
    first = [int(np.flatnonzero(labels.ravel() == label)[0]) for label in (1, 2, 3)]
    assert first == sorted(first)


def test_parts_that_a_split_makes_too_small_are_left_out():
    large, small = two_balls(0.0), two_balls(0.0, radius_nm=30.0)
    mask = np.zeros((large.shape[0], large.shape[1], large.shape[2] + 20), bool)
    mask[:, :, : large.shape[2]] = large
    start = [(a - b) // 2 for a, b in zip(large.shape, small.shape, strict=True)]
    mask[start[0] : start[0] + small.shape[0], start[1] : start[1] + small.shape[1], -small.shape[2] - 3 : -3] |= small
    options = {"neck_nm": 10.0, "voxel_nm": VOXEL_NM}
    assert label_objects(mask, **options)[1] == 2
    assert label_objects(mask, min_voxels=2000, **options)[1] == 1


def test_functions_that_change_labels_in_place_say_so():
    labels, n_objects = label_objects(random_mask(0.05))
    same, _ = drop_small(labels, n_objects, 2)
    assert same is labels
    same, _ = split_objects(labels, int(labels.max()), VOXEL_NM)
    assert same is labels


@pytest.mark.parametrize(
    ("mask", "options", "words"),
    [
        (np.zeros((3, 3), bool), {}, "z, y, x"),
        (np.zeros((3, 3, 3), np.uint8), {}, "boolean"),
        (np.zeros((3, 3, 3), bool), {"connectivity": 8}, "6, 18 or 26"),
        (np.zeros((3, 3, 3), bool), {"min_voxels": -1}, "min_voxels"),
        (np.ones((3, 3, 3), bool), {"neck_nm": 5.0}, "voxel_nm"),
        (np.ones((3, 3, 3), bool), {"neck_nm": 0.0, "voxel_nm": VOXEL_NM}, "above 0"),
        (np.ones((3, 3, 3), bool), {"neck_nm": 5.0, "voxel_nm": (5.0, 0.0, 5.0)}, "above 0"),
    ],
)
def test_bad_input_is_refused(mask, options, words):
    with pytest.raises(InputError, match=words):
        label_objects(mask, **options)
