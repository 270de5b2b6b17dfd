from __future__ import annotations

import struct

import mrcfile
import numpy as np
import pytest
from volume_files import make_values, write_as

from segment.errors import VolumeError
from segment.volumes import open_volume, read_labels


@pytest.mark.parametrize(
    ("angstrom", "voxel_nm"),
    [((46.0, 92.0, 400.0), (40, 9.2, 4.6)), ((0.0, 0.0, 0.0), None), ((50.0, 50.0, 0.0), None)],
)
def test_the_voxel_size_is_read_in_nm(angstrom, voxel_nm, tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", make_values(np.uint16)) as mrc:
        mrc.voxel_size = angstrom
    with open_volume(tmp_path / "a.mrc") as volume:
        assert volume.voxel_nm == voxel_nm


@pytest.mark.parametrize(
    ("mark", "dmax", "added"),
    [
        ((0, 0), 100.0, 128),  # the standard says signed
        ((1146047817, 1), 100.0, 128),
        ((1146047817, 0), 100.0, 0),
        ((0, 0), 255.0, 0),  # int8 ends at 127
    ],
    ids=["standard", "IMOD, signed", "IMOD, unsigned", "too large for int8"],
)
def test_bytes_are_signed_unless_the_header_says_otherwise(mark, dmax, added, tmp_path):
    values = make_values(np.int8)
    mrcfile.write(tmp_path / "a.mrc", values)
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(76)
        file.write(struct.pack("<ff", 0.0, dmax))
        file.seek(152)
        file.write(struct.pack("<ii", *mark))
    with open_volume(tmp_path / "a.mrc") as volume:
        assert (volume.dtype, volume.added) == (np.uint8, added)
        expected = values.astype(int) + 128 if added else values.view(np.uint8)
        np.testing.assert_array_equal(volume[:], expected)


@pytest.mark.parametrize("ending", [".mrc", ".rec", ".st", ".MRC"])
def test_big_endian_files_with_an_extended_header_are_read(ending, tmp_path):
    values = make_values(np.int16)
    with mrcfile.new(tmp_path / "a.mrc", values.astype(">i2")) as mrc:
        mrc.set_extended_header(np.zeros(100, "V1"))
    path = (tmp_path / "a.mrc").rename(tmp_path / f"b{ending}")
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume[3:5, 7:], values[3:5, 7:].astype(int) + 32768)


def test_a_file_without_the_map_mark_is_read(tmp_path):
    path = write_as("mrc", tmp_path, make_values(np.uint16))
    with path.open("r+b") as file:
        file.seek(208)
        file.write(bytes(8))
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume[:], make_values(np.uint16))


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    mrcfile.write(tmp_path / "a.mrc", make_values(np.uint16, (20, 30)))
    with open_volume(tmp_path / "a.mrc") as volume:
        assert volume.shape == (1, 20, 30)


def test_labels_keep_their_values(tmp_path):
    mask = make_values() > 200
    mrcfile.write(tmp_path / "a.mrc", mask.astype(np.int8))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.mrc"), mask)


@pytest.mark.parametrize("values", [np.zeros((2, 3, 4, 5), np.int16), np.zeros((3, 4, 5), np.complex64)])
def test_what_is_no_single_volume_is_refused(values, tmp_path):
    mrcfile.write(tmp_path / "a.mrc", values)
    with pytest.raises(VolumeError, match=r"a\.mrc: expected one volume of numbers, found"):
        open_volume(tmp_path / "a.mrc")


def test_a_header_that_makes_no_sense_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "a.mrc").write_bytes(b"\x7f" * 5000)
    with pytest.raises(VolumeError, match="is no MRC file, its header makes no sense"):
        open_volume(tmp_path / "a.mrc")
