"""The panel in a real viewer: a click on Segment, and what comes of it."""

from __future__ import annotations

import csv
import sys
import threading

import numpy as np
import pytest
from volume_files import write_ome_zarr

from networks import make_pointwise
from segment.objects.instances import label_objects
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.synthetic import simulate_volume
from segment.volumes import open_volume

VOXEL_NM = (5.0, 5.0, 5.0)
SHAPE = (12, 96, 128)


@pytest.fixture(scope="module")
def stack():
    return simulate_volume(SHAPE, seed=3).image


@pytest.fixture(autouse=True)
def stray(monkeypatch):
    """Errors in what Qt calls, at which PyQt would abort the process otherwise."""
    stray: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: stray.append(error))
    yield
    if stray:
        raise stray[0]


@pytest.fixture
def panel(viewer, until):
    """The panel as the Plugins menu opens it, in an empty viewer."""
    viewer.layers.clear()
    dock, panel = viewer.window.add_plugin_dock_widget("streamdetect")
    yield panel
    panel.cancel.click()
    until(lambda: panel.segment.isEnabled())
    viewer.window.remove_dock_widget(dock)
    viewer.dims.ndisplay = 2


@pytest.fixture
def said(monkeypatch):
    """What was said in notifications: the text, or the error where there is a traceback to look at."""
    from napari.utils.notifications import notification_manager

    said: list[object] = []
    notice = lambda event: said.append(getattr(event, "exception", None) or event.message)  # noqa: E731
    notification_manager.notification_ready.connect(notice)
    yield said
    notification_manager.notification_ready.disconnect(notice)


@pytest.fixture
def dark(tmp_path, panel):
    """A quick model, to which dark is foreground, chosen in the panel."""
    path = make_pointwise(tmp_path / "dark.onnx", threshold=0.25)
    panel.form.model.choose(str(path))
    return path


def add_stack(viewer, stack, **options):
    return viewer.add_image(stack, **{"name": "stack", "scale": VOXEL_NM, "units": ("nm",) * 3, **options})


def segment(panel, until):
    panel.segment.click()
    until(lambda: panel.segment.isEnabled())


def test_segments_with_the_shipped_model_as_the_command_does(viewer, panel, stack, until):
    image = add_stack(viewer, stack, translate=(10, 20, 30))
    segment(panel, until)
    _, probability, labels = viewer.layers
    assert (probability.name, labels.name) == ("stack mitochondria probability", "stack mitochondria")
    model = SegmentationModel.load("mitochondria-epfl-plus", device="cpu")
    expected = predict_volume(stack, model, voxel_nm=VOXEL_NM)
    np.testing.assert_allclose(probability.data, expected, atol=1e-6)
    objects, n_objects = label_objects(probability.data >= np.float32(model.metadata.threshold), min_voxels=500)
    assert n_objects > 0
    np.testing.assert_array_equal(labels.data, objects)
    for layer in (probability, labels):
        np.testing.assert_array_equal(layer.scale, image.scale)
        np.testing.assert_array_equal(layer.translate, image.translate)
        assert layer.units == image.units
    assert labels.features["index"].tolist() == list(range(1, n_objects + 1))
    assert len(panel.table.objects) == panel.table.model().rowCount() == n_objects
    assert panel.status.text().startswith(f"{n_objects} objects")
    assert probability.metadata["segment_probability"]["provider"] == "CPUExecutionProvider"


def test_threshold_finds_objects_anew_without_the_network(viewer, panel, stack, dark, until, monkeypatch):
    add_stack(viewer, stack)
    segment(panel, until)
    labels = viewer.layers["stack mitochondria"]
    probability = viewer.layers["stack mitochondria probability"].data
    monkeypatch.setattr(SegmentationModel, "predict", None)
    panel.min_voxels.setValue(100)
    panel.threshold.setValue(0.9)
    until(lambda: not np.any(labels.data[probability < 0.9]))
    until(lambda: panel.segment.isEnabled())
    np.testing.assert_array_equal(labels.data, label_objects(probability >= 0.9, min_voxels=100)[0])
    assert len(viewer.layers) == 3
    assert len(panel.table.objects) == labels.data.max()


def test_what_was_painted_is_measured_and_never_overwritten(viewer, panel, stack, dark, until):
    add_stack(viewer, stack)
    segment(panel, until)
    mine = viewer.layers["stack mitochondria"]
    n_before = len(panel.table.objects)
    mine.data_setitem((np.repeat([0, 1], 4), np.tile([1, 1, 2, 2], 2), np.tile([1, 2, 1, 2], 2)), 9999)
    mine.brush_size = 3
    mine.paint((2, 2, 2), 9999)
    panel.measure.click()
    until(lambda: panel.segment.isEnabled())
    assert panel.table.objects[-1].label == 9999
    assert len(panel.table.objects) >= n_before
    painted = mine.data.copy()
    panel.threshold.setValue(0.9)
    until(lambda: len(viewer.layers) == 4)
    np.testing.assert_array_equal(mine.data, painted)


def test_a_row_leads_to_its_object(viewer, panel, stack, dark, until):
    add_stack(viewer, stack, translate=(100, 0, 0))
    panel.form.first.setValue(4)
    segment(panel, until)
    labels = viewer.layers["stack mitochondria"]
    row = len(panel.table.objects) - 1
    panel.table.selectRow(row)
    one = panel.table.objects[row]
    assert labels.selected_label == one.label
    z = int(labels.world_to_data(viewer.dims.point)[0].round())
    assert (labels.data[z] == one.label).any()
    center = np.array([one.centroid_y_nm, one.centroid_x_nm])
    np.testing.assert_allclose(viewer.scene.camera.center[1:], center)
    assert viewer.dims.point[0] == pytest.approx(100 + one.centroid_z_nm, abs=2.5)


def test_table_is_sorted_and_saved(viewer, panel, stack, dark, until, tmp_path):
    from qtpy.QtCore import Qt

    add_stack(viewer, stack)
    panel.min_voxels.setValue(0)
    segment(panel, until)
    panel.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    model = panel.table.model()
    volumes = [float(model.index(row, 1).data()) for row in range(model.rowCount())]
    assert volumes == sorted(volumes, reverse=True)
    assert len(volumes) > 1
    panel.table.save(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == [one.label for one in panel.table.objects]


def test_region_drawn_and_slices(viewer, panel, stack, dark, until):
    add_stack(viewer, stack, translate=(0, 50, 0))
    corners = np.array([[10, 20], [10, 59], [49, 59], [49, 20]]) * 5 + np.array([50, 0])
    shapes = viewer.add_shapes([corners], name="marks")
    panel.form.region.choose(shapes)
    panel.form.first.setValue(3)
    panel.form.last.setValue(8)
    segment(panel, until)
    probability = viewer.layers["stack mitochondria probability"]
    assert probability.data.shape == (6, 40, 40)
    np.testing.assert_array_equal(probability.translate, (15, 100, 100))


def test_region_in_view(viewer, panel, stack, dark, until):
    image = add_stack(viewer, stack)
    viewer.scene.camera.center = (0, 40 * 5, 60 * 5)
    viewer.scene.camera.zoom = 4
    until(lambda: image.corner_pixels[0].any())
    panel.form.region.choose("what is in view")
    segment(panel, until)
    first, last = image.corner_pixels
    probability = viewer.layers["stack mitochondria probability"]
    assert probability.data.shape == (12, *(last - first)[1:] + 1)
    assert probability.data.shape != stack.shape
    np.testing.assert_array_equal(probability.translate, (0, *first[1:] * 5))


def test_region_in_view_of_3d_is_refused(viewer, panel, stack, said):
    add_stack(viewer, stack)
    viewer.dims.ndisplay = 3
    panel.form.region.choose("what is in view")
    panel.segment.click()
    assert said == ["region: the view is in 3-D, where what is seen is no box; switch to 2-D, or draw a rectangle"]


def test_a_file_with_levels_is_segmented_at_its_finest(viewer, panel, stack, dark, until, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", stack, scale=VOXEL_NM)
    viewer.open(path, plugin="streamdetect")
    segment(panel, until)
    probability = viewer.layers["a.ome.zarr mitochondria probability"]
    expected = predict_volume(stack, SegmentationModel.load(dark, device="cpu"), voxel_nm=VOXEL_NM)
    np.testing.assert_allclose(probability.data, expected, atol=1e-6)
    probability.save(str(tmp_path / "p.ome.zarr"), plugin="streamdetect")
    with open_volume(tmp_path / "p.ome.zarr") as written:
        assert written.voxel_nm == VOXEL_NM
        np.testing.assert_array_equal(written[:], np.rint(probability.data * 255))


def test_cancel(viewer, panel, stack, dark, until, monkeypatch):
    """The network waits for the click on Cancel."""
    add_stack(viewer, stack)
    runs, cancelled = threading.Event(), threading.Event()
    predict = SegmentationModel.predict

    def wait(self, *arguments):
        runs.set()
        assert cancelled.wait(60)
        return predict(self, *arguments)

    monkeypatch.setattr(SegmentationModel, "predict", wait)
    panel.segment.click()
    until(runs.is_set)
    assert not panel.segment.isEnabled()
    panel.cancel.click()
    cancelled.set()
    until(lambda: panel.segment.isEnabled())
    assert panel.status.text() == "cancelled"
    assert not panel.cancel.isEnabled()
    assert len(viewer.layers) == 1


def test_progress_is_shown(viewer, panel, stack, dark, until):
    add_stack(viewer, stack)
    shown = []
    panel.bar.valueChanged.connect(shown.append)
    segment(panel, until)
    assert sum(0 < value < panel.bar.maximum() for value in shown) > 2


def test_closing_the_panel_gives_up_the_work(viewer, stack, until, monkeypatch):
    viewer.layers.clear()
    add_stack(viewer, stack)
    dock, panel = viewer.window.add_plugin_dock_widget("streamdetect")
    runs, closed = threading.Event(), threading.Event()
    predict = SegmentationModel.predict
    monkeypatch.setattr(
        SegmentationModel, "predict", lambda *arguments: runs.set() or (closed.wait(60) and predict(*arguments))
    )
    panel.segment.click()
    until(runs.is_set)
    worker = panel._worker
    viewer.window.remove_dock_widget(dock)
    assert worker.abort_requested
    closed.set()
    until(lambda: not worker.is_running)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((20, 30), np.uint8), "stack: expected a stack with the axes z, y and x, found a single picture"),
        (np.zeros((12, 96, 128), np.uint8), "stack: next to nothing but the intensity 0"),
    ],
)
def test_what_cannot_be_segmented_is_said_in_one_line(viewer, panel, dark, said, until, values, words):
    viewer.add_image(values, name="stack")
    segment(panel, until)
    (message,) = said
    assert message.startswith(words)
    assert "\n" not in message
    assert panel.status.text() == message
    assert len(viewer.layers) == 1


def test_without_an_image_it_says_what_to_do(viewer, panel, said):
    panel.segment.click()
    (message,) = said
    assert message.startswith("image: there is no image layer; open a stack")


def test_voxel_size_is_shown_and_can_be_changed(viewer, panel, stack, dark, said, until):
    add_stack(viewer, stack, scale=(0.04, 0.005, 0.005), units=("um",) * 3)
    assert panel.form.voxel_size.text() == "40,5,5"
    panel.form.voxel_size.setText("large")
    panel.segment.click()
    panel.form.voxel_size.setText("500")
    segment(panel, until)
    assert [message.partition(":")[0] for message in said] == ["“voxel size” large", "voxels of 500,500,500 nm"]
    add_stack(viewer, stack, scale=(1, 1, 1), units=("pixel",) * 3)
    assert panel.form.voxel_size.text() == ""
    assert panel.form.voxel_size.placeholderText() == "unknown: 5,5,5 is assumed"
    segment(panel, until)
    assert any("no voxel size is stated" in line for line in panel.status.text().splitlines())


def test_a_file_that_is_no_model_leaves_the_choice_as_it_was(viewer, panel, said, tmp_path):
    chosen = panel.form.model.currentText()
    path = tmp_path / "none.onnx"
    path.write_bytes(b"no model")
    panel.form.model.choose(str(path))
    assert panel.form.model.currentText() == chosen
    assert str(said[0]).startswith(str(path))


def test_a_fault_of_the_program_comes_with_its_traceback(viewer, panel, stack, dark, said, until, monkeypatch):
    add_stack(viewer, stack)
    monkeypatch.setattr(SegmentationModel, "predict", lambda *_: 1 / 0)
    segment(panel, until)
    assert isinstance(said[0], ZeroDivisionError)


def test_lists_follow_the_layers(viewer, panel, stack):
    form = panel.form

    def entries(choice):
        return [choice.itemText(index) for index in range(choice.count())]

    first, second = add_stack(viewer, stack, name="first"), add_stack(viewer, stack[:5], name="second")
    assert form.image.currentText() == "second"  # as selected in the list of layers
    assert form.last.value() == 4
    viewer.layers.selection.active = first
    assert (form.image.currentText(), form.last.value()) == ("first", 11)
    first.name = "renamed"
    assert form.image.currentText() == "renamed"
    viewer.layers.remove(second)
    assert entries(form.image) == ["renamed"]
    shapes = viewer.add_shapes(name="marks")
    form.region.choose(shapes)
    assert entries(form.region) == ["whole image", "what is in view", "marks"]
    viewer.layers.remove(shapes)
    assert form.region.currentText() == "whole image"
