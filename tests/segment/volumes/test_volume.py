"""What holds for a volume of every format."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from volume_files import FORMATS, SHAPE, make_values, write_as

from segment.errors import VolumeError
from segment.volumes import open_volume
from streamdetect.errors import InputError

DAMAGEABLE = ("tiff, zlib with predictor", "hdf5, gzip", "slices, png", "slices, TIFF, zlib", "ome-zarr 0.5")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_values_that_were_written(kind, dtype, tmp_path):
    values = make_values(dtype)
    path = write_as(kind, tmp_path, values)
    with open_volume(path) as volume:
        assert (volume.shape, volume.dtype, volume.added) == (SHAPE, dtype, 0)
        assert (volume.path, volume.name) == (path, path.name)
        np.testing.assert_array_equal(volume[:], values)
        np.testing.assert_array_equal(volume[2:5], values[2:5])
        np.testing.assert_array_equal(volume[-3:, 17:34, 31:33], values[-3:, 17:34, 31:33])
        part = volume[4:5, 39:, :40]
        np.testing.assert_array_equal(part, values[4:5, 39:, :40])
        assert part.dtype.isnative
        assert part.flags.c_contiguous
        part[...] = 0  # it is the caller's
        np.testing.assert_array_equal(volume[4:5, 39:, :40], values[4:5, 39:, :40])
        assert volume[5:5].shape == (0, *SHAPE[1:])
        assert volume[7:3, 50:90].shape == (0, 0, SHAPE[2])


@pytest.mark.parametrize("kind", FORMATS)
def test_only_what_is_asked_for_is_read(kind, tmp_path):
    values = np.zeros((96, 128, 128), np.uint8)
    with open_volume(write_as(kind, tmp_path, values)) as volume:
        volume[0:1]  # whatever is loaded once
        tracemalloc.start()
        for start in range(0, 96, 8):
            volume[start : start + 8]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < values.nbytes / 2


@pytest.mark.parametrize("kind", ["tiff, zlib, tiles", "hdf5, gzip", "zarr 3"])
def test_threads_may_share_a_volume(kind, tmp_path):
    values = make_values(shape=(32, 40, 56))
    with open_volume(write_as(kind, tmp_path, values)) as volume, ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda z: volume[z : z + 1], range(32)))
    np.testing.assert_array_equal(np.concatenate(parts), values)


@pytest.mark.parametrize(
    "key", [3, (slice(None), 3), slice(None, None, 2), slice(None, None, -1), (slice(None),) * 4, ...]
)
def test_it_takes_slices_only(key, tmp_path):
    with (
        open_volume(write_as("tiff", tmp_path, make_values())) as volume,
        pytest.raises(TypeError, match="takes slices"),
    ):
        volume[key]


@pytest.mark.parametrize("kind", ["tiff", "tiff, zlib with predictor", "tiff, big-endian", "hdf5", "zarr 2", "mrc"])
@pytest.mark.parametrize(("stored", "expected", "added"), [(np.int8, np.uint8, 128), (np.int16, np.uint16, 32768)])
def test_signed_integers_become_unsigned_without_loss(kind, stored, expected, added, tmp_path):
    values = make_values(stored)
    values[0, 0, :4] = np.iinfo(stored).min, -1, 0, np.iinfo(stored).max
    with open_volume(write_as(kind, tmp_path, values)) as volume:
        assert (volume.dtype, volume.added) == (expected, added)
        np.testing.assert_array_equal(volume[:].astype(int), values.astype(int) + added)


@pytest.mark.parametrize("kind", ["tiff", "hdf5", "mrc", "zarr 3"])
@pytest.mark.parametrize("odd", [np.float32(0.5), np.float32("nan")])
def test_floats_are_refused_with_what_to_do(kind, odd, tmp_path):
    values = np.full((4, 5, 6), odd)
    with pytest.raises(VolumeError, match=r"expected grey values of 8 or 16 bits, found float32; convert it, in Fiji"):
        open_volume(write_as(kind, tmp_path, values))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint32, np.int64])
def test_what_are_no_grey_values_is_refused(dtype, tmp_path):
    with pytest.raises(VolumeError, match=f"expected grey values of 8 or 16 bits, found {np.dtype(dtype)}"):
        open_volume(write_as("hdf5", tmp_path, np.ones((4, 5, 6), dtype)))


def test_a_stated_voxel_size_takes_the_place_of_the_files(tmp_path):
    path = write_as("ome-zarr 0.5", tmp_path, make_values())
    with open_volume(path) as volume:
        assert volume.voxel_nm == (40, 4, 5)
    with open_volume(path, voxel_nm=(30.0, 8.0, 8.0)) as volume:
        assert volume.voxel_nm == (30, 8, 8)
        assert "(30.0, 8.0, 8.0) nm" in repr(volume)


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1.0), (5.0, 5.0, -5.0), (5.0, float("nan"), 5.0)])
def test_a_stated_voxel_size_must_be_above_0(wrong, tmp_path):
    with pytest.raises(InputError, match="numbers above 0"):
        open_volume(write_as("tiff", tmp_path, make_values()), voxel_nm=wrong)


def test_what_is_not_there_or_is_no_volume_is_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"no\.tif: no such file or folder"):
        open_volume(tmp_path / "no.tif")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(VolumeError, match=r"notes\.txt: expected TIFF \(\.tif\), HDF5"):
        open_volume(tmp_path / "notes.txt")
    with pytest.raises(VolumeError, match=r"no\.h5: no such file or folder"):
        open_volume(f"{tmp_path}/no.h5:/raw")


@pytest.mark.parametrize("ending", [".tif", ".png", ".h5", ".mrc"])
@pytest.mark.parametrize("content", [b"", b"no volume at all\n" * 100], ids=["empty", "text"])
def test_a_file_of_another_kind_is_refused_in_one_line(ending, content, tmp_path):
    path = tmp_path / f"odd{ending}"
    path.write_bytes(content)
    with pytest.raises(VolumeError) as refusal:
        open_volume(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    if not content:
        assert "is empty, 0 bytes; copy or save it again" in str(refusal.value)
    elif ending != ".mrc":
        assert "check that it is what its name says" in str(refusal.value)


@pytest.mark.parametrize("kind", [*(kind for kind in FORMATS if kind.startswith("tiff")), "hdf5", "mrc"])
def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(kind, tmp_path):
    values = make_values(np.int8 if kind == "mrc" else np.uint8)
    path = write_as(kind, tmp_path, values)
    whole = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(VolumeError) as refusal:
            open_volume(path)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", DAMAGEABLE)
def test_damage_is_told_when_it_is_read(kind, tmp_path):
    path = write_as(kind, tmp_path, make_values())
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and one.suffix != ".json"]
    for file in files:
        content = bytearray(file.read_bytes())
        middle = len(content) // 2 + 300  # in the pixels of all of them
        content[middle : middle + 100] = bytes(100)
        file.write_bytes(content)
    with open_volume(path) as volume, pytest.raises(VolumeError, match=f"{path.name}.*cannot be read") as refusal:
        volume[:]
    assert "\n" not in str(refusal.value)


def test_metadata_that_state_more_slices_than_there_are_tell_of_damage(tmp_path):
    path = write_as("tiff, zlib with predictor", tmp_path, make_values())
    with tifffile.TiffFile(path) as tiff:
        position = tiff.pages[6].offset
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes(300))  # as if the list of pages ended here
    with pytest.raises(VolumeError, match="its 12 slices, as it says of itself, are not all there"):
        open_volume(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write_as("tiff", tmp_path, make_values())

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tifffile.TiffFile", refuse)
    with pytest.raises(VolumeError, match=r"stack\.tif: cannot be read as TIFF: Permission denied"):
        open_volume(path)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    from streamdetect.errors import MissingExtraError

    path = write_as("hdf5", tmp_path, make_values())
    monkeypatch.delitem(__import__("sys").modules, "segment.volumes.hdf5", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"streamdetect\[segment\]"):
        open_volume(path)
