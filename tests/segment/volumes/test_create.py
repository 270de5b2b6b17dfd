from __future__ import annotations

import errno
import os
import signal

import numpy as np
import pytest
import tifffile
import zarr
from volume_files import make_values

from segment.volumes import create_volume, open_volume, write_tiff, write_zarr
from streamdetect.errors import InputError

NAMES = ("out.tif", "out.TIFF", "out.ome.zarr", "out.zarr")
VOXEL_NM = (40.0, 4.6, 5.0)


def _write(path, values, cuts=(), voxel_nm=VOXEL_NM):
    with create_volume(path, values.shape, values.dtype, voxel_nm) as writer:
        for slab in np.split(values, cuts):
            writer.append(slab)


def _read(path):
    """Return all values and the voxel size, of types that `open_volume` refuses too."""
    values = tifffile.imread(path) if path.suffix.lower().startswith(".tif") else zarr.open(str(path))["0"][...]
    with open_volume(path) as volume:
        return values, volume.voxel_nm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("cuts", [(), (1, 2, 3), (5, 20, 21, 33), (16, 32), (0, 7)])
def test_a_volume_comes_back_however_it_is_cut(name, dtype, cuts, tmp_path):
    values = make_values(dtype, (37, 30, 41))
    _write(tmp_path / name, values, cuts)
    with open_volume(tmp_path / name) as volume:
        assert (volume.shape, volume.dtype, volume.voxel_nm) == (values.shape, dtype, VOXEL_NM)
        np.testing.assert_array_equal(volume[:], values)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_instance_labels_of_any_size_come_back(name, dtype, tmp_path):
    values = make_values(dtype, (19, 300, 270))
    _write(tmp_path / name, values)
    found = tifffile.imread(tmp_path / name) if name == "out.tif" else zarr.open(str(tmp_path / name))["0"][...]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("voxel_nm", [None, (5.0, 5.0, 5.0), (29.4117, 3.7, 3.7), (1000.0, 0.25, 333.3333)])
@pytest.mark.parametrize("n_slices", [1, 3])
def test_the_voxel_size_comes_back(name, voxel_nm, n_slices, tmp_path):
    _write(tmp_path / name, make_values(shape=(n_slices, 8, 9)), voxel_nm=voxel_nm)
    with open_volume(tmp_path / name) as volume:
        assert volume.voxel_nm == (None if voxel_nm is None else pytest.approx(voxel_nm, rel=1e-6))


def test_a_tiff_is_what_imagej_reads(tmp_path):
    mask = np.zeros((20, 256, 256), np.uint8)
    mask[5:9, 30:200, 40:100] = 255
    _write(tmp_path / "out.tif", mask, (7,))
    assert (tmp_path / "out.tif").stat().st_size < mask.nbytes / 50
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert (tiff.is_imagej, tiff.is_bigtiff, tiff.series[0].axes) == (True, False, "ZYX")
        stated = tiff.imagej_metadata
        assert (stated["images"], stated["slices"], stated["unit"], stated["spacing"]) == (20, 20, "nm", 40.0)
        page = tiff.pages.first
        # ImageJ before 1.53 knows no predictor with zlib
        assert (page.compression, page.predictor, page.tags["ResolutionUnit"].value) == (8, 1, 1)
        assert page.tags["XResolution"].value == (1, 5)
        assert page.tags["YResolution"].value == (5, 23)


def test_a_large_tiff_is_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(write_tiff, "BIG_TIFF_BYTES", 1000)
    _write(tmp_path / "out.tif", make_values())
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(_read(tmp_path / "out.tif")[0], make_values())


def test_a_zarr_is_ome_zarr_in_compressed_chunks(tmp_path):
    mask = np.zeros((40, 300, 300), np.uint8)
    mask[17:19, 30:200, 40:100] = 255
    _write(tmp_path / "out.ome.zarr", mask)
    group = zarr.open_group(str(tmp_path / "out.ome.zarr"), mode="r")
    (image,) = group.attrs["ome"]["multiscales"]
    assert group.attrs["ome"]["version"] == "0.5"
    assert image["name"] == "out"
    assert image["axes"] == [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    assert image["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [40.0, 4.6, 5.0]}]}
    ]
    array = group["0"]
    assert (array.chunks, array.metadata.zarr_format) == ((16, 256, 256), 3)
    assert array.metadata.dimension_names == ("z", "y", "x")
    n_bytes = sum(one.stat().st_size for one in (tmp_path / "out.ome.zarr").rglob("*") if one.is_file())
    assert n_bytes < mask.nbytes / 100


@pytest.mark.parametrize("name", NAMES)
def test_an_older_result_stays_until_it_is_replaced(name, tmp_path):
    path = tmp_path / name
    older, newer = make_values(seed=1), make_values(shape=(4, 5, 6))
    _write(path, older)
    with create_volume(path, newer.shape, newer.dtype, None) as writer:
        writer.append(newer)
        np.testing.assert_array_equal(_read(path)[0], older)
    found, voxel_nm = _read(path)
    np.testing.assert_array_equal(found, newer)
    assert voxel_nm is None
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("existed", [False, True])
def test_an_error_in_the_block_leaves_what_was_there(error, name, existed, tmp_path):
    values = make_values(shape=(40, 8, 9))
    if existed:
        _write(tmp_path / name, values)

    def fail():
        with create_volume(tmp_path / name, values.shape, values.dtype, VOXEL_NM) as writer:
            writer.append(values[:33] // 2)
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == [name] * existed
    if existed:
        np.testing.assert_array_equal(_read(tmp_path / name)[0], values)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_real_interrupt_while_writing_leaves_nothing(name, tmp_path):
    values = make_values(shape=(64, 256, 256))

    def interrupt_soon():
        with create_volume(tmp_path / name, (6400, 256, 256), values.dtype, None) as writer:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            for _ in range(100):
                writer.append(values)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt_soon()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("n_written", [0, 11])
def test_too_few_slices_are_our_fault_and_leave_nothing(name, n_written, tmp_path):
    values = make_values()

    def stop_early():
        with create_volume(tmp_path / name, values.shape, values.dtype, None) as writer:
            writer.append(values[:n_written])

    with pytest.raises(RuntimeError, match=f"expected 12 slices, got {n_written}"):
        stop_early()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize(
    "slab", [make_values(shape=(13, 40, 56)), make_values(shape=(2, 40, 57)), make_values(np.uint16), make_values()[0]]
)
def test_slices_that_do_not_fit_are_our_fault_and_leave_nothing(name, slab, tmp_path):
    def append():
        with create_volume(tmp_path / name, (12, 40, 56), np.uint8, None) as writer:
            writer.append(slab)

    with pytest.raises(RuntimeError, match=r"expected at most 12 more slices of \(40, 56\) uint8, got"):
        append()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("shape", "dtype"), [((3, 4, 5), np.float32), ((3, 4, 5), np.int16), ((3, 0, 5), np.uint8)])
def test_other_types_and_empty_volumes_are_our_fault(shape, dtype, tmp_path):
    with pytest.raises(ValueError, match="unsigned integers") as refusal:
        create_volume(tmp_path / "out.tif", shape, dtype, None)
    assert not isinstance(refusal.value, InputError)


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_from(n):
    """Return a method of pathlib that works until it was called n times."""
    original, calls = write_zarr.np.asarray, []
    return original, calls, n


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("out.tif", "tifffile.FileHandle.write"),
        ("out.tif", "tifffile.FileHandle.write_array"),
        ("out.tif", "tifffile.FileHandle.close"),
        ("out.zarr", "zarr.storage._local._put"),
        ("out.zarr", "segment.volumes.write_zarr._replace"),
    ],
)
@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(name, where, existed, tmp_path, monkeypatch):
    values = make_values(shape=(40, 8, 9))
    if existed:
        _write(tmp_path / name, values)
    with pytest.raises(InputError) as refusal, monkeypatch.context() as patch:
        patch.setattr(where, _full)
        _write(tmp_path / name, values // 2)
    assert str(refusal.value) == f"{tmp_path / name}: cannot be written: No space left on device"
    assert os.listdir(tmp_path) == [name] * existed
    if existed:
        np.testing.assert_array_equal(_read(tmp_path / name)[0], values)
