import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment.errors import InputError
from segment.serving.tiling import cut_axis


@given(
    n=st.integers(1, 3000),
    stride=st.sampled_from([1, 2, 4, 16, 32]),
    halo_strides=st.integers(0, 6),
    core=st.integers(1, 500),
)
def test_cores_cover_an_axis_once_and_each_has_its_halo(n, stride, halo_strides, core):
    halo = halo_strides * stride
    tile = 2 * halo + stride - 1 + core
    windows = cut_axis(n, tile, halo, stride)
    assert windows[0].start == 0
    assert windows[-1].stop == n
    assert len({window.size for window in windows}) == 1
    extended = -(-n // stride) * stride
    for window, following in zip(windows, [*windows[1:], None], strict=True):
        assert window.origin % stride == window.size % stride == 0
        assert window.size <= tile
        assert window.start < window.stop
        assert window.origin >= 0
        assert window.origin + window.size <= extended
        assert window.start - window.origin >= halo or window.origin == 0
        assert window.origin + window.size - window.stop >= halo or window.origin + window.size == extended
        assert following is None or following.start == window.stop


def test_an_axis_that_fits_into_a_tile_is_one_window():
    for n in (1, 7, 8, 9, 64):
        (window,) = cut_axis(n, 64, 16, 8)
        assert (window.start, window.stop, window.size) == (0, n, -(-n // 8) * 8)


def test_windows_are_no_larger_than_their_number_takes():
    windows = cut_axis(1088, 1024, 96, 32)
    assert [window.size for window in windows] == [640, 640]
    work = [sum(window.size for window in cut_axis(n, 1024, 96, 32)) for n in range(1, 4000, 7)]
    assert (np.diff(work) > -400).all()  # a little more to see is never much less to do
    assert all(done <= 1.5 * n + 300 for done, n in zip(work, range(1, 4000, 7), strict=True))


@pytest.mark.parametrize("tile", [1, 192, 195, 207])
def test_a_tile_without_a_core_is_refused_with_the_smallest_that_works(tile):
    with pytest.raises(InputError, match=rf"--tile {tile}: .* 96 pixels .* smallest that works is 208"):
        cut_axis(1000, tile, 96, 16)
    assert cut_axis(1000, 208, 96, 16)[-1].stop == 1000
