"""Files as layers: values, voxel size, nothing read before it is looked at."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import zarr
from volume_files import make_values, write_as, write_ome_zarr

from segment.errors import VolumeError
from segment.napari.lazy import LazyArray
from segment.napari.reader import get_reader
from segment.volumes import create_volume

VALUES = make_values()


@pytest.fixture
def model(napari):
    """A viewer without a window."""
    return napari.components.ViewerModel()


@pytest.mark.parametrize("kind", ["hdf5, gzip", "mrc", "zarr 3", "ome-zarr 0.4", "ome-zarr 0.5", "slices, png"])
def test_napari_opens_it(model, tmp_path, kind):
    path = write_as(kind, tmp_path, VALUES)
    (layer, *others) = model.open(path, plugin="streamdetect")
    assert (layer._type_string, others) == ("image", [])
    finest = layer.data[0] if layer.multiscale else layer.data
    assert isinstance(finest, LazyArray)
    np.testing.assert_array_equal(finest, VALUES)


def test_voxel_size_becomes_the_scale_in_nm(model, tmp_path):
    write_ome_zarr(tmp_path / "a.ome.zarr", VALUES, unit="micrometer", scale=(0.04, 0.004, 0.005))
    (layer,) = model.open(tmp_path / "a.ome.zarr", plugin="streamdetect")
    np.testing.assert_allclose(layer.scale, (40, 4, 5))
    assert {str(unit) for unit in layer.units} == {"nanometer"}
    assert layer.axis_labels == ("z", "y", "x")
    zarr.save_array(str(tmp_path / "b.zarr"), VALUES)
    (layer,) = model.open(tmp_path / "b.zarr", plugin="streamdetect")
    assert {str(unit) for unit in layer.units} == {"pixel"}


def test_coarser_levels_are_shown_from_afar(model, tmp_path):
    (layer,) = model.open(write_ome_zarr(tmp_path / "a.ome.zarr", VALUES), plugin="streamdetect")
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(12, 40, 56), (2, 14, 19)]
    assert (np.asarray(layer.data[1]) == 7).all()


def test_every_volume_of_an_hdf5_file_is_opened(model, tmp_path):
    labels = (VALUES // 32).astype(np.uint64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"], file["volumes/labels"], file["offset"] = VALUES, labels, [1, 2, 3]
    first, second = model.open(tmp_path / "a.h5", plugin="streamdetect")
    assert [first.name, second.name] == ["a.h5:/volumes/labels", "a.h5:/volumes/raw"]
    np.testing.assert_array_equal(first.data, labels)
    np.testing.assert_array_equal(second.data, VALUES)


@pytest.mark.parametrize("editable_bytes", [2**30, 0])
def test_numbered_objects_become_labels(model, tmp_path, monkeypatch, editable_bytes):
    """Small ones in memory, where they can be painted on."""
    monkeypatch.setattr("segment.napari.reader.EDITABLE_BYTES", editable_bytes)
    with create_volume(tmp_path / "a.ome.zarr", VALUES.shape, np.uint32, (5, 5, 5)) as writer:
        writer.append(VALUES.astype(np.uint32))
    (layer,) = model.open(tmp_path / "a.ome.zarr", plugin="streamdetect")
    assert layer._type_string == "labels"
    assert isinstance(layer.data, np.ndarray if editable_bytes else LazyArray)
    np.testing.assert_array_equal(layer.data, VALUES)


def test_a_layer_reads_the_slice_that_it_shows(model, tmp_path, monkeypatch):
    from segment.objects.masks import Numbers

    read = []
    whole = Numbers.__getitem__
    monkeypatch.setattr(Numbers, "__getitem__", lambda self, key: read.append(key) or whole(self, key))
    model.open(write_as("mrc", tmp_path, VALUES), plugin="streamdetect")
    read.clear()
    model.dims.set_point(0, 7)
    assert read
    assert {(z.start, z.stop) for z, _, _ in read} == {(7, 8)}


def test_other_folders_and_several_files_are_left_to_napari(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    assert get_reader(str(tmp_path)) is None
    assert get_reader(["a.h5", "b.h5"]) is None


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"no HDF5")
    reader = get_reader(str(path))
    with pytest.raises(VolumeError, match=f"^{path}: cannot be read as HDF5: .*"):
        reader(str(path))


@pytest.mark.parametrize(
    "key",
    [3, -1, (slice(None), 4), (..., 5), (1, ..., slice(5, 1, -2)), slice(2, 2), (slice(1, 9, 3), slice(-5, None), -2)],
)
def test_lazy_array_is_sliced_as_numpy_does(key):
    lazy = LazyArray(VALUES)
    np.testing.assert_array_equal(lazy[key], VALUES[key])
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.dtype) == (VALUES.shape, 3, VALUES.size, VALUES.dtype)


@pytest.mark.parametrize("key", [12, -13, (0, 0, 0, 0), (0, 99)])
def test_lazy_array_refuses_what_numpy_refuses(key):
    with pytest.raises(IndexError):
        LazyArray(VALUES)[key]
