"""Keras to ONNX through the parity gate: what does not give the trained probabilities is not written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.serving.metadata import METADATA_KEY, ModelMetadata
from segment.serving.model import SegmentationModel
from segment.training.augment import Slab
from segment.training.backend import load_keras
from segment.training.card import write_card
from segment.training.checkpoint import Arrays, fit_weights
from segment.training.unet import NetworkSettings, build_unet
from segment.training.weights import WEIGHTS_KEY, network_of, pack
from streamdetect.cli.console import n_cores
from streamdetect.errors import ModelError, ParityError
from streamdetect.files import whole_file

TOLERANCE = 1e-4
OPSET = 18
N_GATE_TILES = 8
CLIP = 2.0  # normalised grey values are cut off here, as in training


@dataclass(frozen=True)
class ExportReport:
    """What the parity gate measured.

    Parameters
    ----------
    max_difference : float
        Largest difference of a probability between ONNX Runtime and Keras.
    n_pixels : int
        Pixels of real slices that were compared.
    n_bytes : int
        Size of the model file.
    """

    max_difference: float
    n_pixels: int
    n_bytes: int


def export_model(
    weights: Arrays,
    tiles: Sequence[NDArray[np.float32]],
    intensity: tuple[float, float],
    metadata: ModelMetadata,
    path: str | PathLike[str],
    *,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Write trained weights as a model file, with a model card beside it.

    Parameters
    ----------
    weights : list of ndarray
        Of the network that ``metadata.network`` describes.
    tiles : sequence of ndarray of float32, shape (n_slices, height, width)
        Raw grey values of real slices, of one or more shapes, that pass the gate.
    intensity : tuple of float
        Grey values that become -1 and 1 in them.
    metadata : ModelMetadata
        The document that goes into the file.
    path : path
        The ``.onnx`` file; the card takes its name with ``.md``. Both are replaced only once they are complete.
    tolerance : float
        Largest difference of a probability that is let through.

    Returns
    -------
    ExportReport

    Raises
    ------
    ParityError
        ONNX Runtime gives another probability, or another mask where the probability is not within the tolerance of
        the threshold. Nothing is written.
    InputError
        The file cannot be written, or Keras runs on another backend than TensorFlow.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: a model file's name must end in .onnx")
    content, graph = convert(weights, network_of(metadata), metadata.to_json())
    largest, n_pixels = _pass_gate(content, graph, tiles, intensity, metadata, tolerance)
    card = write_card(metadata, content, max_difference=largest, n_pixels=n_pixels)
    with whole_file(path) as model_file, whole_file(path.with_suffix(".md")) as card_file:
        model_file.write_bytes(content)
        card_file.write_text(card, encoding="utf-8")
    return ExportReport(largest, n_pixels, len(content))


def gate_tiles(slab: Slab, offsets: Sequence[int], stride: int) -> list[NDArray[np.float32]]:
    """Return whole slices of a slab, evenly spread, as the served graph takes them: cut to multiples of the stride."""
    n, rows, columns = slab.image.shape
    tiles = []
    for index in np.unique(np.linspace(0, n - 1, min(n, N_GATE_TILES)).round().astype(int)):
        around = np.clip(index + np.array(offsets), 0, n - 1)
        tiles.append(slab.image[around, : rows // stride * stride, : columns // stride * stride].astype(np.float32))
    return tiles


def convert(weights: Arrays, network: NetworkSettings, document: str) -> tuple[bytes, Any]:
    """Build the graph that is served, with intensity normalisation in front and the sigmoid behind.

    Parameters
    ----------
    weights : list of ndarray
    network : NetworkSettings
    document : str
        The JSON that goes into the file's metadata.

    Returns
    -------
    content : bytes
        The ONNX file.
    graph : callable
        The same computation in Keras: from image (n, n_slices, height, width) and intensity (2,) to probabilities (n,
        1, height, width).

    Raises
    ------
    InputError
        Keras runs on another backend than TensorFlow, which tf2onnx converts from.
    """
    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND={keras.backend.backend()}: export needs TensorFlow: unset it and run the same command "
            "with --resume; the checkpoint holds the trained weights"
        )
    import tensorflow as tf
    import tf2onnx
    from onnx import helper

    model = build_unet(network)
    fit_weights(weights, model, "weights")
    served = _with_resize(model)

    def normalise(image: Any, intensity: Any) -> Any:
        low, high = intensity[0], intensity[1]
        scaled = tf.clip_by_value((image - low) * (2.0 / (high - low)) - 1.0, -CLIP, CLIP)
        return tf.transpose(scaled, (0, 2, 3, 1))

    def serve(image: Any, intensity: Any) -> Any:
        return tf.transpose(tf.sigmoid(served(normalise(image, intensity), training=False)), (0, 3, 1, 2))

    def trained(image: Any, intensity: Any) -> Any:
        return tf.transpose(tf.sigmoid(model(normalise(image, intensity), training=False)), (0, 3, 1, 2))

    signature = (
        tf.TensorSpec((None, len(network.slice_offsets), None, None), tf.float32, name="image"),
        tf.TensorSpec((2,), tf.float32, name="intensity"),
    )
    onnx_model, _ = tf2onnx.convert.from_function(tf.function(serve, input_signature=signature), signature, opset=OPSET)
    _resize_by_two(onnx_model)
    _name_output(onnx_model, "probability")
    helper.set_model_props(onnx_model, {METADATA_KEY: document, WEIGHTS_KEY: pack(model)})
    return onnx_model.SerializeToString(), tf.function(trained, input_signature=signature)


def _with_resize(model: Any) -> Any:
    """Return the network with its upsampling layers as one TensorFlow operator each, in place of repeats."""
    import keras
    import tensorflow as tf

    class Resize(keras.layers.Layer):
        def call(self, maps: Any) -> Any:
            return tf.raw_ops.ResizeNearestNeighbor(images=maps, size=2 * tf.shape(maps)[1:3])

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (shape[0], *(n and 2 * n for n in shape[1:3]), shape[3])

    def replace(layer: Any) -> Any:
        return Resize(name=layer.name) if isinstance(layer, keras.layers.UpSampling2D) else layer

    return keras.models.clone_model(model, clone_function=replace)


def _resize_by_two(onnx_model: Any) -> None:
    """Give each Resize a constant factor: ONNX Runtime then keeps its blocked layout between convolutions."""
    from onnx import numpy_helper

    nodes = [node for node in onnx_model.graph.node if node.op_type == "Resize"]
    if nodes:
        onnx_model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "by_two"))
    for node in nodes:
        image = node.input[0]
        del node.input[:]
        node.input.extend([image, "", "by_two"])


def _name_output(onnx_model: Any, name: str) -> None:
    """Rename the only output, and say that its size is free."""
    (output,) = onnx_model.graph.output
    for node in onnx_model.graph.node:
        for index, produced in enumerate(node.output):
            if produced == output.name:
                node.output[index] = name
    output.name = name


def _pass_gate(
    content: bytes,
    graph: Any,
    tiles: Sequence[NDArray[np.float32]],
    intensity: tuple[float, float],
    metadata: ModelMetadata,
    tolerance: float,
) -> tuple[float, int]:
    """Compare ONNX Runtime with Keras; return the largest difference and the number of pixels, or refuse."""
    if not tiles:
        raise InputError("tiles: the parity gate needs at least one")
    try:
        served = SegmentationModel(content, threads=n_cores())
    except ModelError as error:
        raise ParityError(f"{error}; nothing was written") from error
    largest, n_pixels, n_flipped = 0.0, 0, 0
    for tile in tiles:
        expected = np.asarray(graph(tile[None], np.array(intensity, np.float32)))[0, 0]
        found = served.predict(tile[None], *intensity)[0]
        difference = float(np.abs(found - expected).max())
        largest = difference if np.isnan(difference) else max(largest, difference)
        clear = np.abs(expected - metadata.threshold) > tolerance
        n_flipped += int(((found >= metadata.threshold) != (expected >= metadata.threshold))[clear].sum())
        n_pixels += expected.size
    if not largest <= tolerance:  # NaN is refused too
        raise ParityError(
            f"probability: ONNX Runtime differs from the trained network by {largest:.2g} (at most {tolerance:g}) on "
            f"{n_pixels:,} pixels; nothing was written"
        )
    if n_flipped:
        raise ParityError(
            f"mask: {n_flipped} of {n_pixels:,} pixels differ from the trained network; nothing was written"
        )
    return largest, n_pixels
