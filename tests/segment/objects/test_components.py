"""Components merged over blocks: the same as of the whole volume, numbers included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segment.objects.blocks import Grid, as_box
from segment.objects.components import label_box, merge_blocks
from segment.objects.instances import label_objects

sides = st.integers(1, 9)
shapes = st.tuples(sides, sides, sides)


def label_by_blocks(mask, block, connectivity, min_voxels=0):
    grid = Grid(mask.shape, block)
    labels, known = zip(
        *(label_box(mask[grid.box(index, above=1)], grid, index, connectivity) for index in range(len(grid))),
        strict=True,
    )
    merged = merge_blocks(grid, np.array([len(each.sizes) for each in known]), lambda index: known[index])
    numbers, chosen = merged.number(min_voxels)
    whole = np.zeros(mask.shape, np.uint32)
    for index, provisional in enumerate(labels):
        start, stop = merged.offsets[index : index + 2]
        whole[grid.box(index)] = np.concatenate([[0], numbers[start:stop]])[provisional]
    return whole, merged, chosen


def check(mask, block, connectivity, min_voxels=0):
    expected, n_objects = label_objects(mask, connectivity=connectivity, min_voxels=min_voxels)
    found, merged, chosen = label_by_blocks(mask, block, connectivity, min_voxels)
    np.testing.assert_array_equal(found, expected)
    assert len(chosen) == n_objects
    for label, row in enumerate(chosen, start=1):
        where = np.argwhere(expected == label)
        assert merged.sizes[row] == len(where)
        assert np.unravel_index(merged.firsts[row], mask.shape) == tuple(where[0])
        assert as_box(merged.boxes[row]) == tuple(map(slice, where.min(axis=0), where.max(axis=0) + 1))
    return merged


@settings(max_examples=150, deadline=None)
@given(
    mask=shapes.flatmap(lambda shape: arrays(bool, shape)),
    block=shapes,
    connectivity=st.sampled_from([6, 18, 26]),
    min_voxels=st.integers(0, 4),
)
@example(np.ones((5, 6, 7), bool), (2, 3, 2), 6, 0)
@example(np.zeros((5, 6, 7), bool), (2, 3, 2), 26, 0)
def test_objects_are_those_of_the_whole_volume(mask, block, connectivity, min_voxels):
    check(mask, block, connectivity, min_voxels)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_noise_in_blocks_of_odd_sizes(share, connectivity):
    mask = np.random.default_rng(0).random((23, 31, 40)) < share
    check(mask, (5, 16, 11), connectivity, 2)


@pytest.mark.parametrize("sense", list(np.ndindex(2, 2, 2)))
@pytest.mark.parametrize(("step", "weakest"), [((1, 1, 1), 26), ((0, 1, 1), 18), ((1, 0, 1), 18), ((1, 1, 0), 18)])
def test_a_diagonal_through_corners_of_blocks_is_one_object(sense, step, weakest):
    mask = np.zeros((8, 8, 8), bool)
    for at in range(8):
        mask[tuple(at if moves else 4 for moves in step)] = True
    mask = mask[tuple(slice(None, None, -1 if back else 1) for back in sense)]
    for connectivity in (6, 18, 26):
        chosen = label_by_blocks(mask, (2, 2, 2), connectivity)[-1]
        assert len(chosen) == (1 if connectivity >= weakest else 8)
        check(mask, (2, 2, 2), connectivity)


def test_a_snake_through_every_block_is_one_object():
    mask = np.zeros((12, 13, 14), bool)
    for z in range(0, 12, 2):  # slices are walked row by row, there and back, and joined at one end
        mask[z, ::2] = True
        mask[z, 1::4, -1] = mask[z, 3::4, 0] = True
        if z > 0:
            mask[z - 1, 0 if z % 4 else -1, 0] = True
    for block in ((1, 1, 1), (3, 4, 5), (12, 1, 14), (5, 13, 2)):
        merged = check(mask, block, 6)
        assert len(np.unique(merged.roots)) == 1


def test_two_combs_in_each_other_stay_two():
    mask = np.zeros((9, 9, 9), bool)
    mask[:, 0::4, :6] = mask[:, :, 0] = True  # teeth from the left, on a back
    mask[:, 2::4, 3:] = mask[:, :, 8] = True
    for connectivity in (6, 26):
        _, _, chosen = label_by_blocks(mask, (4, 4, 4), connectivity)
        assert len(chosen) == label_objects(mask, connectivity=connectivity)[1] == 2


def test_what_two_blocks_know_of_the_layer_they_share_is_as_long():
    mask = np.random.default_rng(1).random((8, 8, 8)) < 0.3
    grid = Grid(mask.shape, (4, 4, 4))
    known = [label_box(mask[grid.box(index, above=1)], grid, index, 26)[1] for index in range(len(grid))]
    for index, objects in enumerate(known):
        for axis in range(3):
            after = grid.after(index, axis)
            if after is not None:
                assert len(objects.faces[axis, True]) == len(known[after].faces[axis, False])
                assert len(objects.faces[axis, True]) < 25  # components of the layer, not its voxels


def test_order_in_which_layers_come_does_not_matter_but_all_are_needed():
    mask = np.ones((1, 1, 9), bool)
    grid = Grid(mask.shape, (1, 1, 3))
    known = [label_box(mask[grid.box(index, above=1)], grid, index, 26)[1] for index in range(3)]
    counts = np.array([1, 1, 1])
    assert merge_blocks(grid, counts, lambda index: known[index]).roots.tolist() == [0, 0, 0]
    known[1] = replace(known[1], faces={(2, False): known[1].faces[2, False]})
    assert merge_blocks(grid, counts, lambda index: known[index]).roots.tolist() == [0, 0, 2]
