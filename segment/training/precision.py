"""The same network in fewer bits: 8-bit integers for the CPU, float16 for a GPU."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.serving.metadata import ModelMetadata, Slices
from segment.volumes import Volume

N_TILES = 16
SIDE = 256  # of a tile, in pixels
SAFE_BITS, ALL_BITS = 7, 8  # of a weight; see `to_int8`
_OPERATORS = ("Conv", "Relu", "MaxPool", "Concat", "Resize")


def to_int8(
    content: bytes, tiles: Sequence[NDArray[np.float32]], intensity: tuple[float, float], weight_bits: int = SAFE_BITS
) -> bytes:
    """Return a graph whose convolutions, and what lies between them, compute with 8-bit integers.

    Parameters
    ----------
    content : bytes
        A segmentation model in float32.
    tiles : sequence of ndarray of float32, shape (n_slices, height, width)
        Raw grey values; the least and the greatest value that each layer gives for them become 0 and 255.
    intensity : tuple of float
        Grey values that become -1 and 1 in them.
    weight_bits : {7, 8}
        8 are a little closer. But processors without instructions for it (VNNI on x86) add two products of 8-bit
        numbers in 16 bits, which overflow; with weights of 7 bits they do not.

    Returns
    -------
    bytes
        The ONNX file, in standard operators: ``QuantizeLinear`` and ``DequantizeLinear`` around those of float32,
        which ONNX Runtime joins into integer ones.

    Notes
    -----
    Weights have a scale a channel and values between layers one a tensor, unsigned: signed ones were 7 times as slow
    (docs/BENCHMARKS.md). What is in front of the first convolution, and from the last one on, stays in float32: the
    8 bits of a logit would leave steps of 0.03 in the probabilities around the threshold.

    References
    ----------
    Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    CVPR, doi:10.1109/CVPR.2018.00286.
    """
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Hands the tiles out one by one."""

        def __init__(self) -> None:
            self._feeds = iter({"image": tile[None], "intensity": np.array(intensity, np.float32)} for tile in tiles)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    model, convolutions = _load_graph(content)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        onnxruntime.set_default_logger_severity(3)
        try:
            quantize_static(
                model,
                str(path),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_OPERATORS),
                nodes_to_exclude=[convolutions[-1]],
                per_channel=True,
                reduce_range=weight_bits == SAFE_BITS,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            onnxruntime.set_default_logger_severity(2)  # its own default
        return path.read_bytes()


def to_float16(content: bytes) -> bytes:
    """Return a graph that computes in float16 from the first convolution to the last but one.

    Parameters
    ----------
    content : bytes
        A segmentation model in float32.

    Returns
    -------
    bytes
        The ONNX file. Inputs and outputs stay in float32, as do the normalisation of the grey values, which may be
        larger than float16 holds, and the last convolution with what follows.
    """
    from onnx import TensorProto, helper, numpy_helper

    model, convolutions = _load_graph(content)
    graph = model.graph
    nodes = list(graph.node)
    first, last = (next(node for node in nodes if node.name == convolutions[end]) for end in (0, -1))
    outside = _ancestors(nodes, first.input[0]) | {node.name for node in nodes[nodes.index(last) :]}
    made_inside = {output for node in nodes if node.name not in outside for output in node.output}
    constants = {each.name: each for each in graph.initializer}
    del graph.node[:], graph.value_info[:]  # the latter may state the types as they were
    made: set[str] = set()
    for node in nodes:
        is_inside = node.name not in outside
        if is_inside and node.op_type not in _OPERATORS:
            raise InputError(
                f"the model: {node.op_type} lies between its convolutions, where float16 is known for "
                f"{', '.join(_OPERATORS)} only"
            )
        wanted, ending = (TensorProto.FLOAT16, ":16") if is_inside else (TensorProto.FLOAT, ":32")
        for index, name in enumerate(node.input):
            if name in constants:
                if not is_inside or node.op_type != "Conv":  # the factors of a Resize stay as they are
                    continue
                if name + ending not in made:
                    half = numpy_helper.to_array(constants[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(half, name + ending))
            elif name and is_inside != (name in made_inside):
                if name + ending not in made:
                    graph.node.append(helper.make_node("Cast", [name], [name + ending], to=wanted))
            else:
                continue
            made.add(name + ending)
            node.input[index] = name + ending
        graph.node.append(node)
    return bytes(_without_unused(model).SerializeToString())


def draw_tiles(
    image: Volume, runs: Sequence[Slices], metadata: ModelMetadata, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Read tiles at random places of some slices, along each of the model's axes in turn.

    Parameters
    ----------
    image : Volume
    runs : sequence of (int, int)
        Slices that they may lie in: first, and one past the last.
    metadata : ModelMetadata
        Of the model that they are for.
    rng : numpy.random.Generator

    Returns
    -------
    list of ndarray of float32, shape (n_slices, height, width)
        Raw grey values; up to 256 pixels a side, where there are as many.

    Raises
    ------
    InputError
        The slices are too few or too small for a tile along any axis.
    """
    offsets, stride = np.array(metadata.slice_offsets), metadata.stride
    boxes: list[tuple[int, tuple[Slices, ...]]] = []  # an axis, and where tiles along it may lie
    for first, stop in runs:
        box = ((first, stop), *((0, n) for n in image.shape[1:]))
        boxes += [
            (axis, box)
            for axis in map("zyx".index, metadata.axes)
            if all(b - a >= stride for other, (a, b) in enumerate(box) if other != axis)
        ]
    if not boxes:
        raise InputError(f"--slices: no tile of {stride} by {stride} pixels fits into them; choose more slices")
    tiles = []
    for index in range(N_TILES):
        axis, box = boxes[index % len(boxes)]
        window = []
        for other, (a, b) in enumerate(box):
            side = 1 if other == axis else min(SIDE, b - a) // stride * stride
            start = int(rng.integers(a, b - side + 1))
            window.append((start, start + side))
        a, b = box[axis]
        around = np.clip(window[axis][0] + offsets, a, b - 1)
        window[axis] = (int(around[0]), int(around[-1]) + 1)
        part = np.moveaxis(image[tuple(slice(*each) for each in window)], axis, 0)
        tiles.append(part[around - around[0]].astype(np.float32))
    return tiles


def _load_graph(content: bytes) -> tuple[Any, list[str]]:
    """Return the graph without what nothing uses, every node named, and the names of its convolutions in order."""
    import onnx

    model = _without_unused(onnx.load_from_string(content))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) < 2:
        raise InputError(f"the model: expected a network of 2 convolutions or more, found {len(convolutions)}")
    return model, convolutions


def _without_unused(model: Any) -> Any:
    """Take out of a graph, in place, what no output depends on: the tools would warn of it."""
    graph = model.graph
    used = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):  # they are in an order in which they can run
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    constants = [each for each in graph.initializer if each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)
    return model


def _ancestors(nodes: Sequence[Any], tensor: str) -> set[str]:
    """Return the names of the nodes that a tensor is computed by."""
    wanted, found = {tensor}, set()
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.add(node.name)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the warnings that ONNX Runtime's tools write about graphs that they can do without changing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def has_vnni() -> bool | None:
    """Return whether the processor multiplies 8-bit integers in hardware; None where it cannot be told."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return None
    flags = next((line.split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), None)
    return None if flags is None else any("vnni" in flag for flag in flags)
