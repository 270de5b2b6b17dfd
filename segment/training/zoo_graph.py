"""The network as the BioImage Model Zoo runs it: one input, a stack, and no intensity beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.serving.metadata import ModelMetadata
from segment.serving.model import SegmentationModel
from streamdetect.errors import ParityError
from streamdetect.runtime import create_session

TOLERANCE = 1e-4  # of a probability, as where Keras is exported
_INT64_MAX = 2**63 - 1  # ONNX: to the end


def take_stacks(content: bytes, metadata: ModelMetadata) -> bytes:
    """Return the network as a graph from stacks to stacks, with no other input.

    Parameters
    ----------
    content : bytes
        A model file: from ``image`` (n, n_slices, height, width) and ``intensity`` (2,) to ``probability``.
    metadata : ModelMetadata
        Its document.

    Returns
    -------
    bytes
        An ONNX file: from ``image`` (n, 1, z, y, x), scaled so that the percentiles are 0 and 1, to ``probability`` of
        that shape. Beyond the first and the last slice, those are repeated. It carries none of our metadata, as
        ``segment predict`` cannot run it.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(content)
    graph, reach = model.graph, max(metadata.slice_offsets)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in ("image", "probability"):
                    names[index] = f"{name}_of_slices"

    def constant(name: str, values: Sequence[float], kind: type = np.int64) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    constant("intensity", (0, 1), np.float32)  # was an input
    z_axis = constant("zoo_z_axis", [2])
    front = [
        helper.make_node("Pad", ["image", constant("zoo_pads", [0, 0, reach, 0, 0] * 2)], ["zoo_pad"], mode="edge")
    ]
    neighbours = []
    for number, offset in enumerate(metadata.slice_offsets):
        start = constant(f"zoo_start{number}", [reach + offset])
        stop = constant(f"zoo_stop{number}", [offset - reach or _INT64_MAX])
        neighbours.append(f"zoo_neighbour{number}")
        front.append(helper.make_node("Slice", ["zoo_pad", start, stop, z_axis], neighbours[-1:]))
    front += [
        helper.make_node("Concat", neighbours, ["zoo_neighbours"], axis=1),
        helper.make_node("Transpose", ["zoo_neighbours"], ["zoo_slices"], perm=(0, 2, 1, 3, 4)),
        helper.make_node("Shape", ["zoo_slices"], ["zoo_shape_of_slice"], start=2),
        helper.make_node("Concat", [constant("zoo_any", [-1]), "zoo_shape_of_slice"], ["zoo_shape"], axis=0),
        helper.make_node("Reshape", ["zoo_slices", "zoo_shape"], ["image_of_slices"]),
    ]
    back = [
        helper.make_node("Shape", ["image"], ["zoo_shape_of_stack"]),
        helper.make_node("Reshape", ["probability_of_slices", "zoo_shape_of_stack"], ["probability"]),
    ]
    nodes = [*front, *graph.node, *back]
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in used]
    for field in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer, model.metadata_props):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)  # ONNX Runtime warns of those that no node takes
    for name, ends in (("image", graph.input), ("probability", graph.output)):
        ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "z", "y", "x"]))
    return model.SerializeToString()


def opset_of(content: bytes) -> int:
    """Return the version of ONNX's own operators that a graph uses."""
    import onnx

    return next(each.version for each in onnx.load_from_string(content).opset_import if each.domain in ("", "ai.onnx"))


def predict_stack(model: SegmentationModel, stack: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probabilities of a stack as ``segment predict`` computes them along z, where it needs no tiles.

    Parameters
    ----------
    model : SegmentationModel
    stack : ndarray, shape (z, y, x)
        Its height and width are multiples of the model's stride.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    low, high = np.percentile(stack, model.metadata.percentiles)
    offsets = np.array(model.metadata.slice_offsets)
    around = [np.clip(index + offsets, 0, len(stack) - 1) for index in range(len(stack))]
    return np.concatenate([model.predict(stack[each][None].astype(np.float32), low, high) for each in around])


def check_graph(graph: bytes, model: SegmentationModel, stack: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """Compare a graph of `take_stacks` with the model that it was made from.

    Parameters
    ----------
    graph : bytes
    model : SegmentationModel
    stack : ndarray, shape (z, y, x)
        As for `predict_stack`.

    Returns
    -------
    probability : ndarray of float32, shape (z, y, x)
        What the model gives.
    largest : float
        Difference between the two.

    Raises
    ------
    ParityError
        They differ by more than `TOLERANCE`.
    """
    expected = predict_stack(model, stack)
    low, high = np.percentile(stack, model.metadata.percentiles)
    scaled = ((stack - low) / (high - low)).astype(np.float32)
    found = create_session(graph, threads=model.threads).run(("probability",), {"image": scaled[None, None]})[0]
    largest = float(np.abs(found[0, 0] - expected).max())
    if not largest <= TOLERANCE:  # NaN is refused too
        raise ParityError(
            f"probability: the package's graph differs from the model by {largest:.2g} (at most {TOLERANCE:g}); "
            "nothing was written"
        )
    return expected, largest
