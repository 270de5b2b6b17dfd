"""``segment quantize``: a faster model from a file, and what is refused before the work begins."""

from __future__ import annotations

import json

import numpy as np
import pytest
from blobs import make_blobs

from networks import make_unet
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training import precision
from segment.volumes import create_volume

VOXEL_NM = (5.0, 5.0, 5.0)
LOSS = ("--max-loss", "0.1")  # networks that were never trained lose more than trained ones


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    image = make_blobs((24, 64, 64)).image
    model = SegmentationModel.load(make_unet(folder / "unet.onnx", width=8))
    found = predict_volume(image, model, voxel_nm=VOXEL_NM) >= 0.5  # so that the network's own IoU is 1
    for name, values in (("image.tif", image), ("labels.tif", found * np.uint8(255))):
        with create_volume(folder / name, values.shape, np.uint8, VOXEL_NM) as writer:
            writer.append(values)
    return folder


@pytest.fixture
def arguments(folder, tmp_path):
    files = ("quantize", folder / "unet.onnx", folder / "image.tif", folder / "labels.tif")
    return (*files, "--out", tmp_path / "fast.onnx", "--slices", "0:12", "--validate-slices", "14:20", *LOSS)


def test_a_faster_model_a_card_and_figures_are_written(command, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_vnni", lambda: False)
    monkeypatch.setattr("sys.argv", ["segment", "quantize", "unet.onnx"])  # as a terminal gives it
    ended = command(*arguments, "--test-slices", "21:24", "--json", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    figures = json.loads((tmp_path / "f.json").read_text())
    model = SegmentationModel.load(tmp_path / "fast.onnx")
    assert figures["iou"]["after"] == model.metadata.conversion.iou
    assert f"{figures['iou']['after']:.4f}" in ended.out
    assert f"{figures['scores']['test_axes_z']['iou']:.4f}" in ended.out
    assert figures["model_mb"]["after"] == pytest.approx((tmp_path / "fast.onnx").stat().st_size / 1e6)
    assert figures["vnni"] is False
    assert "this processor has no VNNI" in ended.err
    assert model.metadata.conversion.command == "segment quantize unet.onnx"
    assert (tmp_path / "fast.md").is_file()


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (("--to", "int4"), "--to int4: expected int8 or float16"),
        (("--to", "float16"), "--to float16: --slices and --all-bits go with int8 only"),
        (("--slices", "5-9"), "--slices 5-9: expected A:B"),
        (("--validate-slices", "20:30"), "--validate-slices 20:30: expected A:B with 0 <= A < B <= 24"),
        (("--validate-slices", "6:14"), "slices 0:12 and 6:14 overlap"),
        (("--json", "nowhere/f.json"), "--json"),
    ],
)
def test_wrong_options_are_refused_in_one_line(refused, arguments, tmp_path, extra, named):
    assert named in refused(*arguments, *extra)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_used_are_refused_in_one_line(refused, folder, arguments, tmp_path):
    _, model, image, labels, *rest = arguments
    assert "nowhere.onnx" in refused("quantize", "nowhere.onnx", image, labels, *rest)
    assert "image.tif: ONNX Runtime cannot load it" in refused("quantize", image, image, labels, *rest)
    assert "image.tif" in refused("quantize", model, image, image, *rest)  # grey values are no labels
    assert "must end in .onnx" in refused("quantize", model, image, labels, "--out", tmp_path / "fast.h5")
    assert "unet.onnx" in refused("quantize", model, image, labels, "--out", model)
    (tmp_path / "fast.md").write_text("my notes")
    assert "fast.md, which is something else" in refused(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["fast.md"]
