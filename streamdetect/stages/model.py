"""The trained model as the live path sees it: one ONNX file, its session and its metadata."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from streamdetect.errors import ModelError
from streamdetect.model_file import describe_foreign, read_model
from streamdetect.runtime import RUNTIME_ERRORS, create_session, first_line
from streamdetect.stages.metadata import (
    METADATA_KEY,
    SCHEMA_VERSION,
    Clock,
    ModelMetadata,
    Training,
    TrainingRecording,
    name_features,
)

__all__ = [
    "MAX_BATCH",
    "METADATA_KEY",
    "SCHEMA_VERSION",
    "Clock",
    "Model",
    "ModelMetadata",
    "Training",
    "TrainingRecording",
    "name_features",
]

MAX_BATCH = 64  # rows; 16 to 64 are the fastest a row
_PROBE_BATCHES = (1, 3, 17, MAX_BATCH)
_LOAD_ERRORS: tuple[type[Exception], ...] = (ModelError, *RUNTIME_ERRORS)

_log = logging.getLogger(__name__)


class Model:
    """An ONNX model file, ready to run.

    Parameters
    ----------
    content : bytes
        The file's content.
    label : str
        What error messages call it.

    Attributes
    ----------
    metadata : ModelMetadata
        The validated document in the file.
    sha256 : str
        Hash of the file.

    Raises
    ------
    ModelError
        No streamdetect model, or one whose graph does not fit its metadata.

    Notes
    -----
    ONNX Runtime sums in another order for a batch of one, and for large batches with more threads, so that the same row
    could get another probability (3e-7) in another chunk. Here it never does: one thread, no batch of one, at most
    `MAX_BATCH` rows; whether rows are then bit-identical in every batch is tried out at load, and where it fails, every
    row runs in a batch of two.

    `predict` keeps no state between calls, but reuses memory: one thread at a time.
    """

    def __init__(self, content: bytes, label: str = "the model") -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._session = create_session(content)
            documents = self._session.get_modelmeta().custom_metadata_map
            if METADATA_KEY not in documents:
                raise ModelError(describe_foreign(documents, METADATA_KEY))
            self.metadata = ModelMetadata.from_json(documents[METADATA_KEY])
            self._outputs = ("probability", *self.metadata.members)
            _check_graph(self._session, self.metadata)
            self._bind_pair()
            self._max_batch = self._probe()
        except _LOAD_ERRORS as error:
            raise ModelError(f"{label}: {first_line(error).removeprefix('the ONNX model: ')}") from error

    @classmethod
    def load(cls, path_or_name: str | PathLike[str]) -> Model:
        """Open a model file, or a model that is shipped with the package.

        Parameters
        ----------
        path_or_name : path or str
            A file, or a shipped model's name with or without ``.onnx``.

        Returns
        -------
        Model

        Raises
        ------
        ModelError
            There is no such file or name, or it is no model that this version can run.
        """
        content, path = read_model(path_or_name, METADATA_KEY)
        return cls(content, str(path))

    @property
    def n_features(self) -> int:
        """Number of features that a row has."""
        return len(self.metadata.feature_names)

    def predict(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the probability of each event, by the vote and by each of its members.

        Parameters
        ----------
        features : ndarray of float32, shape (n, n_features)
            Finite features, in the order of ``metadata.feature_names``.

        Returns
        -------
        dict of str to ndarray of float32, shape (n, n_events)
            ``probability`` and one entry a member, in that order. A row's values do not depend on the other rows.

        Raises
        ------
        ModelError
            The array has another shape or type.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features or features.dtype != np.float32:
            raise ModelError(
                f"features: expected float32 of shape (n, {self.n_features}), found {features.dtype} of "
                f"shape {features.shape}"
            )
        n_rows, step = len(features), self._max_batch
        if n_rows == 0:
            shape = (0, len(self.metadata.events))
            return {name: np.empty(shape, np.float32) for name in self._outputs}
        blocks = [self._run(features[start : start + step]) for start in range(0, n_rows, step)]
        if len(blocks) == 1:
            return dict(zip(self._outputs, blocks[0], strict=True))
        joined = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
        return dict(zip(self._outputs, joined, strict=True))

    def _run(self, features: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run one batch, a single row as a pair of it."""
        if len(features) > 1:
            return self._session.run(self._outputs, {"features": features})
        self._pair[:] = features
        self._session.run_with_iobinding(self._pair_binding)
        return [values[:1].copy() for values in self._pair_outputs]

    def _bind_pair(self) -> None:
        """Lay out the memory of a batch of two once: live, where each row comes alone, that saves a third of a run."""
        self._pair = np.zeros((2, self.n_features), dtype=np.float32)
        self._pair_outputs = [np.empty((2, len(self.metadata.events)), dtype=np.float32) for _ in self._outputs]
        self._pair_binding = self._session.io_binding()
        self._pair_binding.bind_cpu_input("features", self._pair)
        for name, values in zip(self._outputs, self._pair_outputs, strict=True):
            self._pair_binding.bind_output(name, "cpu", 0, np.float32, values.shape, values.ctypes.data)

    def _probe(self) -> int:
        """Run the graph on random rows; return the largest batch in which a row's result is that of a batch of two."""
        rows = _random_rows(MAX_BATCH, self.n_features)
        pairs = self._run_in(2, rows)
        n_events = len(self.metadata.events)
        for name, values in zip(self._outputs, pairs, strict=True):
            if values.shape != (MAX_BATCH, n_events) or not ((values >= 0) & (values <= 1)).all():
                raise ModelError(f"output {name}: expected probabilities, 0 to 1, of shape (n, {n_events})")
        for size in _PROBE_BATCHES:
            if not all(map(np.array_equal, self._run_in(size, rows), pairs)):
                _log.warning("ONNX Runtime's answer depends on the batch here (%d rows): running pairs, slower", size)
                return 2
        return MAX_BATCH

    def _run_in(self, size: int, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        blocks = [self._run(rows[start : start + size]) for start in range(0, len(rows), size)]
        return [np.concatenate(columns) for columns in zip(*blocks, strict=True)]


def predict_together(requests: Sequence[tuple[Model, NDArray[np.float32]]]) -> list[dict[str, NDArray[np.float32]]]:
    """Run models on rows of their own; all rows of one model run together.

    Parameters
    ----------
    requests : sequence of (Model, ndarray of float32, shape (n, n_features))
        The same model may come often.

    Returns
    -------
    list of dict
        What `Model.predict` returns for each.
    """
    if len(requests) == 1:
        model, rows = requests[0]
        return [model.predict(rows)]
    found: list[dict[str, NDArray[np.float32]]] = [{} for _ in requests]
    for model in {id(model): model for model, _ in requests}.values():
        mine = [(index, rows) for index, (other, rows) in enumerate(requests) if other is model]
        outputs = model.predict(np.concatenate([rows for _, rows in mine]))
        start = 0
        for index, rows in mine:
            found[index] = {name: values[start : start + len(rows)] for name, values in outputs.items()}
            start += len(rows)
    return found


def _random_rows(n_rows: int, n_features: int) -> NDArray[np.float32]:
    """Return rows of every magnitude that a feature may have (V² to µV², logarithms), the same on each call."""
    rng = np.random.default_rng(0)
    magnitude = 10.0 ** rng.integers(-12, 4, size=(n_rows, 1))
    return (rng.standard_normal((n_rows, n_features)) * magnitude).astype(np.float32)


def _check_graph(session: InferenceSession, metadata: ModelMetadata) -> None:
    """Refuse a graph whose inputs and outputs are not those that the metadata promises."""
    found_inputs = {node.name: (node.type, list(node.shape)) for node in session.get_inputs()}
    if list(found_inputs) != ["features"]:
        raise ModelError(f"graph: expected one input, features, found {', '.join(found_inputs) or 'none'}")
    found_outputs = {node.name: (node.type, list(node.shape)) for node in session.get_outputs()}
    names = ("probability", *metadata.members)
    if set(found_outputs) != set(names):
        raise ModelError(f"graph: expected the outputs {', '.join(names)}, found {', '.join(found_outputs) or 'none'}")
    widths = dict.fromkeys(names, len(metadata.events)) | {"features": len(metadata.feature_names)}
    for name, (kind, shape) in (found_inputs | found_outputs).items():
        if kind != "tensor(float)" or len(shape) != 2 or isinstance(shape[0], int) or shape[1] != widths[name]:
            raise ModelError(f"graph: {name} must be tensor(float) of shape (n, {widths[name]}), found {kind} {shape}")
