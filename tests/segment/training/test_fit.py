from __future__ import annotations

import re

import numpy as np
import pytest
from blobs import make_blobs, tiny_settings

from segment.errors import InputError
from segment.scoring.metrics import count_voxels
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.fit import Split, fit_model, split_slices
from segment.training.report import write_report
from segment.volumes import create_volume, open_volume

VOXEL_NM = (5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"n_slices": 80}, Split(((0, 62),), (70, 80))),
        ({"n_slices": 100, "validate": (40, 50)}, Split(((0, 32), (58, 100)), (40, 50))),
        ({"n_slices": 100, "test": (80, 100)}, Split(((0, 55),), (63, 72), (80, 100))),
        ({"n_slices": 165, "train": [(0, 98)], "validate": (105, 125)}, Split(((0, 98),), (105, 125))),
    ],
)
def test_slices_are_divided_apart(arguments, expected):
    assert split_slices(**arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_slices": 20}, "18:20 of 20 slices leave no 17 in a row to train on"),
        ({"n_slices": 100, "validate": (90, 101)}, "--validate-slices 90:101: expected 0 <= A < B <= 100"),
        ({"n_slices": 100, "test": (8, 30)}, "--test-slices 8:30: leave no slices before them to choose on"),
        ({"n_slices": 100, "validate": (50, 50)}, "validate-slices 50:50"),
        ({"n_slices": 100, "train": [(0, 60)], "validate": (50, 70)}, "0:60 and 50:70 overlap"),
        ({"n_slices": 100, "train": [(0, 40)], "validate": (40, 50), "test": (49, 60)}, "40:50 and 49:60 overlap"),
        ({"n_slices": 100, "train": [(0, 40)], "validate": (50, 60), "test": (20, 30)}, "0:40 and 20:30 overlap"),
    ],
)
def test_divisions_that_would_cheat_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        split_slices(**arguments)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A tiny network trained on a small volume of blobs, with all that the pipeline makes."""
    folder = tmp_path_factory.mktemp("fit")
    blobs = make_blobs((32, 64, 64))
    for name, values in (("image.tif", blobs.image), ("labels.tif", blobs.labels * np.uint8(255))):
        with create_volume(folder / name, values.shape, np.uint8, VOXEL_NM) as writer:
            writer.append(values)
    image = open_volume(folder / "image.tif")
    split = Split(((0, 16),), (18, 24), (26, 32))
    out = folder / "tiny.onnx"
    result = fit_model(
        image,
        blobs.labels,
        folder / "labels.tif",
        VOXEL_NM,
        split,
        tiny_settings(epochs=8.0),
        out,
        target="blobs",
        command="segment train image.tif labels.tif",
    )
    yield folder, image, blobs.labels, split, result
    image.close()


def test_the_model_file_says_where_it_comes_from(fitted):
    folder, image, _, split, result = fitted
    metadata = SegmentationModel.load(folder / "tiny.onnx").metadata
    assert metadata == result.metadata
    assert metadata.voxel_nm == VOXEL_NM
    assert metadata.training.train_slices == split.train
    assert metadata.training.validate_slices == split.validate
    assert metadata.training.image == image.path.name == "image.tif"
    assert re.fullmatch("[0-9a-f]{64}", metadata.training.labels_sha256)
    assert "keras" in metadata.training.versions
    assert metadata.threshold == result.trained.threshold


def test_the_score_in_the_file_is_that_of_the_file(fitted):
    folder, image, labels, split, result = fitted
    model = SegmentationModel.load(folder / "tiny.onnx")
    for axes in ("z", "zyx"):
        mask = predict_volume(image, model, axes=axes) >= model.metadata.threshold
        counts = count_voxels(mask[slice(*split.test)], labels[slice(*split.test)])
        score = result.metadata.scores[f"test_axes_{axes}"]
        assert score["iou"] == pytest.approx(counts.iou, abs=1e-6)
        assert counts.iou > 0.85
    card = (folder / "tiny.md").read_text()
    assert f"{counts.iou:.4f}" in card
    assert "26:32" in card


def test_the_report_shows_loss_scores_and_slices(fitted, tmp_path):
    folder, image, labels, split, result = fitted
    path = write_report(
        tmp_path / "report.html", result, SegmentationModel.load(folder / "tiny.onnx"), image, labels, split
    )
    html = path.read_text(encoding="utf-8")
    assert html.count('<figure style="text-align: center"><img') == 2
    assert f"{result.metadata.scores['test_axes_z']['iou']:.4f}" in html
    assert "Training of tiny" in html


def test_labels_of_another_shape_are_refused(fitted, tmp_path):
    _, image, labels, split, _ = fitted
    with pytest.raises(InputError, match=r"labels: expected the image's shape"):
        fit_model(image, labels[:-1], tmp_path, VOXEL_NM, split, tiny_settings(), tmp_path / "m.onnx")
