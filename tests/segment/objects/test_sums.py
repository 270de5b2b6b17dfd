"""What is added up over blocks, against the voxels one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segment.errors import InputError, VolumeError
from segment.objects import sums
from segment.objects.blocks import Grid
from segment.objects.measure import measure_object, measure_objects
from segment.objects.sums import STEPS, sum_block, sum_volume

VOXEL_NM = (20.0, 5.0, 4.0)
sides = st.integers(1, 7)
shapes = st.tuples(sides, sides, sides)
volumes = shapes.flatmap(lambda shape: arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 999])))


def backwards(function, indices, *, on_done, cancelled):
    for index in reversed(indices):
        on_done(index, function(index))
    return {}


def naive(labels, label):
    """Count over the voxels of one object."""
    voxels = set(zip(*(axis.tolist() for axis in (labels == label).nonzero()), strict=True))
    crossings = [
        sum(
            tuple(a + sign * b for a, b in zip(voxel, step, strict=True)) not in voxels
            for voxel in voxels
            for sign in (-1, 1)
        )
        for step in STEPS
    ]
    products = [sum(v[a] * v[b] for v in voxels) for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    return (
        label,
        len(voxels),
        tuple(sum(v[axis] for v in voxels) for axis in range(3)),
        tuple(products),
        tuple(crossings),
        tuple(min(v[axis] for v in voxels) for axis in range(3)),
        tuple(max(v[axis] for v in voxels) + 1 for axis in range(3)),
    )


def as_tuples(found):
    return [(e.label, e.n_voxels, e.position, e.products, e.crossings, e.start, e.stop) for e in found]


@settings(max_examples=100, deadline=None)
@given(labels=volumes, block=shapes)
@example(np.ones((5, 6, 7), np.uint16) * 3, (2, 3, 2))
@example(np.zeros((5, 6, 7), np.uint16), (2, 3, 2))
def test_sums_over_blocks_are_those_over_voxels(labels, block):
    grid = Grid(labels.shape, block)
    found = as_tuples(sum_volume(labels.astype(np.uint32), engine=backwards, grid=grid))
    assert found == [naive(labels, label) for label in np.unique(labels[labels > 0]).tolist()]


@settings(max_examples=50, deadline=None)
@given(labels=volumes, block=shapes)
def test_measures_over_blocks_are_those_in_memory_to_the_last_bit(labels, block):
    grid = Grid(labels.shape, block)
    found = sum_volume(labels.astype(np.int64), engine=backwards, grid=grid)
    measured = [measure_object(each, labels.shape, VOXEL_NM) for each in found]
    assert measured == measure_objects(labels, VOXEL_NM)


def test_sums_are_merged_while_they_come(monkeypatch):
    monkeypatch.setattr(sums, "_MIN_WAITING", 5)
    labels = np.random.default_rng(0).integers(0, 40, (9, 9, 9)).astype(np.uint8)
    found = sum_volume(labels, engine=backwards, grid=Grid(labels.shape, (2, 3, 4)))
    assert as_tuples(found) == as_tuples(sum_block(labels, Grid(labels.shape, labels.shape), 0))


@pytest.mark.parametrize("at", [(0, 0, 0), (300_000, 200_000, 100_000)])
def test_nothing_is_lost_far_from_the_origin(at):
    # A volume that is not there, but for one block of it.
    side = 32
    grid = Grid(tuple(start + side for start in at), (side,) * 3)
    index = len(grid) - 1
    assert [part.start for part in grid.box(index)] == list(at)
    around = tuple(side + (1 if start else 0) for start in at)
    labels = np.ones(around, np.uint8)
    labels[tuple(slice(0, 1 if start else 0) for start in at)] = 1
    (found,) = sum_block(labels, grid, index)
    z, y, x = (range(start, start + side) for start in at)
    assert found.products[0] == side**2 * sum(a * a for a in z)
    assert found.products[2] == side * sum(a * b for a, b in product(z, x))
    assert found.products[3] == side**2 * sum(a * a for a in y)
    shape = measure_object(found, grid.shape, (5.0, 5.0, 5.0))
    assert shape.elongation == shape.flatness == 1.0


def test_sums_of_squares_may_exceed_64_bits():
    corner = Grid((2**20, 2**20, 2**20), (64, 64, 64))
    one = sum_block(np.ones((65, 65, 65), np.uint8), corner, len(corner) - 1)
    merged = sums.merge_sums([one] * 2**8)
    (alone,), (found,) = one, merged
    assert found.products[0] == 2**8 * alone.products[0] > 2**63


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.ones((3, 3, 3), np.uint8), "a mask: run  segment instances"),
        (np.ones((3, 3, 3), np.float32), "found float32"),
        (np.full((3, 3, 3), -1), "negative numbers"),
    ],
)
def test_what_is_not_numbered_is_refused(labels, words):
    with pytest.raises(VolumeError, match=words):
        sum_volume(labels, engine=backwards, grid=Grid(labels.shape, (2, 2, 2)))


def test_a_block_that_cannot_be_read_is_told():
    labels = np.ones((3, 3, 3), np.uint32)
    with pytest.raises(InputError, match="measuring failed in 1 of 1 blocks; in 0: cut short"):
        sum_volume(labels, engine=lambda *_, **__: {0: "cut short"})
