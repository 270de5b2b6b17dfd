"""The gate: what loses too much is not written, and what is written says how it was made."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from blobs import make_blobs

from networks import make_segment_metadata, make_unet
from segment.errors import InputError
from segment.serving.metadata import Network
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training import quantize as quantize_module
from segment.training.quantize import ConvertSettings, convert_model
from segment.training.weights import WEIGHTS_KEY
from segment.volumes import create_volume, open_volume
from streamdetect.errors import ParityError
from streamdetect.files import file_sha256

VOXEL_NM = (5.0, 5.0, 5.0)
LOSS = 0.1  # networks that were never trained lose more than trained ones
CHOSEN = ConvertSettings(calibrate=(0, 12), validate=(14, 20), max_loss=LOSS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    blobs = make_blobs((24, 64, 64))
    with create_volume(folder / "training.tif", blobs.image.shape, np.uint8, VOXEL_NM) as writer:
        writer.append(blobs.image)
    training = make_segment_metadata().training.model_copy(
        update={
            "image_sha256": file_sha256(folder / "training.tif"),
            "train_slices": ((0, 12),),
            "validate_slices": (14, 20),
        }
    )
    make_unet(folder / "unet.onnx", width=8, name="unet", training=training, network=Network(stem=1, width=8, depth=2))
    return folder


@pytest.fixture(scope="module")
def labels(folder):
    """What the network finds, so that its own IoU is 1."""
    image = make_blobs((24, 64, 64)).image
    found = predict_volume(image, SegmentationModel.load(folder / "unet.onnx"), voxel_nm=VOXEL_NM)
    assert 0.02 < (found >= 0.5).mean() < 0.8
    return found >= 0.5


@pytest.fixture
def volume(folder):
    with open_volume(folder / "training.tif") as volume:
        yield volume


def test_the_file_says_what_it_was_made_from_and_what_it_lost(folder, labels, volume, tmp_path):
    model = onnx.load(folder / "unet.onnx")
    model.metadata_props.add(key=WEIGHTS_KEY, value="training's own")
    onnx.save(model, tmp_path / "unet.onnx")
    out = tmp_path / "fast.onnx"
    converted = convert_model(tmp_path / "unet.onnx", volume, labels, out, CHOSEN, command="segment quantize")
    served, original = SegmentationModel.load(out), SegmentationModel.load(tmp_path / "unet.onnx")
    conversion = served.metadata.conversion
    assert served.metadata == converted.metadata
    assert served.metadata.name == "fast"
    assert served.metadata.threshold == original.metadata.threshold
    assert served.metadata.training == original.metadata.training
    assert (conversion.source, conversion.source_sha256) == ("unet", original.sha256)
    assert (conversion.precision, conversion.weight_bits, conversion.calibrate_slices) == ("int8", 7, ((0, 12),))
    assert (conversion.validate_slices, conversion.n_tiles) == ((14, 20), 16)
    assert conversion.source_iou == 1
    assert 1 - LOSS <= conversion.iou < 1
    assert served.metadata.scores["validation_iou"] == conversion.iou
    assert converted.n_voxels == 6 * 64 * 64
    assert converted.n_bytes == ((tmp_path / "unet.onnx").stat().st_size, out.stat().st_size)
    assert WEIGHTS_KEY not in {entry.key for entry in onnx.load(out).metadata_props}
    card = (tmp_path / "fast.md").read_text()
    assert served.sha256 in card
    assert f"Made from `unet`, SHA-256 `{original.sha256}`" in card
    assert "weights of 7 bits" in card
    assert f"{conversion.iou:.4f}, before {conversion.source_iou:.4f}" in card
    assert "segment quantize" in card
    with pytest.raises(InputError, match="is in int8 already; give the model that it was made from, unet"):
        convert_model(out, volume, labels, tmp_path / "again.onnx", CHOSEN)


def test_slices_are_those_that_the_model_was_made_with_where_the_volume_is_the_same(folder, labels, volume, tmp_path):
    settings = ConvertSettings(precision="float16", test=(21, 24), max_loss=LOSS)
    converted = convert_model(folder / "unet.onnx", volume, labels, tmp_path / "half.onnx", settings)
    conversion, scores = converted.metadata.conversion, converted.metadata.scores
    assert (conversion.precision, conversion.weight_bits, conversion.calibrate_slices) == ("float16", 16, ())
    assert conversion.validate_slices == (14, 20)
    assert "slices 21:24 scored once" in scores["protocol"]
    assert scores["test_axes_z"]["n_voxels"] == scores["test_axes_zyx"]["n_voxels"] == 3 * 64 * 64
    assert "float16; float32 in front" in (tmp_path / "half.md").read_text()
    other = make_unet(tmp_path / "other.onnx")  # trained on another file
    with pytest.raises(InputError, match=r"give both, as training\.tif is not the file"):
        convert_model(other, volume, labels, tmp_path / "no.onnx")


def test_a_model_that_loses_too_much_is_not_written(folder, labels, volume, tmp_path, monkeypatch):
    honest = quantize_module.to_int8

    def spoil(*arguments):
        model = onnx.load_from_string(honest(*arguments))
        for each in model.graph.initializer:
            if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4:
                each.raw_data = bytes(len(each.raw_data))
        return model.SerializeToString()

    monkeypatch.setattr(quantize_module, "to_int8", spoil)
    with pytest.raises(ParityError, match=r"a loss of more than 0\.1; nothing was written"):
        convert_model(folder / "unet.onnx", volume, labels, tmp_path / "fast.onnx", CHOSEN)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_cannot_be_served_is_not_written(folder, labels, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize_module, "to_int8", lambda *_: b"no model")
    with pytest.raises(ParityError, match=r"in int8, .*; nothing was written"):
        convert_model(folder / "unet.onnx", volume, labels, tmp_path / "fast.onnx", CHOSEN)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validate": (10, 14)}, "slices 0:12 and 10:14 overlap"),
        ({"test": (19, 22)}, "slices 14:20 and 19:22 overlap"),
        ({"precision": "float16", "test": (19, 22)}, "slices 14:20 and 19:22 overlap"),
    ],
)
def test_slices_that_overlap_are_refused(folder, labels, volume, tmp_path, changes, message):
    settings = ConvertSettings(**{"calibrate": (0, 12), "validate": (14, 20)} | changes)
    with pytest.raises(InputError, match=message):
        convert_model(folder / "unet.onnx", volume, labels, tmp_path / "fast.onnx", settings)


def test_volumes_that_do_not_fit_are_refused(folder, labels, volume, tmp_path):
    with pytest.raises(InputError, match="expected the image's shape"):
        convert_model(folder / "unet.onnx", volume, labels[:5], tmp_path / "fast.onnx", CHOSEN)
    with pytest.raises(InputError, match="finds nothing that is marked there"):
        convert_model(folder / "unet.onnx", volume, np.zeros_like(labels), tmp_path / "fast.onnx", CHOSEN)
    coarse = make_unet(tmp_path / "coarse.onnx", voxel_nm=(10.0, 10.0, 10.0))
    with pytest.raises(InputError, match=r"expected voxels of the model's 10,10,10 nm, found 5,5,5 nm"):
        convert_model(coarse, volume, labels, tmp_path / "fast.onnx", CHOSEN)
    assert [path.name for path in tmp_path.iterdir()] == ["coarse.onnx"]
