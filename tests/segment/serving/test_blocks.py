import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment.serving.blocks import Axis, BlockGrid


def _grid(shape, block):
    z, y, x = (Axis(n, n, 1.0, side, 4, 2, is_tiled=True) for n, side in zip(shape, block, strict=True))
    return BlockGrid((z, y, x))


SHAPES = st.tuples(*[st.integers(1, 12)] * 3)


@given(shape=SHAPES, block=st.tuples(*[st.integers(2, 6)] * 3))
def test_blocks_fill_the_volume_once_and_an_index_is_a_position(shape, block):
    grid = _grid(shape, block)
    filled = np.zeros(shape, int)
    positions = []
    for index in range(len(grid)):
        filled[tuple(slice(cut.start, cut.stop) for cut in grid.block(index))] += 1
        positions.append(grid.position(index))
    assert (filled == 1).all()
    assert positions == list(np.ndindex(grid.counts))
    for index in (-1, len(grid)):
        with pytest.raises(IndexError):
            grid.block(index)


@given(shape=SHAPES, block=st.tuples(*[st.integers(1, 6)] * 3), n_parts=st.integers(1, 9), data=st.data())
def test_blocks_within_a_region_are_those_that_meet_it_whatever_they_are_split_into(shape, block, n_parts, data):
    grid = _grid(shape, block)
    region = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        region.append((start, data.draw(st.integers(start + 1, n))))
    meets = [
        index
        for index in range(len(grid))
        if all(
            cut.start < stop and cut.stop > start for cut, (start, stop) in zip(grid.block(index), region, strict=True)
        )
    ]
    within = grid.within(tuple(region))
    assert list(within) == meets
    assert len(within) == len(meets)
    parts = [list(within.part(part, n_parts)) for part in range(n_parts)]
    assert list(chain.from_iterable(parts)) == meets
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_grid_of_a_million_blocks_takes_no_memory_for_them():
    grid = _grid((20000, 20000, 20000), (200, 200, 200))
    assert len(grid) == math.prod(grid.counts) == 1_000_000
    assert grid.block(999_999)[2].stop == 20000
    assert next(grid.within(((0, 20000),) * 3).part(999, 1000)) == 999_000
