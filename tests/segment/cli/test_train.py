from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from blobs import make_blobs

from segment.serving.model import SegmentationModel
from segment.volumes import create_volume, open_volume
from streamdetect.files import file_sha256

QUICK = ("--epochs", "1", "--width", "4", "--depth", "2", "--stem", "1", "--patch", "32", "--precision", "float32")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    blobs = make_blobs((32, 64, 64))
    for name, values in (("image.tif", blobs.image), ("labels.tif", blobs.labels * np.uint8(255))):
        with create_volume(folder / name, values.shape, np.uint8, (5.0, 5.0, 5.0)) as writer:
            writer.append(values)
    with create_volume(folder / "short.tif", (8, 64, 64), np.uint8, (5.0, 5.0, 5.0)) as writer:
        writer.append(blobs.labels[:8] * np.uint8(255))
    with create_volume(folder / "unknown.tif", blobs.image.shape, np.uint8, None) as writer:
        writer.append(blobs.image)
    return folder


def test_train_writes_a_model_a_card_a_report_and_figures(command, volumes, tmp_path):
    out = tmp_path / "m.onnx"
    arguments = ("train", volumes / "image.tif", volumes / "labels.tif", "--out", out, *QUICK)
    slices = ("--train-slices", "0:20", "--validate-slices", "22:26", "--test-slices", "28:32")
    outputs = ("--report", tmp_path / "r.html", "--json", tmp_path / "m.json")
    ended = command(*arguments, *slices, *outputs)
    assert ended.code == 0, ended.err
    assert "test slices, segmented along zyx: IoU" in ended.out
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["steps"] == 20  # 81,920 voxels, 4,096 a step
    assert figures["parity"]["max_difference"] < 1e-4
    assert f"{figures['scores']['test_axes_z']['iou']:.4f}" in ended.out
    assert SegmentationModel.load(out).metadata.axes == "zyx"
    assert (tmp_path / "m.md").is_file()
    assert (tmp_path / "r.html").is_file()
    # a finished run that is resumed writes the same model again, and another one can begin with it
    again = command(*arguments, *slices, "--resume")
    assert again.code == 0, again.err
    ended = command(*arguments[: -len(QUICK) - 1], tmp_path / "next.onnx", *QUICK, "--start", out)
    assert ended.code == 0, ended.err
    assert SegmentationModel.load(tmp_path / "next.onnx").metadata.training.start == "m.onnx"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (("--minutes", "1", "--epochs", "1"), "--minutes and --epochs"),
        (("--validate-slices", "5-9"), "--validate-slices 5-9: expected A:B"),
        (("--validate-slices", "30:40"), "--validate-slices 30:40: expected A:B with 0 <= A < B <= 32"),
        (("--slice-offsets", "a,b"), "--slice-offsets a,b"),
        (("--slice-offsets", "0,1"), "slice_offsets"),
        (("--axes", "zz"), "--axes zz"),
        (("--stem", "3"), "stem: expected 1, 2 or 4"),
        (("--resume",), "there is no checkpoint"),
        (("--start", "nowhere"), "nowhere: no such file"),
        (("--precision", "float64"), "precision"),
        (("--json", "nowhere/m.json"), "--json"),
    ],
)
def test_wrong_options_are_refused_in_one_line(refused, volumes, tmp_path, extra, named):
    out = tmp_path / "m.onnx"
    extra = extra if "--minutes" in extra else (*extra, "--epochs", "0.01")
    assert named in refused(
        "train", volumes / "image.tif", volumes / "labels.tif", "--out", out, "--patch", "32", *extra
    )
    assert not list(tmp_path.iterdir())


def test_wrong_volumes_are_refused_in_one_line(refused, volumes, tmp_path):
    image, labels, out = volumes / "image.tif", volumes / "labels.tif", ("--out", tmp_path / "m.onnx")
    assert "short.tif" in refused("train", image, volumes / "short.tif", *out)
    assert "image.tif" in refused("train", image, image, *out)  # grey values are no labels
    assert "nowhere.tif" in refused("train", volumes / "nowhere.tif", labels, *out)
    assert "--voxel-size" in refused("train", volumes / "unknown.tif", labels, *out)
    assert "must end in .onnx" in refused("train", image, labels, "--out", tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_labels_may_be_a_dataset_of_a_file(command, volumes, tmp_path):
    with h5py.File(tmp_path / "labels.h5", "w") as file, open_volume(volumes / "labels.tif") as labels:
        file["inner/marked"] = labels[:]
        file["other"] = labels[:]
    out = tmp_path / "m.onnx"
    labels_name = tmp_path / "labels.h5:/inner/marked"
    ended = command("train", volumes / "image.tif", labels_name, "--out", out, *QUICK[2:], "--epochs", "0.05")
    assert ended.code == 0, ended.err
    training = SegmentationModel.load(out).metadata.training
    assert training.labels == "labels.h5:/inner/marked"
    assert training.labels_sha256 == file_sha256(tmp_path / "labels.h5")


def test_notes_of_someone_else_are_not_replaced_by_the_card(refused, volumes, tmp_path):
    (tmp_path / "m.md").write_text("my notes")
    line = refused("train", volumes / "image.tif", volumes / "labels.tif", "--out", tmp_path / "m.onnx")
    assert "m.md, which is something else" in line
    assert (tmp_path / "m.md").read_text() == "my notes"
