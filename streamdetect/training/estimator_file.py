"""The trained estimator kept beside the model: a ``.skops`` file, which is read without unpickling."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from os import PathLike

import numpy as np
import skops.io
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from streamdetect.errors import InputError
from streamdetect.files import whole_file
from streamdetect.runtime import first_line
from streamdetect.stages.metadata import ModelMetadata
from streamdetect.training.graph import walk_objects

N_KEPT_WINDOWS = 10_000  # what the parity gate asks for
# What skops does not trust by itself and a vote with a forest needs. A tree's arrays are read by C code without a look
# at the bounds: `_check_tree` looks.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "streamdetect.training.ensemble.CalibratedVote",
    "streamdetect.training.label_sets.EventOfSets",
    "streamdetect.training.label_sets.LabelSetVotes",
)
_NO_CHILD = -1
_LOAD_ERRORS = (OSError, zipfile.BadZipFile, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError)


@dataclass(frozen=True, eq=False)
class SavedEstimator:
    """What a ``.skops`` file holds.

    Parameters
    ----------
    estimator : BaseEstimator
        The fitted estimator.
    metadata : ModelMetadata
        The document that its ONNX file carries.
    windows : ndarray of float32, shape (n, n_features)
        Windows of the training data, for the parity gate.
    """

    estimator: BaseEstimator
    metadata: ModelMetadata
    windows: NDArray[np.float32]


def save_estimator(estimator: BaseEstimator, X: ArrayLike, metadata: ModelMetadata, path: str | PathLike[str]) -> None:
    """Keep a fitted estimator with its metadata and windows of its training data.

    Parameters
    ----------
    estimator : BaseEstimator
        The fitted estimator.
    X : array-like, shape (n, n_features)
        The features that it was trained on; `N_KEPT_WINDOWS` of them are kept, evenly spread.
    metadata : ModelMetadata
        The document that its ONNX file carries.
    path : path
        The ``.skops`` file; replaced only once the new one is complete.
    """
    content = {
        "estimator": estimator,
        "metadata": metadata.to_json(),
        "windows": pick_evenly(np.asarray(X, dtype=np.float32), N_KEPT_WINDOWS),
    }
    with whole_file(path) as partial:
        skops.io.dump(content, partial)


def load_estimator(path: str | PathLike[str]) -> SavedEstimator:
    """Read what `save_estimator` wrote.

    Parameters
    ----------
    path : path
        The ``.skops`` file.

    Returns
    -------
    SavedEstimator

    Raises
    ------
    InputError
        No such file, of another kind, with types that are not trusted, or with a tree that does not hold together.
    """
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise InputError(f"it holds types that are not trusted: {', '.join(unknown)}")
        content = skops.io.load(path, trusted=list(TRUSTED))
        if not isinstance(content, dict) or set(content) != {"estimator", "metadata", "windows"}:
            raise InputError("it was not written by streamdetect train --keep-sklearn")
        metadata = ModelMetadata.from_json(content["metadata"])
        for part in walk_objects(content["estimator"]):
            if not isinstance(getattr(part, "estimators_", []), list):
                raise InputError(f"the members of a {type(part).__name__} are not in a list")
            if hasattr(part, "tree_"):
                _check_tree(part, len(metadata.feature_names))
    except _LOAD_ERRORS as error:
        raise InputError(f"{path}: not an estimator that can be used: {first_line(error)}") from error
    windows = content["windows"]
    if not isinstance(windows, np.ndarray) or windows.dtype != np.float32 or windows.ndim != 2:
        raise InputError(f"{path}: windows must be a float32 array of shape (n, n_features)")
    return SavedEstimator(content["estimator"], metadata, windows)


def pick_evenly(rows: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """Return at most ``n_rows`` of an array's rows, evenly spread, first and last among them."""
    if len(rows) <= n_rows:
        return rows
    return rows[np.linspace(0, len(rows) - 1, n_rows).round().astype(np.int64)]


def _check_tree(owner: BaseEstimator, n_features: int) -> None:
    """Refuse a tree that would make scikit-learn's C code read outside its arrays, or run in a circle."""
    tree = owner.tree_
    if type(tree).__module__ != "sklearn.tree._tree":
        raise InputError(f"a tree is of type {type(tree).__name__}")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    index = np.arange(tree.node_count)
    leaf = left == _NO_CHILD
    sound = (
        tree.node_count > 0
        and tree.n_features == owner.n_features_in_ == n_features
        and np.array_equal(leaf, right == _NO_CHILD)
        and bool(np.all(leaf | ((left > index) & (right > index) & (left != right))))
        and bool(np.all(leaf | ((left < tree.node_count) & (right < tree.node_count))))
        and bool(np.all(leaf | ((feature >= 0) & (feature < n_features))))
        and len(tree.value) == tree.node_count
        and bool(np.isfinite(tree.value).all() and np.isfinite(tree.threshold).all())
    )
    if not sound:
        raise InputError("a tree's nodes point outside the tree, or outside the features")
