"""What ``segment bench`` refuses before it spends minutes."""

from __future__ import annotations

import json

import pytest

from networks import make_unet


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    monkeypatch.setattr("segment.bench.serving.measure_memory", lambda *_: pytest.fail("measured"))


def test_a_folder_that_cannot_be_written_to_is_refused(refused, tmp_path):
    model = make_unet(tmp_path / "m.onnx")
    for folder in (tmp_path / "nowhere", model):
        line = refused("bench", "--only", "memory", "--model", model, "--folder", folder)
        assert f"--folder {folder}: is no folder that can be written to" in line


def test_a_model_that_cannot_be_served_is_refused(refused, tmp_path):
    (tmp_path / "m.onnx").write_text("no model")
    assert "m.onnx: ONNX Runtime cannot load it" in refused("bench", "--only", "memory", "--model", tmp_path / "m.onnx")


def test_a_fast_model_that_cannot_be_served_is_refused(refused, tmp_path):
    model = make_unet(tmp_path / "m.onnx")
    arguments = ("bench", "--only", "fast", "--model", model, "--fast")
    assert "nowhere.onnx" in refused(*arguments, "nowhere.onnx")


def test_the_iou_needs_data_and_says_so(command, tmp_path, monkeypatch):
    model = make_unet(tmp_path / "m.onnx")
    rates = {"fast": 20.0, "float32": 10.0, "keras": 8.0, "ratio": 2.0, "ratio_to_keras": 2.5}
    iou = {"fast": 0.88, "float32": 0.89, "slices": [3, 9], "labels": "labels.tif"}
    monkeypatch.setattr("segment.bench.fast.measure_fast", lambda *_: rates)
    monkeypatch.setattr("segment.bench.fast.measure_accuracy", lambda files, folder: iou)
    arguments = ("bench", "--only", "fast", "--model", model, "--fast", model)
    ended = command(*arguments, "--json", tmp_path / "b.json")
    assert ended.code == 0, ended.err
    assert "no IoU: give --data DIR" in ended.err
    assert json.loads((tmp_path / "b.json").read_text())["fast"] == {"model": "m"} | rates
    ended = command(*arguments, "--data", tmp_path)
    assert "20.00" in ended.out
    assert "0.8800, 0.8900" in ended.out


def test_tiles_are_listed_for_both_models(command, tmp_path, monkeypatch):
    model, fast = make_unet(tmp_path / "m.onnx"), make_unet(tmp_path / "f.onnx")
    monkeypatch.setattr("segment.bench.fast.measure_tiles", lambda path: {"512": 3.0 if path == model else 7.0})
    ended = command("bench", "--only", "tiles", "--model", model, "--fast", fast)
    assert ended.code == 0, ended.err
    assert "3.00" in ended.out
    assert "7.00" in ended.out
