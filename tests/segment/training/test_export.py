from __future__ import annotations

import numpy as np
import onnx
import pytest
from blobs import INTENSITY, make_blobs
from exported import make_metadata, make_weights

from segment.serving.model import SegmentationModel
from segment.training import export as export_module
from segment.training.export import export_model, gate_tiles
from segment.training.unet import NetworkSettings, build_unet
from segment.training.weights import WEIGHTS_KEY, load_weights
from streamdetect.errors import InputError, ParityError


@pytest.mark.parametrize("network", [NetworkSettings(8, 2, 2), NetworkSettings(4, 2, 1, (0,))], ids=["stem", "plain"])
def test_the_file_gives_the_trained_probabilities(tmp_path, network):
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    path = tmp_path / "tiny.onnx"
    report = export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), path)
    assert report.max_difference < 1e-4
    assert report.n_pixels == 8 * 64 * 64
    assert report.n_bytes == path.stat().st_size
    model = SegmentationModel.load(path)
    assert model.metadata.name == "tiny"
    probability = model.predict(tiles[0][None], *INTENSITY)
    assert probability.std() > 0.01  # neither all 0 nor all 1: the gate had something to compare
    card = (tmp_path / "tiny.md").read_text()
    assert "Finds blobs" in card
    assert model.sha256 in card


@pytest.mark.parametrize("network", [NetworkSettings(8, 2, 2), NetworkSettings(4, 2, 1, (0,))], ids=["stem", "plain"])
def test_training_can_begin_with_the_weights_in_the_file(tmp_path, network):
    weights = make_weights(network)
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    export_model(weights, tiles, INTENSITY, make_metadata(network), tmp_path / "tiny.onnx")
    model = build_unet(network)
    load_weights(tmp_path / "tiny.onnx", model)
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"tiny\.onnx: its network has another width"):
        load_weights(tmp_path / "tiny.onnx", build_unet(NetworkSettings(2, 2, network.stem, network.slice_offsets)))


def test_a_model_file_without_weights_to_begin_with_is_refused(tmp_path):
    network = NetworkSettings(4, 1, 1, (0,))
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    path = tmp_path / "tiny.onnx"
    export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), path)
    document = onnx.load(path)
    (entry,) = [entry for entry in document.metadata_props if entry.key == WEIGHTS_KEY]
    document.metadata_props.remove(entry)
    onnx.save(document, path)
    SegmentationModel.load(path)  # it can be served all the same
    with pytest.raises(InputError, match="holds no weights that training can begin with"):
        load_weights(path, build_unet(network))


def test_the_graph_is_quick_to_serve(tmp_path):
    """Batch normalisation is folded, and upsampling is one operator with a constant factor."""
    network = NetworkSettings(8, 2, 2)
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), tmp_path / "tiny.onnx")
    graph = onnx.load(tmp_path / "tiny.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in operators
    assert "Tile" not in operators
    constants = {each.name for each in graph.initializer}
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    assert len(resizes) == 2
    assert all(node.input[2] in constants for node in resizes)


@pytest.mark.parametrize("wrong", ["weights", "clip"])
def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch, wrong):
    network = NetworkSettings(4, 1, 1, (0,))
    tiles = gate_tiles(make_blobs(), network.slice_offsets, network.stride)
    convert = export_module.convert

    def convert_wrongly(weights, network, document):
        content, _ = convert(weights, network, document)
        if wrong == "weights":
            _, graph = convert([each * np.float32(1.01) for each in weights], network, document)
        else:
            monkeypatch.setattr(export_module, "CLIP", 0.5)
            _, graph = convert(weights, network, document)
        return content, graph

    monkeypatch.setattr(export_module, "convert", convert_wrongly)
    with pytest.raises(ParityError, match="nothing was written"):
        export_model(make_weights(network), tiles, INTENSITY, make_metadata(network), tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_names_and_a_gate_without_tiles_are_refused(tmp_path):
    network = NetworkSettings(4, 1, 1, (0,))
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        export_model([], [], INTENSITY, make_metadata(network), tmp_path / "tiny.h5")
    with pytest.raises(InputError, match="at least one"):
        export_model(make_weights(network), [], INTENSITY, make_metadata(network), tmp_path / "tiny.onnx")


def test_another_backend_says_what_to_do(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    with pytest.raises(InputError, match="KERAS_BACKEND=torch: export needs TensorFlow"):
        export_module.convert([], NetworkSettings(), "{}")
