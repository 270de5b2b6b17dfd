"""The ensemble: linear discriminant analysis, a random forest and logistic regression, one vote each.

Oschmann 2019 ("Boosting research with machine learning"): soft vote, weights 1:1:1, the forest and the logistic
regression with ``class_weight="balanced"``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from streamdetect.errors import InputError
from streamdetect.training.label_sets import EventOfSets, LabelSetVotes, event_weights

# The bounded forest, on 140,000 simulated windows of 32 features: 2.0 MB and 4 to 5 µs a row in batches of 64, against
# 127 MB and 12 to 28 µs for scikit-learn's defaults, for an AUC of 0.773 against 0.790. 128 leaves halve the file for
# 0.01 of AUC, 512 double it for as much. Windows overlap: of 29,431 at a stride of 0.1 s a third a tree scores 0.640
# where all score 0.626 (`power`, held out by series; 0.800 and 0.797 with `lowpass`), and grows in half the time.
N_TREES = 100
MAX_LEAF_NODES = 256
ROWS_PER_TREE = 10_000
# Regularisation is set for windows that do not overlap. Where k windows overlap each other, a k-th of them is worth as
# much: the logistic regression's C is divided by k, a leaf holds k times as many, and LDA's shrinkage is estimated on
# every k-th. The two values were chosen on series 1 to 6 of Grasp-and-Lift (k = 1), and that the rule holds for k = 10
# was seen on the imagined movements of PhysioNet S001: AUC 0.761 by it, 0.741 without (docs/METHOD.md).
LR_C = 0.01
MIN_SAMPLES_LEAF = 3
CLIPPED = 1e-6  # a probability of 0 or 1 has no logit
MIN_SLOPE = 1e-3  # a vote that ranks the wrong way round on held-out folds is flattened, not turned


class CalibratedVote(ClassifierMixin, BaseEstimator):
    """A fitted soft vote whose probability goes through Platt's sigmoid.

    Parameters
    ----------
    vote : BaseEstimator
        Fitted classifier of one event, with classes 0 and 1.
    slope, intercept : float
        The calibrated probability is sigmoid(slope · logit(p) + intercept).

    References
    ----------
    Platt 1999, Probabilistic outputs for support vector machines; here on the logit of the vote, so that a slope of 1
    and an intercept of 0 change nothing.
    """

    def __init__(self, vote: BaseEstimator, slope: float = 1.0, intercept: float = 0.0) -> None:
        self.vote = vote
        self.slope = slope
        self.intercept = intercept

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The vote's classes."""
        return self.vote.classes_

    def calibrate(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability of the vote's own."""
        return expit(self.slope * logit(np.clip(probability, CLIPPED, 1 - CLIPPED)) + self.intercept)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the calibrated probability of both classes, shape (n, 2)."""
        positive = self.calibrate(self.vote.predict_proba(X)[:, 1])
        return np.stack([1 - positive, positive], axis=1)


def fit_calibration(probability: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Fit Platt's sigmoid to held-out probabilities.

    Parameters
    ----------
    probability : array of float, shape (n,)
        The vote's probability of windows that it was not trained on, 0 to 1.
    labels : array of bool, shape (n,)
        Whether the event was going on; both must occur.

    Returns
    -------
    slope, intercept : float
        For `CalibratedVote`; the slope is at least `MIN_SLOPE`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(20_000)
    >>> slope, intercept = fit_calibration(expit(2 * logit(truth) + 1), rng.random(20_000) < truth)
    >>> round(slope, 1), round(intercept, 1)
    (0.5, -0.5)
    """
    x = logit(np.clip(np.asarray(probability, dtype=np.float64), CLIPPED, 1 - CLIPPED))[:, None]
    y = np.asarray(labels, dtype=bool)
    platt = LogisticRegression(C=np.inf).fit(x, y)
    slope = float(platt.coef_[0, 0])
    if slope >= MIN_SLOPE:
        return slope, float(platt.intercept_[0])
    return MIN_SLOPE, float(logit(y.mean()) - MIN_SLOPE * x.mean())


def calibrate(estimator: BaseEstimator, sigmoids: Sequence[tuple[float, float]]) -> BaseEstimator:
    """Return a fitted estimator with each event's vote calibrated by what `fit_calibration` gave."""
    votes = [CalibratedVote(vote, *sigmoid) for vote, sigmoid in zip(split_events(estimator), sigmoids, strict=True)]
    if not isinstance(estimator, MultiOutputClassifier):
        return votes[0]
    calibrated = clone(estimator)
    calibrated.estimators_, calibrated.classes_ = votes, estimator.classes_
    return calibrated


def make_ensemble(
    features_name: str,
    *,
    n_events: int,
    seed: int,
    rows: NDArray[np.float32] | None = None,
    overlap: int = 1,
    n_jobs: int = 1,
) -> VotingClassifier | MultiOutputClassifier:
    """Return the unfitted ensemble.

    Parameters
    ----------
    features_name : str
        Name of the feature set. ``2019`` takes scikit-learn's defaults and no scaler; any other standardises for the
        linear members, shrinks LDA's covariance (Ledoit and Wolf 2004) and bounds the forest, so that a decision is
        quick and the file small.
    n_events : int
        Number of events; with more than one, each gets a vote of its own, whose linear members are told of the others
        (`LabelSetVotes`; not in ``2019``).
    seed : int
        Seed of the random members.
    rows : ndarray of float32, shape (n, n_features), optional
        Windows that it will be fitted on, in the order of time: LDA's shrinkage is estimated on them, and of many each
        tree takes a part.
    overlap : int
        How many neighbouring windows share samples with a window; 1 for windows apart.
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
    lda: BaseEstimator
    lr: BaseEstimator
    if features_name == "2019":
        lda = LinearDiscriminantAnalysis()
        lr = LogisticRegression(class_weight="balanced", random_state=seed)
        rf = RandomForestClassifier(class_weight="balanced", random_state=seed, n_jobs=n_jobs)
    else:
        shrinkage = "auto" if rows is None else _estimate_shrinkage(rows[::overlap])
        lda = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))
        lr = make_pipeline(
            StandardScaler(), LogisticRegression(C=LR_C / overlap, class_weight="balanced", random_state=seed)
        )
        rf = RandomForestClassifier(
            n_estimators=N_TREES,
            max_leaf_nodes=MAX_LEAF_NODES,
            min_samples_leaf=MIN_SAMPLES_LEAF * overlap,
            max_samples=1.0 if rows is None else min(1.0, ROWS_PER_TREE / len(rows)),
            class_weight="balanced",
            random_state=seed,
            n_jobs=n_jobs,
        )
    vote = VotingClassifier(
        [("lda", lda), ("rf", rf), ("lr", lr)], voting="soft", weights=np.array([1, 1, 1]), flatten_transform=False
    )
    if n_events == 1:
        return vote
    return MultiOutputClassifier(vote) if features_name == "2019" else LabelSetVotes(vote)


def _estimate_shrinkage(rows: NDArray[np.float32]) -> float:
    """Return how far the covariance of standardised rows is to be shrunk towards the identity, 0 to 1."""
    return float(ledoit_wolf_shrinkage(StandardScaler().fit_transform(rows.astype(np.float64))))


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
    if isinstance(classifier, CalibratedVote):
        classifier = classifier.vote
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
            if isinstance(classifier, CalibratedVote):
                vote = classifier.calibrate(vote)
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
    Where a member tells label sets apart, w is the mean weight of the sets with the event less that of those without.

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
            holds = member.holds if isinstance(member, EventOfSets) else None
            member = member.sets if isinstance(member, EventOfSets) else member
            last = member[-1] if isinstance(member, Pipeline) else member
            if hasattr(last, "coef_"):
                weights = last.coef_[0] if holds is None else event_weights(last.coef_, holds)
                scaled = member[:-1].transform(rows) if isinstance(member, Pipeline) and len(member) > 1 else rows
                covariance = np.atleast_2d(np.cov(scaled, rowvar=False))
                found.setdefault(name, {})[event] = (covariance @ weights).tolist()
            elif hasattr(last, "feature_importances_"):
                found.setdefault(name, {})[event] = last.feature_importances_.tolist()
    return found


def _check_classes(classifier: BaseEstimator) -> None:
    if not np.array_equal(classifier.classes_, [0, 1]):
        raise InputError(f"estimator: expected the classes 0 and 1, found {classifier.classes_}")
