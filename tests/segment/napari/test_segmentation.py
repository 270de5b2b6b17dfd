"""What the worker's thread does, with no viewer."""

from __future__ import annotations

import numpy as np
import pytest

from networks import make_pointwise, make_unet
from segment.errors import InputError
from segment.napari.layers import LayerVoxels
from segment.napari.segmentation import Segmented, Task, find_objects, grow_box, measure_labels, segment_region
from segment.objects.measure import measure_objects
from segment.serving.model import SegmentationModel
from segment.serving.predict import Cancelled, predict_volume

SHAPE = (14, 90, 110)
VOXEL_NM = (5.0, 5.0, 5.0)
REGION = (slice(4, 11), slice(37, 66), slice(41, 90))
PLENTY = 2**40


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def make_task(image, model, region=REGION, **options) -> Task:
    whole = tuple(slice(0, n) for n in image.shape)
    options = {"voxel_nm": VOXEL_NM, "device": "cpu", **options}
    return Task(LayerVoxels(image, whole, "stack"), region, str(model), **options)


def ignore(n_done, n_total):
    """Take progress."""


def never():
    return False


@pytest.mark.parametrize("axes", ["z", "y", "zyx"])
def test_region_equals_its_part_of_the_whole(image, tmp_path, axes):
    path = make_unet(tmp_path / "m.onnx")
    model = SegmentationModel.load(path, device="cpu")
    whole = predict_volume(image, model, axes=axes, voxel_nm=VOXEL_NM)
    segmented = segment_region(make_task(image, path, axes=axes), PLENTY, ignore, never)
    np.testing.assert_allclose(segmented.probability, whole[REGION], atol=1e-5)
    assert np.ptp(segmented.probability) > 0.1


def test_region_of_another_voxel_size_is_close_to_its_part_of_the_whole(image, tmp_path):
    """The two are sampled at different places, so that they differ, but not by much at most voxels."""
    path = make_unet(tmp_path / "m.onnx")
    model = SegmentationModel.load(path, device="cpu")
    coarse = (5.0, 10.0, 10.0)
    whole = predict_volume(image, model, voxel_nm=coarse)
    segmented = segment_region(make_task(image, path, voxel_nm=coarse), PLENTY, ignore, never)
    assert segmented.probability.shape == whole[REGION].shape
    assert np.abs(segmented.probability - whole[REGION]).mean() < 0.1 * whole.std()


def test_only_what_the_network_sees_is_read(tmp_path):
    metadata = SegmentationModel.load(make_unet(tmp_path / "m.onnx"), device="cpu").metadata  # stride 4, halo 12
    assert grow_box(REGION, (1000,) * 3, metadata, "z", (1.0,) * 3) == (slice(0, 12), slice(24, 80), slice(28, 104))
    assert grow_box(REGION, SHAPE, metadata, "zyx", (1.0,) * 3) == (slice(0, 14), slice(24, 80), slice(28, 104))


def test_a_region_for_which_memory_does_not_suffice_is_refused(image, tmp_path):
    task = make_task(image, make_pointwise(tmp_path / "m.onnx"))
    with pytest.raises(InputError, match=r"^region of 7 × 29 × 49 voxels: .* choose a smaller region"):
        segment_region(task, 100_000, ignore, never)


def test_remarks_name_the_fields_of_the_panel(image, tmp_path):
    task = make_task(image, make_pointwise(tmp_path / "m.onnx"), voxel_nm=None)
    segmented = segment_region(task, PLENTY, ignore, never)
    assert segmented.voxel_nm == VOXEL_NM  # the model's
    assert any("give “voxel size”" in remark for remark in segmented.remarks)


def test_cancelled_while_the_network_runs(image, tmp_path):
    done: list[int] = []
    task = make_task(image, make_pointwise(tmp_path / "m.onnx"))
    with pytest.raises(Cancelled):
        segment_region(task, PLENTY, lambda n, total: done.append(n), lambda: len(done) > 2)
    assert max(done) < image[REGION].size


@pytest.fixture
def segmented(tmp_path) -> Segmented:
    """Two dark balls, one of them cut by the region, and a speck."""
    z, y, x = np.ogrid[:20, :40, :60]
    image = np.full((20, 40, 60), 200, np.uint8)
    for center, radius in (((10, 12, 20), 5), ((10, 30, 44), 6), ((10, 30, 20), 1)):
        image[(z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= radius**2] = 20
    task = make_task(image, make_pointwise(tmp_path / "m.onnx"), (slice(2, 18), slice(4, 38), slice(8, 46)))
    return segment_region(task, PLENTY, ignore, never)


def test_objects_lie_where_they_lie_in_the_layer(segmented):
    found = find_objects(segmented, 0.5, 10, ignore, never)
    second, first = found.objects
    assert (first.centroid_z_voxel, first.centroid_y_voxel, first.centroid_x_voxel) == pytest.approx((10, 12, 20))
    assert first.centroid_x_nm == pytest.approx(100)
    assert (first.box_y_start_voxel, first.box_y_stop_voxel) == (7, 18)
    assert (first.touches_border, second.touches_border) == (False, True)
    np.testing.assert_array_equal(np.unique(found.labels), [0, 1, 2])
    alone = measure_objects(found.labels, VOXEL_NM)
    assert [one.surface_nm2 for one in found.objects] == [one.surface_nm2 for one in alone]


def test_threshold_and_size_decide(segmented):
    assert len(find_objects(segmented, 0.5, 0, ignore, never).objects) == 3
    assert len(find_objects(segmented, 0.5, 600, ignore, never).objects) == 1
    assert find_objects(segmented, 1.0, 0, ignore, never).objects == []


def test_measuring_tells_how_far_it_is_and_can_be_given_up(segmented):
    done = []
    labels = find_objects(segmented, 0.5, 0, lambda n, total: done.append((n, total)), never).labels
    assert done == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        measure_labels(labels, segmented, ignore, lambda: True)
