from __future__ import annotations

import pickle

import numpy as np
import pytest

from segment.errors import VolumeError
from segment.objects import masks
from segment.objects.masks import Numbers, mask_slabs, read_mask, refuse_mask, to_numbers
from segment.volumes import create_volume

MASK = np.random.default_rng(0).random((7, 5, 6)) < 0.4


@pytest.fixture(autouse=True)
def thin_slabs(monkeypatch):
    monkeypatch.setattr(masks, "SLAB_VOXELS", 2 * 5 * 6)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("foreground", [1, 255])
def test_a_mask_of_any_type_is_read(dtype, foreground):
    stored = (MASK * np.array(foreground, dtype)).astype(dtype)
    np.testing.assert_array_equal(read_mask(stored), MASK)
    np.testing.assert_array_equal(read_mask(stored, 2, 5), MASK[2:5])


def test_slabs_are_small_and_say_where_they_are():
    found = list(mask_slabs(MASK * np.uint8(255), 1, 6))
    assert [(where.start, where.stop) for where, _ in found] == [(1, 3), (3, 5), (5, 6)]
    for where, mask in found:
        np.testing.assert_array_equal(mask, MASK[where])


def test_a_mask_of_nothing_is_a_mask():
    assert not read_mask(np.zeros((3, 4, 5), np.uint8)).any()


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ([37, 255, 255, 255], "found 0, 37: "),  # probabilities; of the first slab
        ([255, 255, 255, 1], "found 0, 1, 255: "),  # two foregrounds, far apart
        ([1, 1, 255, 255], "found 0, 1, 255"),
        ([2, 2, 2, 2], "found 0, 2"),
        ([1, 0.5, 1, 1], "found 0, 0.5, 1"),
        ([-1, 1, 1, 1], "found -1, 0: "),
        ([255, 1, 2, 3], "found 0, 1, 255: "),
    ],
)
def test_what_is_no_mask_is_refused_with_its_values(slices, words):
    values = np.zeros((8, 5, 6), np.float32)
    for index, value in enumerate(slices):
        values[2 * index, 0, 0] = value
    with pytest.raises(VolumeError, match=words) as caught:
        read_mask(values, advice="do this")
    assert str(caught.value).endswith(": do this")


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("threshold", [0.0, 0.07, 0.2, 0.5, 0.6, 1.0])
def test_probabilities_at_the_threshold_are_foreground(dtype, top, threshold):
    values = np.arange(top + 1, dtype=dtype).reshape(1, 1, -1)
    lowest = np.flatnonzero(read_mask(values, threshold=threshold)[0, 0])[0]
    assert (lowest - 1) / top < threshold <= lowest / top + 1e-12


def test_float_probabilities():
    values = np.array([[[0.0, 0.25, 0.5, 1.0]]])
    assert read_mask(values, threshold=0.5).tolist() == [[[False, False, True, True]]]
    with pytest.raises(VolumeError, match="beyond 0 to 1"):
        read_mask(255 * values, threshold=0.5)
    with pytest.raises(VolumeError, match="found NaN"):
        read_mask(np.where(values > 0.5, np.nan, values), threshold=0.5)
    with pytest.raises(VolumeError, match="found int16"):
        read_mask(values.astype(np.int16), threshold=0.5)


def test_a_mask_is_not_taken_for_probabilities():
    with pytest.raises(VolumeError, match="only 0 and 1, a mask: leave the threshold out"):
        read_mask(MASK.astype(np.uint8), threshold=0.5)
    np.testing.assert_array_equal(read_mask(MASK * np.uint8(255), threshold=0.5), MASK)
    assert not read_mask(np.zeros((2, 3, 4), np.uint8), threshold=0.5).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
def test_numbered_objects_of_any_type_are_taken_as_unsigned(dtype):
    labels = np.array([[[0, 1, 2, 7]]], dtype)
    found = to_numbers(labels, labels)
    assert found.dtype == np.dtype(f"u{labels.itemsize}")
    np.testing.assert_array_equal(found, labels)


def test_one_object_is_no_mask_where_masks_are_not_so_wide():
    for dtype, known in ((np.uint32, [1]), (np.uint8, [3]), (np.uint8, []), (np.uint8, [1, 255])):
        refuse_mask(np.zeros((1, 1, 2), dtype), np.array(known, dtype))


@pytest.mark.parametrize(
    ("dtype", "known", "words"),
    [
        (np.uint8, 255, "found only 0 and 255, a mask: run  segment instances  first"),
        (np.uint16, 1, "found only 0 and 1, a mask"),
        (np.bool_, 1, "found only 0 and 1, a mask"),
    ],
)
def test_a_mask_is_not_taken_for_numbered_objects(dtype, known, words):
    with pytest.raises(VolumeError, match=words):
        refuse_mask(np.zeros((1, 1, 2), dtype), np.array([known], np.uint8))


@pytest.mark.parametrize(
    ("values", "words"),
    [(np.array([[[0.0, 1.0]]]), "found float64"), (np.array([[[0, -3]]]), "found negative numbers")],
)
def test_what_is_not_numbered_is_refused(values, words):
    with pytest.raises(VolumeError, match=words):
        to_numbers(values, values)


def test_another_process_gets_the_file_and_opens_it_once(tmp_path):
    path = tmp_path / "mask.tif"
    with create_volume(path, MASK.shape, np.uint8, None) as writer:
        writer.append(MASK * np.uint8(255))
    numbers, anew = Numbers(path, (3.0, 2.0, 1.0)), Numbers(path)
    sent = pickle.dumps(numbers)
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received[1:3], numbers[1:3])
    assert received.voxel_nm == (3.0, 2.0, 1.0)
    assert pickle.loads(sent) is received
    received_anew = pickle.loads(pickle.dumps(anew))
    assert received_anew is not received  # what was there before may have been replaced
    for each in (numbers, anew, received, received_anew):
        each.close()
