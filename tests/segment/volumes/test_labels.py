from __future__ import annotations

import numpy as np
import pytest
import tifffile
from volume_files import FORMATS, make_values, write_as

from segment.errors import VolumeError
from segment.volumes import labels as labels_module
from segment.volumes import read_labels

MASK = make_values(seed=3) > 180


@pytest.mark.parametrize("mark", [1, 255])
@pytest.mark.parametrize("kind", FORMATS)
def test_labels_of_every_format_are_read(kind, mark, tmp_path):
    found = read_labels(write_as(kind, tmp_path, (MASK * mark).astype(np.uint8)), shape=MASK.shape)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, MASK)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int32, np.uint64, np.float32])
def test_any_type_of_number_will_do(dtype, tmp_path):
    np.testing.assert_array_equal(read_labels(write_as("hdf5", tmp_path, MASK.astype(dtype))), MASK)


def test_everything_may_be_marked(tmp_path):
    assert read_labels(write_as("tiff", tmp_path, np.full((3, 4, 5), 255, np.uint8))).all()


def test_it_goes_slab_by_slab_and_by_whole_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(labels_module, "_SLAB_BYTES", 5 * 40 * 56)
    read = []
    opened = labels_module.open_stored

    def spy(path):
        stored = opened(path)
        original = stored.read
        object.__setattr__(stored, "read", lambda box: read.append((box[0].start, box[0].stop)) or original(box))
        return stored

    monkeypatch.setattr(labels_module, "open_stored", spy)
    np.testing.assert_array_equal(read_labels(write_as("tiff", tmp_path, MASK.astype(np.uint8))), MASK)
    assert read == [(0, 5), (5, 10), (10, 12)]
    read.clear()
    read_labels(write_as("hdf5, gzip", tmp_path, MASK.astype(np.uint8)))  # in chunks of 4 slices
    assert read == [(0, 4), (4, 8), (8, 12)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ((0, 2), "0, 1, 2"),
        ((0, 255), "0, 1, 255"),
        ((11, 255), "0, 1, 255"),
        ((11, 7), "0, 1, 7"),
    ],
)
def test_other_values_are_refused_and_named(change, found, tmp_path, monkeypatch):
    monkeypatch.setattr(labels_module, "_SLAB_BYTES", 1)  # a slice at a time
    values = MASK.astype(np.uint8)
    values[change[0], 0, 0] = change[1]
    with pytest.raises(VolumeError) as refusal:
        read_labels(write_as("tiff", tmp_path, values))
    assert f"expected labels of 0 and 1, or of 0 and 255, found {found} in slices {change[0]} to" in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (make_values(np.uint16), r"0, .*, …"),
        ((MASK * 3).astype(np.int8), "0, 3"),
        (-MASK.astype(np.int8), "-1, 0"),
        (np.where(MASK, 0.5, 0).astype(np.float32), "0, 0.5"),
        (np.where(MASK, np.nan, 0).astype(np.float32), "0, nan"),
        ((MASK * 300).astype(np.uint16), "0, 300"),
    ],
)
def test_what_are_no_binary_labels_are_refused(values, found, tmp_path):
    with pytest.raises(VolumeError, match=f"found {found} in slices 0 to 11; save a mask"):
        read_labels(write_as("tiff", tmp_path, values))


def test_labels_without_foreground_are_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"stack\.tif: nothing is marked in the labels"):
        read_labels(write_as("tiff", tmp_path, np.zeros((3, 4, 5), np.uint8)))


def test_labels_of_another_shape_are_refused(tmp_path):
    path = write_as("tiff", tmp_path, np.ones((3, 4, 5), np.uint8))
    with pytest.raises(VolumeError, match=r"shape of a\.tif, \(3, 4, 6\), \(z, y, x\), found \(3, 4, 5\)"):
        read_labels(path, shape=(3, 4, 6), of="a.tif")


def test_labels_in_colour_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(VolumeError, match="found colour"):
        read_labels(tmp_path / "a.tif")


def test_damage_is_told_in_one_line(tmp_path):
    path = write_as("hdf5, gzip", tmp_path, make_values())
    content = bytearray(path.read_bytes())
    content[-3000:-2000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="cannot be read"):
        read_labels(path)


def test_the_real_labels_are_read(data_dir):
    labels = read_labels(data_dir / "em_epfl" / "training_lucchipp_mask.tif", shape=(165, 768, 1024))
    assert 0.03 < labels.mean() < 0.1
