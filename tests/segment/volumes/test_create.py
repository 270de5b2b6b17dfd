from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from volume_files import make_values

from segment.volumes import create_volume, open_volume, write_tiff
from streamdetect.errors import InputError

NAMES = ("out.tif", "out.TIFF", "out.ome.zarr", "out.zarr")
VOXEL_NM = (40.0, 4.6, 5.0)


def _write(path, values, cuts=(), voxel_nm=VOXEL_NM):
    with create_volume(path, values.shape, values.dtype, voxel_nm) as writer:
        for slab in np.split(values, cuts):
            writer.append(slab)


def _read(path):
    with open_volume(path) as volume:
        return volume[:], volume.voxel_nm


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
    values = make_values(dtype, (17, 20, 270))
    _write(tmp_path / name, values)
    found = tifffile.imread(tmp_path / name) if name == "out.tif" else zarr.open(str(tmp_path / name))["0"][...]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize(
    "voxel_nm", [None, (5.0, 5.0, 5.0), (29.4117, 3.7, 3.7), (1000.0, 0.25, 5000.1234567), np.array([40, 5, 5])]
)
@pytest.mark.parametrize("n_slices", [1, 3])
def test_the_voxel_size_comes_back(name, voxel_nm, n_slices, tmp_path):
    _write(tmp_path / name, make_values(shape=(n_slices, 8, 9)), voxel_nm=voxel_nm)
    with open_volume(tmp_path / name) as volume:
        assert volume.voxel_nm == (None if voxel_nm is None else pytest.approx(tuple(voxel_nm), rel=1e-6))


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


@contextmanager
def _alarm_as_ctrl_c():
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_real_interrupt_while_writing_leaves_nothing(name, tmp_path):
    values = make_values(shape=(64, 256, 256))

    def interrupt_soon():
        with create_volume(tmp_path / name, (6400, 256, 256), values.dtype, None) as writer:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            for _ in range(100):
                writer.append(values)

    with _alarm_as_ctrl_c(), pytest.raises(KeyboardInterrupt):
        interrupt_soon()
    assert os.listdir(tmp_path) == []


def test_a_chunk_that_is_being_written_does_not_bring_the_folder_back(tmp_path, monkeypatch):
    folder, is_done, pause = tmp_path / ".out.zarr.partial", threading.Event(), threading.Event()
    put = zarr.storage.LocalStore.set

    def watch():
        for _ in range(20):
            if not folder.exists() or pause.wait(0.01):
                return

    async def put_late(store, key, value):
        if "/c/" not in key:
            return await put(store, key, value)
        os.kill(os.getpid(), signal.SIGALRM)
        await asyncio.to_thread(watch)  # until the folder is removed too early, or 0.2 s
        await put(store, key, value)
        is_done.set()

    monkeypatch.setattr(zarr.storage.LocalStore, "set", put_late)
    with _alarm_as_ctrl_c(), pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "out.zarr", make_values())
    assert is_done.wait(5)
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


@contextmanager
def _fails(where, monkeypatch):
    """Let a function raise what a full disk raises."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        yield


@contextmanager
def _small_files(n_bytes):
    """Let the system refuse to write beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("out.tif", "tifffile.FileHandle.write"),
        ("out.zarr", "zarr.storage.LocalStore.set"),
        ("out.zarr", "segment.volumes.write_zarr._replace"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(name, where, existed, tmp_path, monkeypatch):
    values = make_values(shape=(40, 8, 9))
    if existed:
        _write(tmp_path / name, values)
    with _fails(where, monkeypatch), pytest.raises(InputError) as refusal:
        _write(tmp_path / name, values // 2)
    assert str(refusal.value) == f"{tmp_path / name}: cannot be written: No space left on device"
    assert os.listdir(tmp_path) == [name] * existed
    if existed:
        np.testing.assert_array_equal(_read(tmp_path / name)[0], values)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("n_bytes", [100, 3000, 300_000])
def test_a_refusal_of_the_system_is_one_line_and_leaves_nothing(name, n_bytes, tmp_path):
    values = make_values(shape=(48, 256, 256))
    with _small_files(n_bytes), pytest.raises(InputError) as refusal:
        _write(tmp_path / name, values, (7, 20))
    assert str(refusal.value) == f"{tmp_path / name}: cannot be written: File too large"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 40, 50)])
def test_the_last_byte_counts(name, shape, tmp_path):
    """A library may keep the last bytes until the file is closed, and not tell when they find no room."""
    values = make_values(shape=shape)
    _write(tmp_path / name, values)
    files = [tmp_path / name] if name == "out.tif" else (tmp_path / name).rglob("*")
    n_bytes = max(one.stat().st_size for one in files if one.is_file())
    with _small_files(n_bytes):
        _write(tmp_path / name, values)
    with _small_files(n_bytes - 1), pytest.raises(InputError, match="cannot be written: File too large"):
        _write(tmp_path / name, values // 1)
    np.testing.assert_array_equal(_read(tmp_path / name)[0], values)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("shape", [(1, 4, 5), (12, 40, 56)])
def test_a_full_device_is_one_line_and_leaves_nothing(shape, tmp_path):
    (tmp_path / ".out.tif.partial").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"out\.tif: cannot be written: No space left on device"):
        _write(tmp_path / "out.tif", make_values(shape=shape))
    assert os.listdir(tmp_path) == []


def test_of_two_results_the_one_that_cannot_be_written_is_named(tmp_path):
    values = make_values(shape=(48, 256, 256))

    def write_both():
        with (
            create_volume(tmp_path / "mask.tif", values.shape, np.uint8, None) as mask,
            create_volume(tmp_path / "probability.tif", values.shape, np.uint8, None) as probability,
        ):
            mask.append(values)
            probability.append(values // 255)

    with _small_files(300_000), pytest.raises(InputError, match=r"mask\.tif: cannot be written: File too large"):
        write_both()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_what_an_earlier_run_left_behind_does_not_matter(name, tmp_path):
    if name == "out.tif":
        (tmp_path / ".out.tif.partial").write_bytes(b"half")
    else:
        _write(tmp_path / "other.zarr", make_values(seed=1))
        (tmp_path / "other.zarr").rename(tmp_path / ".out.zarr.partial")
    _write(tmp_path / name, make_values())
    np.testing.assert_array_equal(_read(tmp_path / name)[0], make_values())
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out.png", "out", "out.ome", "tif", "out.h5"])
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: expected a name that ends in \.tif, \.tiff, \.zarr or \.ome\.zarr"):
        create_volume(tmp_path / name, (3, 4, 5), np.uint8, None)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_folder_that_does_not_exist_is_refused_before_the_work(name, tmp_path):
    with (
        pytest.raises(InputError, match=rf"{name}: "),
        create_volume(tmp_path / "no" / name, (3, 4, 5), np.uint8, None),
    ):
        pytest.fail("the block began")


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path)], ids=["folder", "pipe"])
def test_a_tiff_does_not_take_the_place_of_something_else(make, tmp_path):
    make(tmp_path / "out.tif")
    with (
        pytest.raises(InputError, match=r"out\.tif: is no regular file"),
        create_volume(tmp_path / "out.tif", (3, 4, 5), np.uint8, None),
    ):
        pytest.fail("the block began")


def _folder(path):
    path.mkdir()
    (path / "thesis.txt").write_text("the only copy")


def _plain_zarr(path):
    zarr.save_array(str(path), make_values())


@pytest.mark.parametrize(
    "make", [_folder, _plain_zarr, lambda path: path.write_text("x")], ids=["folder", "array", "file"]
)
def test_a_zarr_takes_the_place_of_an_ome_zarr_only(make, tmp_path):
    make(tmp_path / "out.zarr")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(InputError, match=r"out\.zarr: exists and is no OME-Zarr; choose another name, or remove it"),
        create_volume(tmp_path / "out.zarr", (3, 4, 5), np.uint8, None),
    ):
        pytest.fail("the block began")
    assert sorted(tmp_path.rglob("*")) == before


def test_behind_a_link_the_zarr_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "big").mkdir()
    _write(tmp_path / "big" / "real.zarr", make_values(seed=1))
    (tmp_path / "out.zarr").symlink_to(tmp_path / "big" / "real.zarr")
    _write(tmp_path / "out.zarr", make_values())
    assert (tmp_path / "out.zarr").is_symlink()
    assert os.listdir(tmp_path / "big") == ["real.zarr"]
    np.testing.assert_array_equal(_read(tmp_path / "big" / "real.zarr")[0], make_values())


def test_if_the_new_zarr_cannot_be_moved_in_the_older_is_back(tmp_path, monkeypatch):
    _write(tmp_path / "out.zarr", make_values(seed=1))
    rename = Path.rename

    def refuse(path, target):
        if path.name == ".out.zarr.partial":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InputError, match="cannot be written: Input/output error"):
        _write(tmp_path / "out.zarr", make_values())
    np.testing.assert_array_equal(_read(tmp_path / "out.zarr")[0], make_values(seed=1))
    assert os.listdir(tmp_path) == ["out.zarr"]
