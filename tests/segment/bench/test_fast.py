from __future__ import annotations

import numpy as np
import pytest
from blobs import INTENSITY, make_blobs
from exported import make_metadata, make_weights

from networks import make_unet
from segment.bench import fast, serving
from segment.errors import InputError
from segment.scoring.metrics import count_voxels
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.export import export_model, gate_tiles
from segment.training.precision import to_int8
from segment.training.unet import NetworkSettings
from segment.volumes import create_volume
from streamdetect.files import file_sha256

VOXEL_NM = (5.0, 5.0, 5.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(serving, "PLANE", (256, 256))
    monkeypatch.setattr(serving, "N_ROUNDS", 1)
    monkeypatch.setattr(fast, "N_SLICES", 4)


def test_the_fast_model_is_timed_beside_the_other_and_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "simulate_planes", lambda n: np.tile(make_blobs((n, 64, 64)).image, (1, 2, 2)))
    network = NetworkSettings(8, 2, 2)
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    model_file, fast_file = tmp_path / "tiny.onnx", tmp_path / "fast.onnx"
    export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), model_file)
    fast_file.write_bytes(to_int8(model_file.read_bytes(), tiles, INTENSITY))
    figures = fast.measure_fast(model_file, fast_file)
    assert set(figures) == {"fast", "float32", "keras", "ratio", "ratio_to_keras"}
    assert figures["ratio"] == pytest.approx(figures["fast"] / figures["float32"])
    assert figures["ratio_to_keras"] == pytest.approx(figures["fast"] / figures["keras"])
    assert figures["keras"] > 0


def test_both_are_scored_on_the_slices_that_the_model_was_chosen_on(tmp_path):
    blobs = make_blobs((24, 64, 64))
    for name, values in (("image.tif", blobs.image), ("labels.tif", blobs.labels * np.uint8(255))):
        with create_volume(tmp_path / name, values.shape, np.uint8, VOXEL_NM) as writer:
            writer.append(values)
    probe = SegmentationModel.load(make_unet(tmp_path / "probe.onnx"))
    training = probe.metadata.training.model_copy(
        update={
            "image": "image.tif",
            "labels": "labels.tif",
            "image_sha256": file_sha256(tmp_path / "image.tif"),
            "labels_sha256": file_sha256(tmp_path / "labels.tif"),
            "validate_slices": (10, 16),
        }
    )
    files = {
        "float32": make_unet(tmp_path / "a.onnx", training=training),
        "fast": make_unet(tmp_path / "b.onnx", training=training, threshold=0.4),
    }
    figures = fast.measure_accuracy(files, tmp_path)
    assert (figures["slices"], figures["labels"]) == ([10, 16], "labels.tif")
    for name, threshold in (("float32", 0.5), ("fast", 0.4)):
        probability = predict_volume(blobs.image, SegmentationModel.load(files[name]), voxel_nm=VOXEL_NM)
        assert figures[name] == count_voxels(probability[10:16] >= threshold, blobs.labels[10:16]).iou
    with pytest.raises(InputError, match=r"expected the files image\.tif and labels\.tif in it"):
        fast.measure_accuracy(files, tmp_path / "nowhere")
    (tmp_path / "labels.tif").write_bytes((tmp_path / "image.tif").read_bytes())
    with pytest.raises(InputError, match=r"labels\.tif is another file"):
        fast.measure_accuracy(files, tmp_path)


def test_tiles_that_leave_a_core_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "TILES", (16, 64, 128, 1024))
    rates = fast.measure_tiles(make_unet(tmp_path / "unet.onnx"))
    assert list(rates) == ["64", "128"]  # the halo is 12: 28 at least; the planes have 768 by 512 pixels
    assert min(rates.values()) > 0
