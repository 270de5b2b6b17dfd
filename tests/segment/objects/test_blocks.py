from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment.errors import InputError
from segment.objects.blocks import (
    BLOCK_VOXELS,
    MAX_SIDE,
    Grid,
    OverBlocks,
    as_box,
    choose_blocks,
    intersect,
    within,
)
from segment.volumes.chunks import CHUNK, CHUNK_STEP

sides = st.integers(1, 6)
shapes = st.tuples(sides, sides, sides)


@given(shape=shapes, block=shapes)
def test_every_voxel_lies_in_one_block(shape, block):
    grid = Grid(shape, block)
    found = np.full(shape, -1)
    for index in range(len(grid)):
        assert (found[grid.box(index)] == -1).all()
        found[grid.box(index)] = index
    assert (found >= 0).all()
    np.testing.assert_array_equal(grid.holding(np.argwhere(found >= 0)), found.ravel())
    for index in range(len(grid)):
        for axis in range(3):
            beyond = list(grid.box(index))
            beyond[axis] = slice(beyond[axis].stop, beyond[axis].stop + 1)
            after = found[tuple(beyond)]
            assert set(after.ravel()) == ({grid.after(index, axis)} - {None})


@given(shape=shapes, block=shapes, data=st.data())
def test_blocks_that_a_box_touches(shape, block, data):
    grid = Grid(shape, block)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    stops = [data.draw(st.integers(start + 1, n)) for start, n in zip(starts, shape, strict=True)]
    box = as_box(np.array(starts + stops))
    numbered = np.zeros(shape, int)
    for index in range(len(grid)):
        numbered[grid.box(index)] = index
    assert grid.touched(box) == np.unique(numbered[box]).tolist()
    for index in grid.touched(box):
        shared = intersect(box, grid.box(index))
        assert (numbered[box][within(shared, box)] == index).all()


def test_what_lies_around_a_block_ends_with_the_volume():
    grid = Grid((4, 5, 6), (2, 5, 3))
    assert grid.box(0, below=1, above=1) == (slice(0, 3), slice(0, 5), slice(0, 4))
    assert grid.box(3, below=1, above=1) == (slice(1, 4), slice(0, 5), slice(2, 6))


@pytest.mark.parametrize(
    "shape",
    [
        *[
            (1, 1, 1),
            (165, 768, 1024),
            (1024, 1024, 1024),
            (7, 1025, 1025),
            (10**6, 3, 3),
            (3, 10**6, 3),
            (3, 3, 10**6),
        ],
        *[(20_000, 20_000, 20_000), (1, 2**20, 2**20), (2**20, 4000, 300), (17, 257, 255)],
    ],
)
def test_blocks_fit_in_memory_and_in_the_chunks_that_are_written(shape):
    grid = choose_blocks(shape)
    assert math.prod(grid.block) <= BLOCK_VOXELS
    assert max(grid.block) <= MAX_SIDE
    for side, n, chunk in zip(grid.block, shape, CHUNK, strict=True):
        assert side <= chunk or side % CHUNK_STEP == 0
        assert side < n + CHUNK_STEP


def one_by_one(function, indices, *, on_done, cancelled):
    for index in indices:
        on_done(index, function(index))
    return {}


def test_an_error_that_is_returned_is_raised_and_nothing_more_is_done():
    called = []

    def function(index):
        called.append(index)
        return InputError("no mask") if index == 2 else index

    with pytest.raises(InputError, match="no mask"):
        OverBlocks(one_by_one, "mask.tif")("labelling", function, 5)
    assert called == [0, 1, 2]


def test_blocks_that_failed_are_told_in_one_line():
    over_blocks = OverBlocks(lambda *_, **__: {7: "bad chunk", 3: "cut short"}, "mask.tif")
    with pytest.raises(InputError, match=r"^mask.tif: labelling failed in 2 of 9 blocks; in 3: cut short$"):
        over_blocks("labelling", int, 9)


def test_progress_is_told_and_may_end_the_work():
    told = []
    OverBlocks(one_by_one, "", lambda *step: told.append(step))("labelling", int, 2)
    assert told == [("labelling", 0, 2), ("labelling", 1, 2), ("labelling", 2, 2)]

    def stop(step, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        OverBlocks(one_by_one, "", stop)("labelling", int, 4)


def test_blocks_that_an_engine_left_out_are_noticed():
    with pytest.raises(RuntimeError, match="ended with 0 of 3 blocks"):
        OverBlocks(lambda *_, **__: {}, "mask.tif")("labelling", int, 3)
