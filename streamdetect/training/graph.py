"""A fitted estimator as one ONNX graph: input ``features``, outputs ``probability`` and each member of the vote.

skl2onnx converts each member alone; the vote over them is laid here. That goes round the traps in skl2onnx's own
converter for votes (`flatten_transform`, weights as a list, dropped members) and gives the members as outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from streamdetect.errors import InputError
from streamdetect.runtime import first_line
from streamdetect.training.ensemble import split_events, split_members

OPSETS = {"": 18, "ai.onnx.ml": 3}  # ONNX Runtime 1.20, the oldest that we run on, knows them
_IR_VERSION = 8
_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_BYTES_PER_NODE = 30  # of a tree in a file; measured 37 to 45
_LINEAR = (StandardScaler, LinearDiscriminantAnalysis, LogisticRegression)
_CONVERTER_ERRORS = (RuntimeError, AttributeError, ValueError, TypeError, KeyError, IndexError)


def build_graph(estimator: BaseEstimator, n_features: int) -> onnx.ModelProto:
    """Convert a fitted estimator.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted classifier of one event, or `MultiOutputClassifier` of more.
    n_features : int
        Number of features.

    Returns
    -------
    onnx.ModelProto
        Input ``features`` float32 (n, n_features); outputs ``probability`` and one a member of a soft vote, each
        float32 (n, n_events).

    Raises
    ------
    InputError
        skl2onnx cannot convert the estimator, or the file would be larger than 2 GB.

    Notes
    -----
    Linear members are calculated in float64, as scikit-learn does: on correlated band powers float32 is off by more
    than 1e-5.
    """
    n_nodes = sum(tree.tree_.node_count for tree in find_trees(estimator))
    if n_nodes * _BYTES_PER_NODE > _MAX_BYTES:
        raise _too_large(f"{n_nodes:,} nodes")
    graph = _Graph(n_features)
    outputs: dict[str, list[str]] = {}
    for index, classifier in enumerate(split_events(estimator)):
        members = split_members(classifier)
        if not members:
            outputs.setdefault("probability", []).append(graph.add_classifier(f"event{index}_", classifier))
            continue
        shared = []
        for name, (member, share) in members.items():
            probability = graph.add_classifier(f"event{index}_{name}_", member)
            outputs.setdefault(name, []).append(probability)
            shared.append(graph.add("Mul", probability, graph.constant(np.float64(share))))
        outputs.setdefault("probability", []).append(graph.add("Sum", *shared))
    for name in ("probability", *(name for name in outputs if name != "probability")):
        graph.add_output(name, outputs[name])
    return graph.finish()


def find_trees(thing: object) -> Iterator[BaseEstimator]:
    """Yield every fitted decision tree inside an estimator, however deep."""
    seen: set[int] = set()
    pending = [thing]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if hasattr(part, "tree_"):
            yield part
        if isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list | tuple):
            pending.extend(part)
        elif isinstance(part, np.ndarray):
            pending.extend(part.ravel().tolist() if part.dtype == object else ())
        elif hasattr(part, "__dict__"):
            pending.extend(vars(part).values())


class _Graph:
    """An ONNX graph that grows; values are known by the names of the edges."""

    def __init__(self, n_features: int) -> None:
        self._n_features = n_features
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._opsets = dict(OPSETS)

    def constant(self, values: np.ndarray | np.generic) -> str:
        """Add a constant and return its name."""
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"edge{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def add_classifier(self, prefix: str, classifier: BaseEstimator) -> str:
        """Add a converted classifier and return its probability of class 1, float64 (n, 1)."""
        kind = DoubleTensorType if _is_linear(classifier) else FloatTensorType
        part = compose.add_prefix(_convert(classifier, kind([None, self._n_features])), prefix)
        source = part.graph.input[0]
        self.add("Cast", "features", output=source.name, to=source.type.tensor_type.elem_type)
        nodes, constants = _keep_needed(part.graph, f"{prefix}probabilities")
        self._nodes.extend(nodes)
        self._constants.extend(constants)
        for opset in part.opset_import:
            self._opsets.setdefault(opset.domain, opset.version)
        both = self.add("Cast", f"{prefix}probabilities", to=TensorProto.DOUBLE)
        positive = self.add("Gather", both, self.constant(np.array([1])), axis=1)
        return self.add("Clip", positive, self.constant(np.float64(0)), self.constant(np.float64(1)))

    def add_output(self, name: str, columns: list[str]) -> None:
        """Add an output of one column an event."""
        joined = self.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
        self.add("Cast", joined, output=name, to=TensorProto.FLOAT)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(columns)]))

    def finish(self) -> onnx.ModelProto:
        """Return the checked model."""
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", self._n_features])
        graph = helper.make_graph(self._nodes, "streamdetect", [features], self._outputs, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="streamdetect")
        if model.ByteSize() > _MAX_BYTES:
            raise _too_large(f"{model.ByteSize() / 1e9:.1f} GB")
        return model


def _convert(classifier: BaseEstimator, kind: FloatTensorType | DoubleTensorType) -> onnx.ModelProto:
    """Run skl2onnx on one classifier; its graph's output ``probabilities`` is (n, 2)."""
    classifier = _replace_lda(classifier)
    try:
        return convert_sklearn(
            classifier,
            initial_types=[("features", kind)],
            options={id(classifier): {"zipmap": False}},
            target_opset=OPSETS,
        )
    except _CONVERTER_ERRORS as error:
        name = type(classifier).__name__
        raise InputError(f"estimator: skl2onnx cannot convert {name}: {first_line(error)}") from error


def _is_linear(classifier: BaseEstimator) -> bool:
    steps = [step for _, step in classifier.steps] if isinstance(classifier, Pipeline) else [classifier]
    return all(type(step) in _LINEAR for step in steps)


def _replace_lda(classifier: BaseEstimator) -> BaseEstimator:
    """Return a logistic regression with the same coefficients: skl2onnx 1.20 gives LDA's sigmoid(2d) for sigmoid(d)."""
    if isinstance(classifier, Pipeline):
        *before, (name, last) = classifier.steps
        return Pipeline([*before, (name, _replace_lda(last))])
    if type(classifier) is not LinearDiscriminantAnalysis:
        return classifier
    same = LogisticRegression()
    same.classes_, same.n_features_in_ = classifier.classes_, classifier.n_features_in_
    same.coef_, same.intercept_ = classifier.coef_, classifier.intercept_
    return same


def _keep_needed(graph: onnx.GraphProto, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes and constants that an output needs: not those of the label."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1], [constant for constant in graph.initializer if constant.name in needed]


def _too_large(found: str) -> InputError:
    return InputError(
        f"estimator: an ONNX file holds at most 2 GB, found {found}: bound the forest with max_leaf_nodes, "
        "min_samples_leaf or fewer trees, or train on fewer windows"
    )
