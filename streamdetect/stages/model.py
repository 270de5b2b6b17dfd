"""The trained model as the live path sees it: one ONNX file, its session and its metadata."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from streamdetect.errors import ModelError
from streamdetect.runtime import RUNTIME_ERRORS, create_session, first_line
from streamdetect.settings import DecisionSettings, EventSettings, FeatureSettings, HealthSettings

METADATA_KEY = "streamdetect"
SCHEMA_VERSION = 1
MAX_BATCH = 64  # rows; the fastest a row, see tools/bench: 16 to 64 differ little, more spill the cache
_PROBE_BATCHES = (3, 17, MAX_BATCH)
_SHIPPED = (Path(__file__).parents[1] / "models", Path(__file__).parents[2] / "models")  # wheel, checkout
_LOAD_ERRORS: tuple[type[Exception], ...] = (ModelError, *RUNTIME_ERRORS)

_log = logging.getLogger(__name__)

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingRecording(_Document):
    """A recording that a model was trained on: its file name, SHA-256, and windows in all and for each event."""

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    n_windows: Count
    n_positive: dict[Name, Count]


class Training(_Document):
    """Where a model comes from.

    Parameters
    ----------
    recordings : tuple of TrainingRecording
        Every recording that was trained on.
    features : str
        Name of the feature set, as asked for.
    stride_samples : int
        Distance between the windows that were trained on.
    seed : int
        Seed of every random choice.
    versions : dict of str to str
        Package versions.
    command : str
        What was typed; empty where there was no command.
    """

    recordings: tuple[TrainingRecording, ...]
    features: Name
    stride_samples: Annotated[int, Field(ge=1)]
    seed: int
    versions: dict[Name, str]
    command: str = ""


class Clock(_Document):
    """The clock-only control: how often each event was going on, by time since the start of a recording.

    Parameters
    ----------
    bin_s : float
        Width of a bin in s.
    rates : dict of str to tuple of float
        For each event the rate of its label in each bin, 0 to 1; empty where it was not measured.
    """

    bin_s: Annotated[float, Field(gt=0)] = 1.0
    rates: dict[Name, tuple[Annotated[float, Field(ge=0, le=1)], ...]] = {}


class ModelMetadata(_Document):
    """The JSON document in a model file: all that is needed to run it, and where it comes from.

    Parameters
    ----------
    schema_version : int
        Always 1.
    name : str
        What a person calls the model.
    created : str
        ISO 8601 date and time.
    sfreq : float
        Sampling rate in Hz.
    ch_names : tuple of str
        Channels, in the order of the features.
    reference : {"as recorded"}
        How the channels are referenced before filtering.
    health, features, decisions
        Settings of the stages; one of ``decisions`` an event.
    feature_names : tuple of str
        As `name_features` gives them.
    events : tuple of EventSettings
        What is detected, in the order of the graph's columns.
    members : tuple of str
        Outputs of the graph beside ``probability``, each a member of the vote.
    training : Training
        Where the model comes from.
    scores : dict
        Cross-validated scores, and the ``protocol`` that gave them; empty where there are none.
    patterns : dict of str to dict of str to tuple of float
        For each member and event a value a feature, for scalp maps; may be empty.
    clock : Clock
        The clock-only control; may be empty.
    """

    schema_version: Literal[1] = 1
    name: Name
    created: str
    sfreq: Annotated[float, Field(gt=0)]
    ch_names: Annotated[tuple[Name, ...], Field(min_length=1)]
    reference: Literal["as recorded"] = "as recorded"
    health: HealthSettings
    features: FeatureSettings
    feature_names: tuple[Name, ...]
    events: Annotated[tuple[EventSettings, ...], Field(min_length=1)]
    decisions: tuple[DecisionSettings, ...]
    members: tuple[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], ...] = ("lda", "rf", "lr")
    training: Training
    scores: dict[str, JsonValue] = {}
    patterns: dict[str, dict[str, tuple[float, ...]]] = {}
    clock: Clock = Clock()

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the events, in the order of the graph's columns."""
        return tuple(event.name for event in self.events)

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Threshold of each event, shape (n_events,)."""
        return np.array([decision.threshold for decision in self.decisions])

    @model_validator(mode="after")
    def _check_fit(self) -> ModelMetadata:
        """Check what no field can know alone; each message starts with the field's name."""
        _check_created(self.created)
        _check_unique("ch_names", self.ch_names)
        _check_unique("events", self.event_names)
        _check_unique("members", self.members)
        if not {"probability", "features"}.isdisjoint(self.members):
            raise ValueError("members: 'probability' and 'features' are names of the vote's own input and output")
        for index, one in enumerate(self.features.filters):
            if max(one.l_freq or 0, one.h_freq or 0) >= self.sfreq / 2:
                raise ValueError(f"features.filters[{index}]: {one.label} is not below half of sfreq {self.sfreq:g}")
        expected = name_features(self.features, self.ch_names)
        if self.feature_names != expected:
            raise ValueError(_describe_difference("feature_names", self.feature_names, expected))
        if len(self.decisions) != len(self.events):
            raise ValueError(f"decisions: expected {len(self.events)}, one an event, found {len(self.decisions)}")
        for index, recording in enumerate(self.training.recordings):
            _check_known(f"training.recordings[{index}].n_positive", recording.n_positive, self.event_names)
        _check_known("clock.rates", self.clock.rates, self.event_names)
        _check_known("patterns", self.patterns, self.members)
        for member, by_event in self.patterns.items():
            _check_known(f"patterns.{member}", by_event, self.event_names)
            for event, values in by_event.items():
                if len(values) != len(expected):
                    raise ValueError(f"patterns.{member}.{event}: expected {len(expected)} values, found {len(values)}")
        if self.scores and not isinstance(self.scores.get("protocol"), str):
            raise ValueError("scores.protocol: scores must say which protocol gave them")
        self.to_json()  # a NaN in scores is no JSON
        return self

    def to_json(self) -> str:
        """Return the document as it stands in the file."""
        return json.dumps(self.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelMetadata:
        """Read the document, and refuse one that is not understood in full.

        Parameters
        ----------
        text : str or bytes
            JSON.

        Returns
        -------
        ModelMetadata

        Raises
        ------
        ModelError
            No JSON, a newer schema, or a field that is missing, unknown or out of range; one line that names it.
        """
        try:
            document = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_finite)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"metadata is not valid JSON: {first_line(error)}") from error
        if not isinstance(document, dict):
            raise ModelError(f"metadata: expected a JSON object, found {type(document).__name__}")
        version = document.get("schema_version")
        if type(version) is int and version > SCHEMA_VERSION:
            raise ModelError(
                f"made by a newer streamdetect (schema {version}, this version reads {SCHEMA_VERSION}): "
                "upgrade with pip install -U streamdetect"
            )
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise ModelError(_describe_invalid(error)) from error


def name_features(features: FeatureSettings, ch_names: Iterable[str]) -> tuple[str, ...]:
    """Name each feature after its pass band and channel, in the order in which they are computed.

    Parameters
    ----------
    features : FeatureSettings
        The bank of filters.
    ch_names : iterable of str
        Channel names.

    Returns
    -------
    tuple of str
        Filter by filter, within a filter channel by channel.

    Examples
    --------
    >>> from streamdetect.settings import FilterSettings
    >>> name_features(FeatureSettings("2019", (FilterSettings(None, 30.0),), 500, 10, log=False), ["C3", "C4"])
    ('0-30 Hz C3', '0-30 Hz C4')
    """
    channels = tuple(ch_names)
    return tuple(f"{one.label} {channel}" for one in features.filters for channel in channels)


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

    `predict` keeps no state between calls.
    """

    def __init__(self, content: bytes, label: str = "the model") -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._session = create_session(content)
            document = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            if document is None:
                raise ModelError(f"not a streamdetect model: its metadata has no key {METADATA_KEY!r}")
            self.metadata = ModelMetadata.from_json(document)
            self._outputs = ("probability", *self.metadata.members)
            _check_graph(self._session, self.metadata)
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
        path = _find(path_or_name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
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
        """Run one batch, a single row as two."""
        if len(features) > 1:
            return self._session.run(self._outputs, {"features": features})
        pair = np.concatenate((features, features))
        return [values[:1] for values in self._session.run(self._outputs, {"features": pair})]

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


def list_shipped() -> tuple[str, ...]:
    """Return the names of the models that are shipped with the package."""
    return tuple(sorted({path.stem for folder in _SHIPPED for path in folder.glob("*.onnx")}))


def _find(path_or_name: str | PathLike[str]) -> Path:
    path = Path(path_or_name)
    if path.exists():
        return path
    if path.name == str(path_or_name):  # a bare name, no folder
        for folder in _SHIPPED:
            shipped = folder / f"{path.name.removesuffix('.onnx')}.onnx"
            if shipped.is_file():
                return shipped
    names = ", ".join(list_shipped()) or "none"
    raise ModelError(f"{path_or_name}: no such file, and no model shipped under that name (shipped: {names})")


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


def _check_created(created: str) -> None:
    try:
        datetime.fromisoformat(created)
    except ValueError:
        raise ValueError(f"created: expected an ISO 8601 date and time, found {created!r}") from None


def _check_unique(field: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{field}: {repeated[0]!r} occurs more than once")


def _check_known(field: str, names: Iterable[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{field}: {unknown[0]!r} is unknown, expected some of {', '.join(known) or 'none'}")


def _describe_difference(field: str, found: Sequence[str], expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"{field}: expected {len(expected)} (filters times channels), found {len(found)}"
    index = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"{field}[{index}]: expected {expected[index]!r}, found {found[index]!r}"


def _describe_invalid(error: ValidationError) -> str:
    """Turn pydantic's account into one line: the first field at fault, and why."""
    first = error.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    return f"metadata: {field}: {message}" if field else f"metadata: {message}"


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number that JSON knows")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value
