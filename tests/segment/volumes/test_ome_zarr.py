from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from volume_files import make_values, write_ome_zarr

from segment.errors import VolumeError
from segment.volumes import open_volume


def _voxel_nm(path):
    with open_volume(path) as volume:
        return volume.voxel_nm


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "czyx", "tczyx"])
def test_the_finest_level_is_taken_with_its_voxel_size(version, axes, tmp_path):
    values = make_values()
    path = write_ome_zarr(tmp_path / "a.zarr", values, version, axes, "micrometer", (0.04, 0.0046, 0.005))
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume[3:7, :9], values[3:7, :9])
        assert volume.voxel_nm == (40.0, 4.6, 5.0)
        assert (volume.name, volume.path) == ("a.zarr", path)


def test_the_scale_of_the_whole_image_multiplies(tmp_path):
    whole = [{"type": "scale", "scale": [2.0, 10.0, 1.0]}]
    assert _voxel_nm(
        write_ome_zarr(tmp_path / "a.zarr", make_values(), axes="zyx", coordinateTransformations=whole)
    ) == (
        80.0,
        40.0,
        5.0,
    )


@pytest.mark.parametrize("unit", [None, "parsec"])
def test_without_a_unit_the_voxel_size_is_unknown(unit, tmp_path):
    assert _voxel_nm(write_ome_zarr(tmp_path / "a.zarr", make_values(), unit=unit)) is None


@pytest.mark.parametrize("axes", ["xyz", "zyxc", "yzyx", "qzyx"])
def test_other_axes_are_refused(axes, tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", make_values(), axes=axes)
    with pytest.raises(VolumeError, match=f"expected the axes z, y, x, after t and c at most, found {', '.join(axes)}"):
        open_volume(path)


def test_several_channels_are_refused(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", make_values(shape=(2, 8, 9, 10)), axes="czyx")
    with pytest.raises(VolumeError, match=r"others of length 1 only, found shape \(2, 8, 9, 10\)"):
        open_volume(path)


def test_what_bioformats2raw_writes_is_read(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2, attributes={"bioformats2raw.layout": 3})
    group.create_group("OME")
    write_ome_zarr(tmp_path / "a.zarr" / "0", make_values(), "0.4")
    with open_volume(tmp_path / "a.zarr") as volume:
        np.testing.assert_array_equal(volume[:], make_values())
    write_ome_zarr(tmp_path / "a.zarr" / "1", make_values(seed=1), "0.4")
    with pytest.raises(VolumeError, match=r"holds several images; choose one, such as .*a\.zarr.0"):
        open_volume(tmp_path / "a.zarr")
    with open_volume(tmp_path / "a.zarr" / "1") as volume:
        np.testing.assert_array_equal(volume[:], make_values(seed=1))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_of_a_plain_group_the_only_volume_is_taken(zarr_format, tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=zarr_format)
    group.create_array("raw", data=make_values())
    group.create_array("ids", data=np.arange(5))
    with open_volume(tmp_path / "a.zarr") as volume:
        np.testing.assert_array_equal(volume[:], make_values())
        assert volume.voxel_nm is None
    group.create_array("mask", data=make_values())
    with pytest.raises(VolumeError, match=r"holds 2 volumes: .*; choose one: .*a\.zarr.NAME"):
        open_volume(tmp_path / "a.zarr")
    with open_volume(tmp_path / "a.zarr" / "raw") as volume:
        assert volume.shape == make_values().shape


def test_metadata_that_lead_nowhere_are_refused_in_one_line(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", make_values())
    (path / "finest" / "zarr.json").unlink()
    with pytest.raises(VolumeError, match=r"a\.zarr: cannot be read as Zarr: "):
        open_volume(path)
    described = json.loads((path / "zarr.json").read_text())
    described["attributes"]["ome"]["multiscales"] = 3
    (path / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(VolumeError, match=r"a\.zarr: cannot be read as Zarr: "):
        open_volume(path)
