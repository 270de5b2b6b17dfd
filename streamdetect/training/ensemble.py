"""The ensemble: linear discriminant analysis, a random forest and logistic regression, one vote each.

Oschmann 2019 ("Boosting research with machine learning"): soft vote, weights 1:1:1, the forest and the logistic
regression with ``class_weight="balanced"``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from streamdetect.errors import InputError

# The bounded forest, on 140,000 simulated windows of 32 features: 2.0 MB and 4 to 5 µs a row in batches of 64, against
# 127 MB and 12 to 28 µs for scikit-learn's defaults, for an AUC of 0.773 against 0.790. 128 leaves halve the file for
# 0.01 of AUC, 512 double it for as much. Windows overlap: a fifth of them a tree loses nothing and fits in a fifth of
# the time.
N_TREES = 100
MAX_LEAF_NODES = 256
MIN_SAMPLES_LEAF = 10
MAX_SAMPLES = 0.2


def make_ensemble(
    features_name: str, *, n_events: int, seed: int, n_jobs: int = 1
) -> VotingClassifier | MultiOutputClassifier:
    """Return the unfitted ensemble.

    Parameters
    ----------
    features_name : str
        Name of the feature set. ``2019`` takes scikit-learn's defaults and no scaler; any other standardises for the
        linear members and bounds the forest, so that a decision is quick and the file small.
    n_events : int
        Number of events; with more than one, each gets a vote of its own.
    seed : int
        Seed of the random members.
    n_jobs : int
        Processes that grow the forest.

    Returns
    -------
    VotingClassifier or MultiOutputClassifier
        Fit it on float32 features, shape (n, n_features), and labels 0 or 1, shape (n,) for one event and
        (n, n_events) for more.

    Notes
    -----
    Trees take the features unscaled: a scaler rounds, which moves values across thresholds and flips leaves in ONNX.
    """
    lda: BaseEstimator = LinearDiscriminantAnalysis()
    lr: BaseEstimator = LogisticRegression(class_weight="balanced", random_state=seed)
    if features_name == "2019":
        rf = RandomForestClassifier(class_weight="balanced", random_state=seed, n_jobs=n_jobs)
    else:
        lda = make_pipeline(StandardScaler(), lda)
        lr = make_pipeline(StandardScaler(), lr)
        rf = RandomForestClassifier(
            n_estimators=N_TREES,
            max_leaf_nodes=MAX_LEAF_NODES,
            min_samples_leaf=MIN_SAMPLES_LEAF,
            max_samples=MAX_SAMPLES,
            class_weight="balanced",
            random_state=seed,
            n_jobs=n_jobs,
        )
    vote = VotingClassifier(
        [("lda", lda), ("rf", rf), ("lr", lr)], voting="soft", weights=np.array([1, 1, 1]), flatten_transform=False
    )
    return vote if n_events == 1 else MultiOutputClassifier(vote)


def split_events(estimator: BaseEstimator) -> tuple[BaseEstimator, ...]:
    """Return the fitted classifier of each event."""
    return tuple(estimator.estimators_) if isinstance(estimator, MultiOutputClassifier) else (estimator,)


def split_members(classifier: BaseEstimator) -> dict[str, tuple[BaseEstimator, float]]:
    """Return the fitted members of a soft vote and their share in it; empty for a classifier that is no vote.

    Parameters
    ----------
    classifier : BaseEstimator
        Fitted classifier of one event.

    Returns
    -------
    dict of str to tuple of BaseEstimator and float
        Members by name, without those set to ``"drop"``; their shares add up to 1.

    Raises
    ------
    InputError
        A hard vote has no probability.
    """
    if not isinstance(classifier, VotingClassifier):
        return {}
    if classifier.voting != "soft":
        raise InputError("estimator: a VotingClassifier must be made with voting='soft' to give probabilities")
    names = [name for name, member in classifier.estimators if isinstance(member, BaseEstimator)]
    weights = classifier._weights_not_none
    shares = np.ones(len(names)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    return {
        name: (member, float(share)) for name, member, share in zip(names, classifier.estimators_, shares, strict=True)
    }


def positive_probability(classifier: BaseEstimator, X: ArrayLike) -> NDArray[np.float64]:
    """Return the probability of class 1.

    Parameters
    ----------
    classifier : BaseEstimator
        Fitted classifier of one event, with classes 0 and 1.
    X : array-like, shape (n, n_features)
        Features.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    InputError
        It was not fitted on exactly two classes, 0 (or False) and 1 (or True).
    """
    _check_classes(classifier)
    return np.asarray(classifier.predict_proba(X), dtype=np.float64)[:, 1]


def member_probabilities(estimator: BaseEstimator, X: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Return the probability of each event, by the vote and by each of its members.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted classifier of one event, or `MultiOutputClassifier` of more.
    X : array-like, shape (n, n_features)
        Features. They are rounded to float32, as ONNX Runtime sees them, and then calculated with in float64.

    Returns
    -------
    dict of str to ndarray of float64, shape (n, n_events)
        ``probability``, then each member of a vote (``lda``, ``rf``, ``lr``).
    """
    rows = np.asarray(X, dtype=np.float32).astype(np.float64)
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for classifier in split_events(estimator):
        _check_classes(classifier)  # a vote's members have classes of their own: 0 and 1 whatever the vote's are
        members = split_members(classifier)
        by_member = {name: positive_probability(member, rows) for name, (member, _) in members.items()}
        if members:  # cheaper than predict_proba, which would run each member again
            shares = np.array([share for _, share in members.values()])
            vote = np.stack(list(by_member.values()), axis=1) @ shares
        else:
            vote = positive_probability(classifier, rows)
        for name, values in ({"probability": vote} | by_member).items():
            columns.setdefault(name, []).append(values)
    return {name: np.stack(values, axis=1) for name, values in columns.items()}


def predict_probability(estimator: BaseEstimator, X: ArrayLike) -> NDArray[np.float64]:
    """Return the probability of each event by the vote alone, shape (n, n_events); see `member_probabilities`."""
    return member_probabilities(estimator, X)["probability"]


def patterns(estimator: BaseEstimator, X: ArrayLike, event_names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Return what each member looks at, for scalp maps.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted ensemble.
    X : array-like, shape (n, n_features)
        The features that it was trained on.
    event_names : sequence of str
        Names of the events, in the order of the estimator's outputs.

    Returns
    -------
    dict of str to dict of str to list of float
        For each member and event a value a feature. A linear member gives its activation pattern A = cov(X) w, up to a
        factor; its weights alone would also show where noise is cancelled. A forest gives its impurity importances,
        which have no sign. A member of another kind is left out.

    Notes
    -----
    Behind a `StandardScaler` the covariance is that of the standardised features, so that channels can be compared.

    References
    ----------
    Haufe et al. 2014, "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
    NeuroImage 87, doi:10.1016/j.neuroimage.2013.10.067, eq. 7 for one target: the division by the variance of the
    target is left out.
    """
    rows = np.asarray(X, dtype=np.float64)
    found: dict[str, dict[str, list[float]]] = {}
    for event, classifier in zip(event_names, split_events(estimator), strict=True):
        for name, (member, _) in split_members(classifier).items():
            last = member[-1] if isinstance(member, Pipeline) else member
            if hasattr(last, "coef_"):
                scaled = member[:-1].transform(rows) if isinstance(member, Pipeline) and len(member) > 1 else rows
                covariance = np.atleast_2d(np.cov(scaled, rowvar=False))
                found.setdefault(name, {})[event] = (covariance @ np.ravel(last.coef_)).tolist()
            elif hasattr(last, "feature_importances_"):
                found.setdefault(name, {})[event] = last.feature_importances_.tolist()
    return found


def _check_classes(classifier: BaseEstimator) -> None:
    if not np.array_equal(classifier.classes_, [0, 1]):
        raise InputError(f"estimator: expected the classes 0 and 1, found {classifier.classes_}")
