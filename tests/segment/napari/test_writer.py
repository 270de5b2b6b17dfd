"""Layers as OME-Zarr, read back with `segment.volumes`."""

from __future__ import annotations

import numpy as np
import pytest
from volume_files import make_values

from segment.errors import InputError, VolumeError
from segment.napari.writer import PROBABILITY_LAYER, write_layer
from segment.objects.masks import open_numbers
from segment.volumes import open_volume

VALUES = make_values()
PLACE = {"name": "one", "scale": (0.04, 0.005, 0.005), "units": ("um",) * 3}


@pytest.fixture
def layers(napari):
    from napari import layers

    return layers


@pytest.mark.parametrize("kind", ["image", "levels", "axes of length 1"])
def test_image_and_voxel_size_come_back(layers, tmp_path, kind):
    data = {"image": VALUES, "levels": [VALUES, VALUES[:, ::2, ::2]], "axes of length 1": VALUES[None]}[kind]
    place = {"scale": (1, 0.04, 0.005, 0.005), "units": ("um",) * 4} if data is not VALUES and kind[0] == "a" else PLACE
    layer = layers.Image(data, multiscale=kind == "levels", **{**place, "name": "one"})
    path = tmp_path / "a.ome.zarr"
    assert layer.save(str(path), plugin="streamdetect") == [str(path)]
    with open_volume(path) as volume:
        assert volume.voxel_nm == (40.0, 5.0, 5.0)
        np.testing.assert_array_equal(volume[:], VALUES)


def test_labels_are_written_slab_by_slab(layers, tmp_path, monkeypatch):
    monkeypatch.setattr("segment.napari.writer.SLAB_BYTES", 40_000)  # 2 slices
    layer = layers.Labels(VALUES.astype(np.int64), name="objects")
    layer.save(str(tmp_path / "a.zarr"), plugin="streamdetect")
    with open_numbers(tmp_path / "a.zarr") as volume:
        assert (volume.dtype, volume.voxel_nm) == (np.uint64, None)
        np.testing.assert_array_equal(volume[:], VALUES)


def test_probabilities_are_written_as_predict_writes_them(napari, tmp_path):
    probability = np.linspace(0, 1, VALUES.size, dtype=np.float32).reshape(VALUES.shape)
    write_layer(str(tmp_path / "a.zarr"), probability, {**PLACE, "metadata": {PROBABILITY_LAYER: {}}})
    with open_volume(tmp_path / "a.zarr") as volume:
        np.testing.assert_array_equal(volume[:], np.rint(probability * 255))


def test_a_position_that_is_lost_is_said(napari, tmp_path):
    from napari.utils.notifications import notification_manager

    n_before = len(notification_manager.records)
    write_layer(str(tmp_path / "a.zarr"), VALUES, PLACE)
    write_layer(str(tmp_path / "a.zarr"), VALUES, {**PLACE, "translate": (0, 5, 0)})
    assert [record.message for record in list(notification_manager.records)[n_before:]] == [
        "one: its position is not kept in the file, only its voxel size"
    ]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (VALUES[0], InputError, r"axes z, y and x, found the shape \(40, 56\)"),
        (np.stack([VALUES, VALUES]), InputError, "axes z, y and x"),
        (VALUES.astype(np.float32), VolumeError, "whole numbers, found float32"),
        (-(VALUES.astype(np.int16)), VolumeError, "numbers from 0 on"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(napari, tmp_path, data, error, words):
    with pytest.raises(error, match=f"^one: expected .*{words}"):
        write_layer(str(tmp_path / "a.zarr"), data, PLACE)
    assert not list(tmp_path.iterdir())
