"""Layers as volumes: which can be segmented, how large their voxels are, where a part of them lies."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from segment.errors import InputError, VolumeError
from segment.napari.layers import (
    as_unsigned,
    find_voxel_size,
    find_voxels,
    limit_slices,
    place_like,
    shapes_box,
)

VALUES = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)
BOX = (slice(1, 4), slice(5, 15), slice(7, 27))


@pytest.fixture
def layers(napari):
    from napari import layers

    return layers


class Watched:
    """An array that notes how much of it is read."""

    def __init__(self, values):
        self.shape, self.dtype, self.ndim, self.size = values.shape, values.dtype, values.ndim, values.size
        self._values, self.n_read = values, 0

    def __getitem__(self, key):
        values = self._values[key]
        self.n_read += values.size
        return values


def test_only_what_is_asked_for_is_read(layers):
    watched = Watched(VALUES)
    voxels = find_voxels(layers.Image(watched, contrast_limits=(0, 1)))
    watched.n_read = 0
    part = voxels.crop(BOX)
    np.testing.assert_array_equal(part[1:2, 2:4], VALUES[2:3, 7:9, 7:27])
    assert watched.n_read == 2 * 20
    assert (part.shape, part.dtype) == ((3, 10, 20), np.uint16)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "levels", "axes of length 1"])
def test_layers_of_every_kind(layers, kind, tmp_path):
    import dask.array
    import zarr

    data = {
        "numpy": lambda: VALUES,
        "dask": lambda: dask.array.from_array(VALUES, chunks=(2, 7, 9)),
        "zarr": lambda: zarr.create_array(tmp_path / "one.zarr", data=VALUES, chunks=(2, 7, 9)),
        "levels": lambda: [VALUES, VALUES[:, ::2, ::2]],
        "axes of length 1": lambda: VALUES[None, None],
    }[kind]()
    voxels = find_voxels(layers.Image(data, multiscale=kind == "levels"))
    assert voxels.shape == VALUES.shape
    np.testing.assert_array_equal(voxels.crop(BOX)[:], VALUES[BOX])


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (VALUES[0], {}, r"a single picture of \(20, 30\)"),
        (np.zeros((2, 6, 20, 30), np.uint8), {}, "Split Stack"),
        (np.zeros((6, 20, 30, 3), np.uint8), {"rgb": True}, "colours"),
        (VALUES > 3, {}, "8 bits"),
    ],
)
def test_what_is_no_stack_of_grey_values_is_refused(layers, values, options, words):
    with pytest.raises(InputError, match=f"^stack: .*{words}"):
        find_voxels(layers.Image(values, name="stack", **options))


def test_voxel_size_comes_from_scale_and_units(layers):
    assert find_voxel_size(layers.Image(VALUES, scale=(0.04, 0.005, 0.005), units="um")) == (40.0, 5.0, 5.0)
    assert find_voxel_size(layers.Image(VALUES, scale=(40, 5, 5), units=("nm",) * 3)) == (40.0, 5.0, 5.0)
    assert find_voxel_size(layers.Image(VALUES, scale=(40, 5, 5))) is None
    assert find_voxel_size(layers.Image(VALUES[0])) is None


def test_voxel_size_comes_from_the_file_that_napari_read_without_it(napari, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", VALUES, imagej=True, resolution=(200, 200), metadata={"spacing": 0.04, "unit": "um"}
    )
    (layer,) = napari.components.ViewerModel().open(tmp_path / "a.tif", plugin="napari")
    assert find_voxel_size(layer) == (40.0, 5.0, 5.0)
    layer.data = VALUES[:3]  # no longer the file's
    assert find_voxel_size(layer) is None


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (40, 5, 5), "translate": (100, -3, 8)},
        {"scale": (2, 1, 1), "rotate": [[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]], "translate": (1, 2, 3)},
        {"shear": [0.1, 0.2, 0.3], "affine": [[1, 0, 0, 7], [0, 2, 0, 8], [0, 0.5, 3, 9], [0, 0, 0, 1]]},
    ],
)
def test_a_part_lies_where_it_was_cut_out(layers, options):
    layer = layers.Image(VALUES, units=("nm",) * 3, axis_labels=("z", "y", "x"), **options)
    part = layers.Labels(VALUES[BOX], **place_like(layer, [side.start for side in BOX]))
    for index in ((0, 0, 0), (2, 9, 19)):
        there = [i + side.start for i, side in zip(index, BOX, strict=True)]
        np.testing.assert_allclose(part.data_to_world(index), layer.data_to_world(there))
    assert (part.units, part.axis_labels) == (layer.units, layer.axis_labels)


def test_a_part_of_a_layer_with_more_axes_lies_where_it_was_cut_out(layers):
    layer = layers.Image(VALUES[None], scale=(9, 40, 5, 5), translate=(0, 1, 2, 3))
    part = layers.Labels(VALUES[BOX], **place_like(layer, [side.start for side in BOX]))
    np.testing.assert_allclose(part.data_to_world((0, 0, 0)), layer.data_to_world((0, 1, 5, 7))[1:])


def test_region_is_the_box_around_what_is_drawn(layers):
    image = layers.Image(VALUES, scale=(40, 5, 5), translate=(0, 100, 0))
    rectangle = np.array([[4.6, 7], [4.6, 26], [14, 26], [14, 7]]) * 5 + [100, 0]
    assert shapes_box(image, layers.Shapes([rectangle])) == (slice(0, 6), slice(5, 15), slice(7, 27))
    beside = rectangle + np.array([500, 0])
    both = layers.Shapes([rectangle, beside], name="marks")
    both.selected_data = {0}
    assert shapes_box(image, both) == (slice(0, 6), slice(5, 15), slice(7, 27))
    both.selected_data = {1}
    with pytest.raises(InputError, match=r"^region: marks lies beside"):
        shapes_box(image, both)
    with pytest.raises(InputError, match=r"^region: nothing is drawn in none"):
        shapes_box(image, layers.Shapes(name="none"))


def test_region_drawn_on_a_slice_along_another_axis(layers):
    """The rectangle has one y: it says nothing about y."""
    rectangle = np.array([[1, 9, 3], [1, 9, 12], [3, 9, 12], [3, 9, 3]])
    assert shapes_box(layers.Image(VALUES), layers.Shapes([rectangle])) == (slice(1, 4), slice(0, 20), slice(3, 13))


def test_region_is_limited_to_slices():
    assert limit_slices(BOX, 0, 2) == (slice(1, 3), *BOX[1:])
    with pytest.raises(InputError, match="slices 4 to 5: the region has slices 1 to 3"):
        limit_slices(BOX, 4, 5)


def test_whole_numbers_become_unsigned():
    assert as_unsigned(np.array([3], np.int64), "labels").dtype == np.uint64
    assert as_unsigned(np.array([True]), "labels").dtype == np.uint8
    with pytest.raises(VolumeError, match=r"^labels: expected numbers from 0 on, found -1"):
        as_unsigned(np.array([-1]), "labels")
    with pytest.raises(VolumeError, match=r"^labels: expected whole numbers, found float64"):
        as_unsigned(np.array([0.5]), "labels")
