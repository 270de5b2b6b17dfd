from __future__ import annotations

import h5py
import numpy as np
import pytest
from volume_files import make_values

from segment.errors import VolumeError
from segment.volumes import open_volume, read_labels


@pytest.fixture
def cremi(tmp_path):
    """An image and labels in one file."""
    path = tmp_path / "cremi.hdf"
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = make_values()
        file["volumes/labels/mask"] = (make_values(seed=1) > 200).astype(np.uint64)
        file["annotations/ids"] = np.arange(5)
        file["annotations/text"] = "a synapse"
    return path


@pytest.mark.parametrize("suffix", [":/volumes/raw", "::volumes/raw", ":volumes/raw"])
def test_a_dataset_is_chosen_by_its_path(cremi, suffix):
    with open_volume(f"{cremi}{suffix}") as volume:
        np.testing.assert_array_equal(volume[:], make_values())
        assert (volume.name, volume.path) == ("cremi.hdf:/volumes/raw", cremi)
    labels = read_labels(f"{cremi}:/volumes/labels/mask", shape=volume.shape)
    np.testing.assert_array_equal(labels, make_values(seed=1) > 200)


def test_more_than_one_volume_is_refused_with_their_names(cremi):
    with pytest.raises(VolumeError) as refusal:
        open_volume(cremi)
    assert str(refusal.value) == (
        f"{cremi}: holds 2 volumes: /volumes/labels/mask (12, 40, 56), /volumes/raw (12, 40, 56); choose one: "
        f"{cremi}:/path/to/dataset"
    )


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        (":/volumes/wrong", "expected the dataset /volumes/wrong, found .*/volumes/raw"),
        (":/volumes", "expected the dataset /volumes, found"),
        (":/annotations/ids", r"expected numbers with three axes, \(z, y, x\), found /annotations/ids of shape \(5,\)"),
        (":/annotations/text", "expected numbers with three axes"),
    ],
)
def test_a_dataset_that_is_not_there_or_no_volume_is_refused(cremi, suffix, found):
    with pytest.raises(VolumeError, match=found):
        open_volume(f"{cremi}{suffix}")


def test_a_file_without_a_volume_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plane"] = np.zeros((5, 6))
    with pytest.raises(VolumeError, match=r"expected an array with three axes, \(z, y, x\), found /plane \(5, 6\)"):
        open_volume(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w"):
        pass
    with pytest.raises(VolumeError, match="found no array"):
        open_volume(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("attributes", "voxel_nm"),
    [
        ({}, None),
        ({"element_size_um": [0.04, 0.0046, 0.005]}, (40, 4.6, 5)),
        ({"element_size_um": np.array([0.04, 0.0046, 0.005], np.float32)}, (40, 4.6, 5)),
        ({"resolution_nm": (40, 4, 4)}, (40, 4, 4)),
        ({"voxel_size": (40.0, 4.0, 4.0), "unit": "nm"}, (40, 4, 4)),
        ({"resolution": (0.04, 0.004, 0.004), "units": "micrometers"}, (40, 4, 4)),
        ({"resolution": (40, 4, 4)}, None),
        ({"resolution": (40, 4, 4), "unit": "furlong"}, None),
        ({"element_size_um": (0.04, 0.004)}, None),
        ({"element_size_um": (0.04, 0.004, 0)}, None),
        ({"element_size_um": "0.04, 0.004, 0.004"}, None),
        ({"element_size_um": (0.04, 0.005, 0.005), "resolution": (1, 1, 1), "unit": "nm"}, (40, 5, 5)),
    ],
)
def test_a_voxel_size_is_read_where_its_unit_is_clear(attributes, voxel_nm, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = make_values()
        file["raw"].attrs.update(attributes)
    with open_volume(tmp_path / "a.h5") as volume:
        assert volume.voxel_nm == voxel_nm


def test_a_compression_that_is_not_installed_is_refused_when_it_is_opened(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=make_values(), compression="lzf")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(
        VolumeError, match=r"/raw is compressed with filter 32000 \(lzf\), which is not installed; .*h5repack"
    ):
        open_volume(tmp_path / "a.h5")
