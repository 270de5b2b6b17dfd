"""scikit-learn to ONNX through the parity gate: what does not give the trained probabilities is not written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from google.protobuf.message import EncodeError
from numpy.typing import ArrayLike, NDArray
from onnx import helper
from sklearn.base import BaseEstimator

from streamdetect.errors import InputError, ModelError, ParityError
from streamdetect.files import whole_file
from streamdetect.stages.metadata import METADATA_KEY, ModelMetadata
from streamdetect.stages.model import Model
from streamdetect.training.card import write_card
from streamdetect.training.ensemble import member_probabilities, split_events, split_members
from streamdetect.training.estimator_file import load_estimator, pick_evenly, save_estimator
from streamdetect.training.graph import build_graph

__all__ = ["ExportReport", "export_model", "load_estimator", "reexport", "save_estimator"]

TOLERANCE = 1e-5
N_GATE_WINDOWS = 10_000


@dataclass(frozen=True)
class ExportReport:
    """What the parity gate measured.

    Parameters
    ----------
    max_difference : float
        Largest difference of a probability, of the vote or of a member.
    n_windows : int
        Windows that were compared; fewer than 10,000 only where there were no more.
    n_bytes : int
        Size of the model file.
    """

    max_difference: float
    n_windows: int
    n_bytes: int


def export_model(
    estimator: BaseEstimator,
    X: ArrayLike,
    metadata: ModelMetadata,
    path: str | PathLike[str],
    *,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Write a fitted estimator as a model file, with a model card beside it.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted `VotingClassifier` (soft), or any classifier that skl2onnx converts; for more than one event a
        `MultiOutputClassifier` of it. Classes are 0 and 1.
    X : array-like, shape (n, n_features)
        Windows that it was trained on; 10,000 of them, evenly spread, pass the gate.
    metadata : ModelMetadata
        The document that goes into the file. ``members`` are the vote's; for a classifier that is no vote, ``()``.
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
        ONNX Runtime gives another probability, or another decision at the model's threshold. Nothing is written.
    InputError
        The estimator cannot be converted, does not fit the metadata, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: a model file's name must end in .onnx")
    rows = np.ascontiguousarray(pick_evenly(np.asarray(X, dtype=np.float32), N_GATE_WINDOWS))
    _check_fit(estimator, rows, metadata)
    model = build_graph(estimator, len(metadata.feature_names))
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    try:
        content = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise InputError("estimator: an ONNX file holds at most 2 GB: bound the forest") from error
    max_difference = _pass_gate(content, estimator, rows, metadata, tolerance)
    sha256 = hashlib.sha256(content).hexdigest()
    card = write_card(metadata, sha256=sha256, max_difference=max_difference, n_windows=len(rows))
    with whole_file(path) as model_file, whole_file(path.with_suffix(".md")) as card_file:
        model_file.write_bytes(content)
        card_file.write_text(card, encoding="utf-8")
    return ExportReport(max_difference, len(rows), len(content))


def reexport(skops_path: str | PathLike[str], onnx_path: str | PathLike[str]) -> ExportReport:
    """Write the model file of an estimator that was kept with `save_estimator`; see `export_model`."""
    saved = load_estimator(skops_path)
    return export_model(saved.estimator, saved.windows, saved.metadata, onnx_path)


def _check_fit(estimator: BaseEstimator, rows: NDArray[np.float32], metadata: ModelMetadata) -> None:
    """Refuse an estimator or windows that are not what the metadata says."""
    n_features = len(metadata.feature_names)
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] != n_features:
        raise InputError(f"X: expected windows of shape (n, {n_features}), found {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError("X: windows hold NaN or infinite features (as float32)")
    classifiers = split_events(estimator)
    if len(classifiers) != len(metadata.events):
        raise InputError(f"estimator: expected {len(metadata.events)} events, found {len(classifiers)}")
    for classifier in classifiers:
        if not hasattr(classifier, "predict_proba"):
            raise InputError(f"estimator: {type(classifier).__name__} has no predict_proba, or is not fitted")
        members = tuple(split_members(classifier))
        if members != metadata.members:
            raise InputError(f"metadata.members: the estimator has {members}, found {metadata.members}")


def _pass_gate(
    content: bytes, estimator: BaseEstimator, rows: NDArray[np.float32], metadata: ModelMetadata, tolerance: float
) -> float:
    """Compare ONNX Runtime with the estimator; return the largest difference, or refuse."""
    try:
        found = Model(content, "the exported graph").predict(rows)
    except ModelError as error:
        raise ParityError(f"{error}; nothing was written") from error
    expected = member_probabilities(estimator, rows)
    differences = {
        (name, event): float(np.abs(found[name][:, column] - values[:, column]).max())
        for name, values in expected.items()
        for column, event in enumerate(metadata.event_names)
    }
    (name, event), largest = max(differences.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
    if not largest <= tolerance:  # NaN is refused too
        raise ParityError(
            f"{name} of {event}: ONNX Runtime differs from the trained estimator by {largest:.2g} "
            f"(at most {tolerance:g}) on {len(rows)} windows; nothing was written"
        )
    live = found["probability"] >= metadata.thresholds.astype(np.float32)  # as the decision stage compares
    flips = live != (expected["probability"] >= metadata.thresholds)
    for event, n_flips in zip(metadata.event_names, flips.sum(axis=0), strict=True):
        if n_flips:
            raise ParityError(
                f"{event}: {n_flips} of {len(rows)} windows get another decision at its threshold from ONNX Runtime: "
                "move the threshold off a window's own probability; nothing was written"
            )
    return largest
