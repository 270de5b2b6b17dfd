import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segment.errors import InputError
from segment.serving.blocks import Axis
from segment.serving.resample import resampled_shape
from segment.serving.tiling import choose_block
from segment.volumes.chunks import largest_divisor


@example(n=1, ratio=8.0, stride=2, halo_strides=0, core=0, chunk=16)
@given(
    n=st.integers(1, 3000),
    ratio=st.sampled_from([1.0, 1.0, 0.125, 0.3, 0.9, 1.021, 1.7, 8.0]),
    stride=st.sampled_from([2, 4, 16, 32]),
    halo_strides=st.integers(0, 6),
    core=st.integers(0, 500),
    chunk=st.sampled_from([16, 256]),
)
def test_blocks_start_at_multiples_and_each_has_its_halo_in_a_tile(n, ratio, stride, halo_strides, core, chunk):
    halo = halo_strides * stride
    tile = 2 * halo + (1 if ratio == 1 else 2) * stride + core
    n_grid = resampled_shape((n, 1, 1), (ratio, 1.0, 1.0))[0]
    block = choose_block(n, n_grid, ratio, tile, halo, stride, chunk)
    assert block <= chunk or largest_divisor(block, chunk) > chunk // 2
    axis = Axis(n, n_grid, ratio, block, halo, stride, is_tiled=True)
    extended = math.ceil(n_grid / stride) * stride
    cuts = [axis.cut(index) for index in range(len(axis))]
    assert [cut.start for cut in cuts] == [index * block for index in range(len(cuts))]
    assert [cut.stop for cut in cuts] == [min((index + 1) * block, n) for index in range(len(cuts))]
    for window in (cut.window for cut in cuts):
        assert window.origin % stride == window.size % stride == 0
        assert 0 < window.size <= min(tile, axis.largest_window)
        assert 0 <= window.start < window.stop <= n_grid
        assert window.stop - window.start <= axis.largest_core
        assert window.origin >= 0
        assert window.origin + window.size <= extended
        assert window.start - window.origin >= halo or window.origin == 0
        assert window.origin + window.size - window.stop >= halo or window.origin + window.size == extended


@given(n=st.integers(2, 400), ratio=st.sampled_from([1.0, 0.3, 1.7]), data=st.data())
def test_a_part_of_a_block_is_seen_by_the_network_as_the_whole_block(n, ratio, data):
    n_grid = resampled_shape((n, 1, 1), (ratio, 1.0, 1.0))[0]
    axis = Axis(n, n_grid, ratio, choose_block(n, n_grid, ratio, 60, 8, 4), 8, 4, is_tiled=True)
    cut = axis.cut(data.draw(st.integers(0, len(axis) - 1)))
    start = data.draw(st.integers(cut.start, cut.stop - 1))
    stop = data.draw(st.integers(start + 1, cut.stop))
    part = axis.clip(cut, (start, stop))
    assert (part.start, part.stop) == (start, stop)
    assert (part.window.origin, part.window.size) == (cut.window.origin, cut.window.size)
    assert cut.window.start <= part.window.start < part.window.stop <= cut.window.stop
    assert axis.clip(cut, (0, n)) == cut


def test_an_axis_that_fits_into_a_tile_is_one_block():
    for n in (1, 7, 8, 9, 64):
        assert choose_block(n, n, 1.0, 64, 16, 8) == n
    assert choose_block(1000, 1000, 1.0, 1024, 96, 16) == 1008  # can be divided into chunks


def test_blocks_are_no_larger_than_their_number_takes():
    assert choose_block(1088, 1088, 1.0, 1024, 96, 32) == 544
    for n in range(1, 4000, 7):
        axis = Axis(n, n, 1.0, choose_block(n, n, 1.0, 1024, 96, 32), 96, 32, is_tiled=True)
        assert sum(axis.cut(index).window.size for index in range(len(axis))) <= 1.5 * n + 300


@pytest.mark.parametrize("tile", [1, 192, 195, 207])
def test_a_tile_without_a_core_is_refused_with_the_smallest_that_works(tile):
    with pytest.raises(InputError, match=rf"--tile {tile}: .* 96 pixels .* smallest that works is 208"):
        choose_block(1000, 1000, 1.0, tile, 96, 16)
    assert choose_block(1000, 1000, 1.0, 208, 96, 16) == 16
