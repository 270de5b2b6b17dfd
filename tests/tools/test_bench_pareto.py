"""IoU against speed: both precisions of each network are scored, timed and drawn."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from networks import make_unet
from segment.bench import serving
from segment.serving.metadata import Network
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.volumes import create_volume

VOXEL_NM = (5.0, 5.0, 5.0)


def _load():
    path = Path(__file__).parents[2] / "tools" / "bench_pareto.py"
    spec = importlib.util.spec_from_file_location("bench_pareto", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _load()


def test_each_network_has_a_row_and_a_point_in_each_precision(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serving, "PLANE", (256, 256))
    small = make_unet(tmp_path / "small.onnx", width=4)
    large = make_unet(tmp_path / "large.onnx", width=8, seed=1, network=Network(stem=1, width=8, depth=2))
    image = np.random.default_rng(0).normal(128, 30, (20, 64, 64)).clip(0, 255).astype(np.uint8)
    found = predict_volume(image, SegmentationModel.load(small), voxel_nm=VOXEL_NM) >= 0.5
    for name, values in (("image.tif", image), ("labels.tif", found * np.uint8(255))):
        with create_volume(tmp_path / name, values.shape, np.uint8, VOXEL_NM) as writer:
            writer.append(values)
    options = ["--calibrate", "0:10", "--validate", "12:18", "--rounds", "1"]
    outputs = ["--figure", str(tmp_path / "f.png"), "--json", str(tmp_path / "f.json")]
    files = [str(path) for path in (tmp_path / "image.tif", tmp_path / "labels.tif", small, large)]
    monkeypatch.setattr(sys, "argv", ["bench_pareto.py", *files, *options, *outputs])
    tool.main()
    rows = json.loads((tmp_path / "f.json").read_text())
    assert [(row["model"], row["precision"], row["width"]) for row in rows] == [
        ("small", "float32", 4),
        ("small", "int8", 4),
        ("large", "float32", 8),
        ("large", "int8", 8),
    ]
    assert rows[0]["iou"] == 1  # the labels are what it finds
    assert 0.5 < rows[1]["iou"] < 1
    assert all(row["megavoxels_per_s"] > 0 for row in rows)
    assert f"{rows[1]['iou']:.4f}" in capsys.readouterr().out
    axes = tool.draw(rows).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "width 4, depth 2, stem 1, 1,000 steps",
        "width 8, depth 2, stem 1, 1,000 steps",
    ]
    assert (tmp_path / "f.png").stat().st_size > 10_000
