"""Graphs in fewer bits: close to those that were trained, in standard operators, and safe on every processor."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from blobs import INTENSITY, make_blobs
from onnx import TensorProto, helper, numpy_helper

from networks import make_pointwise, make_segment_metadata, make_unet
from segment.errors import InputError
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.precision import N_TILES, draw_tiles, to_float16, to_int8


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_unet(tmp_path_factory.mktemp("unet") / "unet.onnx", width=8).read_bytes()


@pytest.fixture(scope="module")
def image():
    return make_blobs((24, 96, 96)).image


@pytest.fixture(scope="module")
def tiles(image):
    return draw_tiles(image, ((0, 24),), make_segment_metadata(), np.random.default_rng(0))


def _predict(content, image, **options):
    return predict_volume(image, SegmentationModel(content), intensity=INTENSITY, voxel_nm=(5.0, 5.0, 5.0), **options)


@pytest.mark.parametrize(("bits", "most"), [(7, 64), (8, 127)])
def test_int8_is_close_and_its_weights_have_the_bits_asked_for(content, image, tiles, bits, most, capfd):
    quantised = to_int8(content, tiles, INTENSITY, bits)
    assert capfd.readouterr() == ("", "")  # the tools' warnings are held back
    expected, found = _predict(content, image), _predict(quantised, image)
    assert expected.std() > 0.05
    assert 0 < np.abs(found - expected).max() < 0.1
    assert np.abs(found - expected).mean() < 0.01
    assert len(np.unique(found)) > 256  # the last convolution is in float32
    weights = [
        numpy_helper.to_array(each)
        for each in onnx.load_from_string(quantised).graph.initializer
        if each.data_type == TensorProto.INT8 and len(each.dims) == 4
    ]
    assert len(weights) == 4
    assert max(int(np.abs(each.astype(int)).max()) for each in weights) == most


def test_int8_is_in_standard_operators(content, tiles):
    model = onnx.load_from_string(to_int8(content, tiles, INTENSITY))
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    assert not {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("convert", [lambda content, tiles: to_int8(content, tiles, INTENSITY), None])
def test_tiled_equals_whole(content, image, tiles, convert):
    smaller = convert(content, tiles) if convert else to_float16(content)
    np.testing.assert_allclose(_predict(smaller, image, tile=48), _predict(smaller, image), rtol=0, atol=1e-4)


def test_float16_is_closer_still_and_its_weights_are_half_as_large(content, image):
    half = to_float16(content)
    model = onnx.load_from_string(half)
    onnx.checker.check_model(model, full_check=True)
    expected, found = _predict(content, image), _predict(half, image)
    assert 0 < np.abs(found - expected).max() < 0.01
    assert [node.op_type for node in model.graph.node].count("Cast") == 2  # once in, once out
    types = {each.name: each.data_type for each in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kernels = [types[node.input[1]] for node in convolutions]
    assert kernels == [TensorProto.FLOAT16] * 4 + [TensorProto.FLOAT]


def test_float16_takes_grey_values_that_it_cannot_hold(content, image):
    large = image.astype(np.uint16) * 257
    scaled = tuple(257 * value for value in INTENSITY)
    model = SegmentationModel(to_float16(content))
    found = predict_volume(large, model, intensity=scaled, voxel_nm=(5.0, 5.0, 5.0))
    np.testing.assert_allclose(found, _predict(to_float16(content), image), atol=1e-3)


def test_float16_refuses_operators_that_it_does_not_know(content):
    model = onnx.load_from_string(content)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Softplus"
    with pytest.raises(InputError, match="Softplus lies between its convolutions"):
        to_float16(model.SerializeToString())


def test_a_network_of_one_convolution_is_refused(tmp_path, tiles):
    content = make_pointwise(tmp_path / "p.onnx").read_bytes()
    for convert in (to_float16, lambda each: to_int8(each, tiles, INTENSITY)):
        with pytest.raises(InputError, match="2 convolutions or more, found 1"):
            convert(content)


def test_what_no_output_depends_on_is_dropped(content, tiles):
    model = onnx.load_from_string(content)
    model.graph.node.append(helper.make_node("Shape", ["image"], ["unused"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused_too"))
    for smaller in (to_int8(model.SerializeToString(), tiles, INTENSITY), to_float16(model.SerializeToString())):
        graph = onnx.load_from_string(smaller).graph
        assert "unused" not in {name for node in graph.node for name in node.output}
        assert "unused_too" not in {each.name for each in graph.initializer}


def test_tiles_are_drawn_inside_their_slices_along_each_axis():
    image = np.broadcast_to(np.arange(30)[:, None, None], (30, 40, 600)).astype(np.uint16)
    metadata = make_segment_metadata(axes="zx")
    tiles = draw_tiles(image, ((5, 25),), metadata, np.random.default_rng(0))
    assert len(tiles) == N_TILES
    assert {tile.shape for tile in tiles} == {(3, 40, 256), (3, 20, 40)}
    assert {tile.dtype for tile in tiles} == {np.dtype(np.float32)}
    assert min(tile.min() for tile in tiles) >= 5
    assert max(tile.max() for tile in tiles) < 25
    for tile in tiles:
        if tile.shape[1] == 40:  # along z: three neighbouring slices, the edge repeated
            assert (np.diff(tile[:, 0, 0]) >= 0).all()
            assert tile[2, 0, 0] - tile[0, 0, 0] in (1, 2)


def test_slices_too_small_for_a_tile_are_refused():
    with pytest.raises(InputError, match="no tile of 4 by 4 pixels fits"):
        draw_tiles(np.zeros((9, 3, 3), np.uint8), ((0, 9),), make_segment_metadata(), np.random.default_rng(0))
