"""Small segmentation networks, built by hand as ONNX: what they compute and how far they see is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segment.serving.metadata import METADATA_KEY, ModelMetadata, Network, Training

SHA256 = "0" * 64
RADIUS = 11  # pixels on either side of a tile that `make_unet` sees; a test measures it


def make_segment_metadata(**changes: Any) -> ModelMetadata:
    """Return a valid document."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00+00:00",
        "target": "mitochondria",
        "voxel_nm": (5.0, 5.0, 5.0),
        "slice_offsets": (-1, 0, 1),
        "stride": 4,
        "halo": 12,
        "axes": "zyx",
        "threshold": 0.5,
        "network": Network(stem=1, width=4, depth=2),
        "training": Training(
            image="training.tif",
            image_sha256=SHA256,
            labels="labels.tif",
            labels_sha256=SHA256,
            train_slices=((0, 98),),
            validate_slices=(105, 125),
            seed=0,
            steps=1000,
            seconds=60.0,
            batch=4,
            patch_pixels=65536,
            versions={"numpy": "2"},
        ),
    }
    return ModelMetadata(**(fields | changes))


class _Graph:
    """Gathers nodes and weights."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(seed)

    def constant(self, name: str, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def convolve(self, x: str, n_in: int, n_out: int, *, gain: float = 1.0) -> str:
        kernel = self._rng.normal(size=(n_out, n_in, 3, 3)) * gain / np.sqrt(4.5 * n_in)
        kernel = self.constant(f"kernel{len(self.nodes)}", kernel.astype(np.float32))
        return self.add("Conv", x, kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def normalise(self) -> str:
        """Map low to -1 and high to 1, clipped to -2 to 2."""
        one = self.constant("one", np.float32(1))
        first, second = (self.constant(name, np.array([index])) for index, name in enumerate(("first", "second")))
        low, high = self.add("Gather", "intensity", first), self.add("Gather", "intensity", second)
        scaled = self.add("Div", self.add("Sub", "image", low), self.add("Sub", high, low))
        scaled = self.add("Sub", self.add("Add", scaled, scaled), one)
        limits = [self.constant(name, np.float32(value)) for name, value in (("least", -2), ("most", 2))]
        return self.add("Clip", scaled, *limits)

    def save(self, path: Path, metadata: ModelMetadata, logits: str) -> Path:
        self.nodes.append(helper.make_node("Sigmoid", [logits], ["probability"]))
        n_slices = len(metadata.slice_offsets)
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [
                helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", n_slices, "h", "w"]),
                helper.make_tensor_value_info("intensity", TensorProto.FLOAT, [2]),
            ],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, "h", "w"])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
        onnx.save(model, path)
        return path


def make_unet(path: Path, *, seed: int = 0, width: int = 4, **changes: Any) -> Path:
    """Write a U-Net of depth 2 with random weights: stride 4, and `RADIUS` pixels to either side of an aligned tile."""
    metadata = make_segment_metadata(**changes)
    net = _Graph(seed)
    x = net.normalise()
    fine = net.add("Relu", net.convolve(x, len(metadata.slice_offsets), width))
    middle = net.add("Relu", net.convolve(_pool(net, fine), width, 2 * width))
    coarse = net.add("Relu", net.convolve(_pool(net, middle), 2 * width, 2 * width))
    up = net.add("Concat", _enlarge(net, coarse), middle, axis=1)
    up = net.add("Relu", net.convolve(up, 4 * width, 2 * width))
    logits = net.convolve(net.add("Concat", _enlarge(net, up), fine, axis=1), 3 * width, 1, gain=2.0)
    return net.save(path, metadata, logits)


def make_pointwise(path: Path, weights: tuple[float, ...] = (0.0, -4.0, 0.0), **changes: Any) -> Path:
    """Write a network that looks at one pixel: the logit is the weighted sum of its normalised slices.

    With the weights that are preset, dark is foreground.
    """
    fields = {"stride": 1, "halo": 0, "network": Network(stem=1, width=1, depth=0)}
    metadata = make_segment_metadata(**(fields | changes))
    net = _Graph(0)
    kernel = net.constant("kernel", np.array(weights, np.float32).reshape(1, -1, 1, 1))
    return net.save(path, metadata, net.add("Conv", net.normalise(), kernel))


def _pool(net: _Graph, x: str) -> str:
    return net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def _enlarge(net: _Graph, x: str) -> str:
    scales = net.constant(f"scales{len(net.nodes)}", np.array([1, 1, 2, 2], np.float32))
    return net.add(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
