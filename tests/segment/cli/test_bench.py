"""What ``segment bench`` refuses before it spends minutes."""

from __future__ import annotations

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
