"""A fitted estimator as one ONNX graph: input ``features``, outputs ``probability`` and each member of the vote.

skl2onnx converts each member alone; the vote over them is laid here. That goes round the traps in skl2onnx's own
converter for votes (`flatten_transform`, weights as a list, dropped members) and gives the members as outputs. A linear
member is one product, one sum and one sigmoid or softmax: skl2onnx lays 13 nodes for it, which take longer than the
forest, and gives LDA's sigmoid(2d) for sigmoid(d).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from streamdetect.errors import InputError
from streamdetect.runtime import first_line
from streamdetect.training.ensemble import CLIPPED, CalibratedVote, split_events, split_members
from streamdetect.training.label_sets import EventOfSets, set_rows

OPSETS = {"": 18, "ai.onnx.ml": 3}  # ONNX Runtime 1.20, the oldest that we run on, knows them
_IR_VERSION = 8
_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_BYTES_PER_NODE = 30  # of a tree in a file, at least
_LINEAR = (LinearDiscriminantAnalysis, LogisticRegression)
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
        vote = graph.add("Sum", *shared)
        if isinstance(classifier, CalibratedVote):
            vote = graph.add_sigmoid(vote, classifier.slope, classifier.intercept)
        outputs.setdefault("probability", []).append(vote)
    for name in ("probability", *(name for name in outputs if name != "probability")):
        graph.add_output(name, outputs[name])
    return graph.finish()


def find_trees(thing: object) -> Iterator[BaseEstimator]:
    """Yield every fitted decision tree inside an estimator, however deep."""
    return (part for part in walk_objects(thing) if hasattr(part, "tree_"))


def walk_objects(thing: object) -> Iterator[Any]:
    """Yield every object with attributes inside another, however deep."""
    seen: set[int] = set()
    pending = [thing]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            pending.extend(part)
        elif isinstance(part, np.ndarray):
            pending.extend(part.ravel().tolist() if part.dtype == object else ())
        if hasattr(part, "__dict__"):
            yield part
            pending.extend(vars(part).values())


class _Graph:
    """An ONNX graph that grows; values are known by the names of the edges."""

    def __init__(self, n_features: int) -> None:
        self._n_features = n_features
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._opsets = dict(OPSETS)
        self._features64: str | None = None
        self._softmax: dict[int, str] = {}  # of classifiers of label sets that several events share, by identity

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
        if isinstance(classifier, EventOfSets):
            return self._add_event_of_sets(classifier)
        affine = _fold_affine(classifier)
        if affine is not None and affine[0].shape[1] == 1:
            return self.add("Sigmoid", self._add_affine(*affine))
        part = compose.add_prefix(_convert(classifier, self._n_features), prefix)
        source = part.graph.input[0]
        self.add("Identity", "features", output=source.name)
        nodes, constants = _keep_needed(part.graph, f"{prefix}probabilities")
        self._nodes.extend(nodes)
        self._constants.extend(constants)
        for opset in part.opset_import:
            self._opsets.setdefault(opset.domain, opset.version)
        positive = self.add("Gather", f"{prefix}probabilities", self.constant(np.array([1])), axis=1)
        positive = self.add("Cast", positive, to=TensorProto.DOUBLE)
        return self.add("Clip", positive, self.constant(np.float64(0)), self.constant(np.float64(1)))

    def _add_affine(self, weights: np.ndarray, intercept: np.ndarray) -> str:
        if self._features64 is None:
            self._features64 = self.add("Cast", "features", to=TensorProto.DOUBLE)
        product = self.add("MatMul", self._features64, self.constant(weights))
        return self.add("Add", product, self.constant(intercept))

    def _add_event_of_sets(self, classifier: EventOfSets) -> str:
        """Add the sum of a linear classifier's probabilities over the sets that hold the event; the softmax once."""
        key = id(classifier.sets)
        if key not in self._softmax:
            affine = _fold_affine(classifier.sets)
            if affine is None:
                raise InputError(f"estimator: label sets by a {type(classifier.sets).__name__} cannot be converted")
            weights, intercept = set_rows(affine[0].T).T, set_rows(affine[1][:, None])[:, 0]
            self._softmax[key] = self.add("Softmax", self._add_affine(weights, intercept), axis=1)
        return self.add("MatMul", self._softmax[key], self.constant(classifier.holds[:, None].astype(np.float64)))

    def add_sigmoid(self, probability: str, slope: float, intercept: float) -> str:
        """Add Platt's sigmoid of a probability's logit; see `CalibratedVote`."""
        p = self.add("Clip", probability, self.constant(np.float64(CLIPPED)), self.constant(np.float64(1 - CLIPPED)))
        rest = self.add("Sub", self.constant(np.float64(1)), p)
        scaled = self.add("Mul", self.add("Log", self.add("Div", p, rest)), self.constant(np.float64(slope)))
        return self.add("Sigmoid", self.add("Add", scaled, self.constant(np.float64(intercept))))

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


def _convert(classifier: BaseEstimator, n_features: int) -> onnx.ModelProto:
    """Run skl2onnx on one classifier; its graph's output ``probabilities`` is (n, 2)."""
    try:
        return convert_sklearn(
            classifier,
            initial_types=[("features", FloatTensorType([None, n_features]))],
            options={id(classifier): {"zipmap": False}},
            target_opset=OPSETS,
        )
    except _CONVERTER_ERRORS as error:
        name = type(classifier).__name__
        raise InputError(f"estimator: skl2onnx cannot convert {name}: {first_line(error)}") from error


def _fold_affine(classifier: BaseEstimator) -> tuple[np.ndarray, np.ndarray] | None:
    """Return weights and intercepts of an LDA or logistic regression, a scaler before it folded in; else None.

    Weights are (n_features, n_outputs). With one output the probability of class 1 is the sigmoid of the features'
    weighted sum, in both; with more that of each class is their softmax.
    """
    steps = [step for _, step in classifier.steps] if isinstance(classifier, Pipeline) else [classifier]
    *scalers, last = steps
    if type(last) not in _LINEAR or any(type(one) is not StandardScaler for one in scalers):
        return None
    weights, intercept = last.coef_.T.astype(np.float64), last.intercept_.astype(np.float64)
    for scaler in reversed(scalers):
        if scaler.with_std:
            weights = weights / scaler.scale_[:, None]
        if scaler.with_mean:
            intercept = intercept - scaler.mean_ @ weights
    return weights, intercept


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
