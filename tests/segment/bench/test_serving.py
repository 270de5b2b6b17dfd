from __future__ import annotations

import pytest
from blobs import INTENSITY, make_blobs
from exported import make_metadata, make_weights

from segment.bench import serving, training
from segment.training.export import export_model, gate_tiles
from segment.training.unet import NetworkSettings


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    network = NetworkSettings(8, 2, 2)
    path = tmp_path_factory.mktemp("bench") / "tiny.onnx"
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), path)
    return path


def test_speed_compares_the_same_probabilities(model_file, monkeypatch):
    monkeypatch.setattr(serving, "PLANE", (256, 256))
    monkeypatch.setattr(serving, "N_ROUNDS", 1)
    figures = serving.measure_speed(model_file)
    assert figures["difference"] < 1e-4
    assert figures["ratio"] == pytest.approx(figures["onnxruntime"] / figures["keras"])
    assert figures["onnxruntime"] > 0


def test_memory_is_that_of_the_command(model_file, monkeypatch, tmp_path):
    monkeypatch.setattr(serving, "LARGE", (16, 256, 256))
    monkeypatch.setattr(serving, "GRAIN", (8, 128, 128))
    figures = serving.measure_memory(model_file, tmp_path)
    assert figures["volume_gb"] == pytest.approx(16 * 256 * 256 * 2 / 1e9)
    assert 0.05 < figures["peak_gb"] < 2


def test_steps_are_counted_in_both_precisions(monkeypatch):
    monkeypatch.setattr(training, "SHAPE", (64, 64, 64))
    monkeypatch.setattr(training, "NETWORK", NetworkSettings(4, 1, 1, (0,)))
    monkeypatch.setattr(training, "PATCH", 32)
    rates = training.measure_steps()
    assert set(rates) == {"float32", "bfloat16"}
    assert all(rate > 0 for rate in rates.values())
