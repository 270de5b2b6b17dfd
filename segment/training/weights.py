"""Trained weights from where they are kept: a checkpoint, or a model file that they can be taken back from."""

from __future__ import annotations

import base64
from itertools import pairwise
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.serving.metadata import METADATA_KEY, ModelMetadata
from segment.training.checkpoint import Arrays, fit_weights, load_checkpoint
from segment.training.unet import NetworkSettings, build_unet
from streamdetect.errors import ModelError
from streamdetect.model_file import describe_foreign, read_model

WEIGHTS_KEY = "segment.normalisation"  # all weights but the kernels, which the graph has with these multiplied in


def load_weights(path_or_name: str | PathLike[str], model: Any) -> None:
    """Put the best weights of a checkpoint, or those of a model file, into a network.

    Parameters
    ----------
    path_or_name : path or str
        A checkpoint (``.npz``), a model file, or the name of a model shipped with the package.
    model : keras.Model
        As `build_unet` returns it.

    Raises
    ------
    InputError
        There is no such file, it is neither, or its network has another shape.
    """
    if str(path_or_name).endswith(".npz"):
        fit_weights(load_checkpoint(path_or_name).best, model, str(path_or_name))
        return
    content, path = read_model(path_or_name, METADATA_KEY)
    fit_weights(unfold(content, str(path)), model, str(path))


def network_of(metadata: ModelMetadata) -> NetworkSettings:
    """Return the settings of the network in a model file."""
    network = metadata.network
    return NetworkSettings(network.width, network.depth, network.stem, metadata.slice_offsets)


def pack(model: Any) -> str:
    """Return what the exported graph loses of the weights, as text: the batch normalisations and the head's bias."""
    kept = [np.ravel(weight) for weight, is_kernel in _in_order(model) if not is_kernel]
    return base64.b64encode(np.concatenate(kept).astype("<f4").tobytes()).decode("ascii")


def unfold(content: bytes, label: str) -> Arrays:
    """Return the weights that a model file was exported from.

    Parameters
    ----------
    content : bytes
        The file.
    label : str
        What error messages call it.

    Returns
    -------
    list of ndarray
        In Keras's order, kernels within the rounding of float32.

    Raises
    ------
    ModelError
        It is no segmentation model, or one that was not exported by `segment train`.
    """
    import onnx
    from onnx import numpy_helper

    try:
        document = onnx.load_from_string(content)
    except Exception as error:  # protobuf raises errors without a common base
        raise ModelError(f"{label}: is no ONNX model") from error
    properties = {entry.key: entry.value for entry in document.metadata_props}
    if METADATA_KEY not in properties:
        raise ModelError(f"{label}: {describe_foreign(properties, METADATA_KEY)}")
    model = build_unet(network_of(ModelMetadata.from_json(properties[METADATA_KEY])))
    constants = {each.name: each for each in document.graph.initializer}
    kernels = [
        numpy_helper.to_array(constants[node.input[1]]).transpose(2, 3, 1, 0)
        for node in document.graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    ]
    n_kernels = sum(is_kernel for _, is_kernel in _in_order(model))
    n_kept = sum(weight.size for weight, is_kernel in _in_order(model) if not is_kernel)
    kept = np.frombuffer(base64.b64decode(properties.get(WEIGHTS_KEY, "")), "<f4")
    if len(kernels) != n_kernels or kept.size != n_kept:
        raise ModelError(f"{label}: holds no weights that training can begin with; give a checkpoint (.npz)")
    position = 0
    for layer in model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        found = [kernels.pop(0)] if layer.__class__.__name__ == "Conv2D" else []
        for weight in weights[len(found) :]:
            found.append(kept[position : position + weight.size].reshape(weight.shape))
            position += weight.size
        layer.set_weights(found)
    _divide_normalisation(model)
    return list(model.get_weights())


def _in_order(model: Any) -> list[tuple[NDArray[np.float32], bool]]:
    """Return each layer's weights, and whether it is a convolution's kernel."""
    return [
        (weight, index == 0 and layer.__class__.__name__ == "Conv2D")
        for layer in model.layers
        for index, weight in enumerate(layer.get_weights())
    ]


def _divide_normalisation(model: Any) -> None:
    """Take out of each kernel what was multiplied in from the batch normalisation behind it."""
    layers = model.layers
    for layer, following in pairwise(layers):
        if following.__class__.__name__ != "BatchNormalization":
            continue
        gamma, _, _, variance = following.get_weights()
        scale = gamma / np.sqrt(variance + following.epsilon)
        (kernel,) = layer.get_weights()
        layer.set_weights([np.divide(kernel, scale, out=np.zeros_like(kernel), where=scale != 0)])
