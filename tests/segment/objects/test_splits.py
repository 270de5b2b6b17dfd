from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from segment.objects.splits import can_be_split

VOXEL_NM = (7.0, 5.0, 4.0)
sides = st.integers(1, 7)


@settings(max_examples=100, deadline=None)
@given(mask=st.tuples(sides, sides, sides).flatmap(lambda shape: arrays(bool, shape)), neck_nm=st.floats(1, 30))
def test_objects_that_are_not_looked_at_are_nowhere_wider_than_a_neck(mask, neck_nm):
    where = np.argwhere(mask)
    if len(where) == 0 or mask.all():
        return
    box = np.concatenate([where.min(axis=0), where.max(axis=0) + 1])[None]
    if not can_be_split(box, mask.shape, VOXEL_NM, neck_nm)[0]:
        assert distance_transform_edt(mask, sampling=VOXEL_NM).max() <= neck_nm


@pytest.mark.parametrize(
    ("box", "farthest"),
    [
        ((1, 1, 1, 4, 8, 8), 2 * 7.0),  # three slices between others: the middle one is two from either
        ((0, 0, 0, 3, 9, 9), 3 * 7.0),  # the volume ends before the first
        ((0, 1, 1, 9, 4, 8), 2 * 5.0),
        ((0, 0, 1, 9, 9, 3), 1.5 * 4.0),
        ((0, 0, 0, 9, 9, 9), np.inf),
    ],
)
def test_room_in_a_box(box, farthest):
    boxes = np.array([box])
    assert not can_be_split(boxes, (9, 9, 9), VOXEL_NM, farthest)[0]
    if np.isfinite(farthest):
        assert can_be_split(boxes, (9, 9, 9), VOXEL_NM, farthest - 0.01)[0]
    assert can_be_split(np.zeros((0, 6), np.int64), (9, 9, 9), VOXEL_NM, 1.0).tolist() == []
