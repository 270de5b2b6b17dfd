"""The models in `models/`: that they load, see as far as they say, and score what their cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from segment.scoring.metrics import count_voxels
from segment.serving.metadata import METADATA_KEY
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.synthetic import simulate_volume
from segment.volumes import open_volume, read_labels
from streamdetect.model_file import list_shipped

MODELS = Path(__file__).parents[2] / "models"
LABELS = {
    "mitochondria-epfl-plus": "training_lucchipp_mask.tif",
    "mitochondria-epfl-plus-fast": "training_lucchipp_mask.tif",
    "mitochondria-epfl": "training_groundtruth.tif",
}
TEST = (132, 165)
VOXEL_NM = (5.0, 5.0, 5.0)


@pytest.fixture(scope="module", params=list(LABELS))
def model(request) -> SegmentationModel:
    return SegmentationModel.load(request.param, device="cpu")


def test_they_are_shipped():
    assert set(list_shipped(METADATA_KEY)) == set(LABELS)


def test_a_model_is_small_and_has_a_card(model):
    path = MODELS / f"{model.metadata.name}.onnx"
    assert path.stat().st_size < 10e6
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert model.sha256 in card
    for score in ("test_axes_z.iou", "test_axes_zyx.iou"):
        assert score in card
    assert model.metadata.training.train_slices == ((0, 98),)
    assert model.metadata.training.validate_slices == (105, 125)


def test_the_fast_one_was_made_from_the_one_beside_it():
    fast, original = (SegmentationModel.load(f"mitochondria-epfl-plus{end}", device="cpu") for end in ("-fast", ""))
    conversion = fast.metadata.conversion
    assert (conversion.precision, conversion.weight_bits) == ("int8", 7)
    assert conversion.source_sha256 == original.sha256
    assert conversion.iou > conversion.source_iou - 0.005
    assert fast.metadata.threshold == original.metadata.threshold
    operators = {node.op_type for node in onnx.load(MODELS / "mitochondria-epfl-plus-fast.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_the_number_of_threads_changes_no_bit(model, plane):
    options = {"intensity": (80.0, 196.0), "voxel_nm": VOXEL_NM}
    one = SegmentationModel.load(model.metadata.name, device="cpu", threads=1)
    three = SegmentationModel.load(model.metadata.name, device="cpu", threads=3)
    np.testing.assert_array_equal(predict_volume(plane, one, **options), predict_volume(plane, three, **options))


@pytest.fixture(scope="module")
def plane():
    """A simulated slice that needs tiles; three slices, one on top of the other."""
    return np.tile(simulate_volume((5, 256, 256), seed=3).image, (1, 1, 2))


def test_tiled_equals_whole(model, plane):
    intensity = (80.0, 196.0)
    whole = predict_volume(plane, model, intensity=intensity, voxel_nm=VOXEL_NM, tile=512)
    tiled = predict_volume(plane, model, intensity=intensity, voxel_nm=VOXEL_NM, tile=2 * model.metadata.halo + 64)
    assert np.abs(whole - tiled).max() <= 1e-4
    clear = np.abs(whole - model.metadata.threshold) > 1e-4
    np.testing.assert_array_equal(
        (whole >= model.metadata.threshold)[clear], (tiled >= model.metadata.threshold)[clear]
    )
    assert 0.01 < (whole >= model.metadata.threshold).mean() < 0.5  # there was something to compare


def test_a_halo_one_stride_too_small_is_noticed(model, plane, monkeypatch):
    metadata = model.metadata
    whole = predict_volume(plane, model, intensity=(80.0, 196.0), voxel_nm=VOXEL_NM, tile=512)
    with monkeypatch.context() as patch:
        patch.setattr(model, "metadata", metadata.model_copy(update={"halo": metadata.halo - metadata.stride}))
        tile = 2 * model.metadata.halo + 64
        tiled = predict_volume(plane, model, intensity=(80.0, 196.0), voxel_nm=VOXEL_NM, tile=tile)
    assert np.abs(whole - tiled).max() > 1e-4


def test_it_scores_what_its_card_says(model, data_dir):
    """Slices 132 to 164 of the EPFL volume, segmented along z as in the whole volume."""
    folder = data_dir / "em_epfl"
    reach = max(model.metadata.slice_offsets)
    with open_volume(folder / "training.tif", voxel_nm=VOXEL_NM) as volume:
        part = volume[TEST[0] - reach : TEST[1]]
    labels = read_labels(folder / LABELS[model.metadata.name])[TEST[0] : TEST[1]]
    probability = predict_volume(part, model, intensity=(80.0, 196.0), voxel_nm=VOXEL_NM)
    counts = count_voxels(probability[reach:] >= model.metadata.threshold, labels)
    assert counts.iou == pytest.approx(model.metadata.scores["test_axes_z"]["iou"], abs=1e-4)
