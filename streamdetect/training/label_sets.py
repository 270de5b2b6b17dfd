"""Votes on several events at once, whose linear members tell apart which events go on together.

To tell one event from all else, a linear member needs one direction that serves every kind of "else" at once. Told of
the other events, it has a direction for each: the kinds are the label sets of the training windows (a window's label
set: which events go on in it), and an event's probability is the sum over the sets that hold it. On the six events of
Grasp-and-Lift this raises the mean AUC of the vote from 0.867 to 0.877 (docs/METHOD.md). The forest makes no use of it.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Bunch

from streamdetect.errors import InputError


class EventOfSets(ClassifierMixin, BaseEstimator):
    """A fitted classifier of label sets as the classifier of one event.

    Parameters
    ----------
    sets : BaseEstimator
        Fitted classifier, one class a label set.
    holds : ndarray of bool, shape (n_sets,)
        Whether each set holds the event, in the order of the classes.
    """

    classes_ = np.array([0, 1])

    def __init__(self, sets: BaseEstimator, holds: NDArray[np.bool_]) -> None:
        self.sets = sets
        self.holds = holds

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that the event does not and does go on, shape (n, 2)."""
        positive = self.sets.predict_proba(X)[:, self.holds].sum(axis=1)
        return np.stack([1 - positive, positive], axis=1)


class LabelSetVotes(MultiOutputClassifier):
    """A soft vote an event, whose linear members are fitted on label sets.

    Parameters
    ----------
    estimator : VotingClassifier
        Unfitted vote of LDA, forest and logistic regression; cloned for each event.

    Notes
    -----
    LDA sees the sets as often as they occur; one serves all events. The logistic regression is balanced as
    ``class_weight="balanced"`` is: the windows with the event weigh as much as those without, whatever their sets. The
    forest is fitted on the event alone. With one event all of it is what the vote alone would be.
    """

    def fit(self, X: ArrayLike, Y: ArrayLike, sample_weight: None = None) -> Self:
        """Fit on features, shape (n, n_features), and labels 0 or 1, shape (n, n_events)."""
        if sample_weight is not None:
            raise InputError("sample_weight: expected None, the votes weigh the windows themselves")
        rows, labels = np.asarray(X), np.asarray(Y).astype(bool)
        sets, codes = np.unique(labels, axis=0, return_inverse=True)
        codes = codes.ravel()
        shared: dict[str, BaseEstimator] = {}
        self.estimators_ = []
        for event, truth in enumerate(labels.T):
            vote, members = clone(self.estimator), []
            for name, member in vote.estimators:
                last = member[-1] if isinstance(member, Pipeline) else member
                if isinstance(last, LinearDiscriminantAnalysis):
                    if name not in shared:
                        shared[name] = clone(member).fit(rows, codes)
                    members.append(EventOfSets(shared[name], sets[:, event]))
                elif isinstance(last, LogisticRegression):
                    members.append(EventOfSets(_fit_balanced(member, rows, codes, truth), sets[:, event]))
                else:
                    members.append(clone(member).fit(rows, truth.astype(np.int64)))
            self.estimators_.append(_as_fitted(vote, members))
        self.classes_ = [vote.classes_ for vote in self.estimators_]
        return self


def _fit_balanced(
    member: BaseEstimator, rows: NDArray, codes: NDArray[np.int64], truth: NDArray[np.bool_]
) -> BaseEstimator:
    """Fit on label sets, the windows with the event and those without weighing as much as each other."""
    share = truth.mean()
    weight = np.where(truth, 0.5 / share, 0.5 / (1 - share))
    step = f"{member.steps[-1][0]}__" if isinstance(member, Pipeline) else ""
    fitted = clone(member).set_params(**{f"{step}class_weight": None})
    return fitted.fit(rows, codes, **{f"{step}sample_weight": weight})


def _as_fitted(vote: VotingClassifier, members: list[BaseEstimator]) -> VotingClassifier:
    """Put fitted members into an unfitted vote."""
    vote.estimators_ = members
    vote.named_estimators_ = Bunch(**dict(zip((name for name, _ in vote.estimators), members, strict=True)))
    vote.le_ = LabelEncoder().fit([0, 1])
    vote.classes_ = vote.le_.classes_
    return vote


def event_weights(coefficients: NDArray[np.float64], holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean weight of the sets that hold an event less that of the others.

    Parameters
    ----------
    coefficients : ndarray, shape (n_sets, n_features), or (1, n_features) for two sets
        As scikit-learn's linear classifiers keep them.
    holds : ndarray of bool, shape (n_sets,)

    Returns
    -------
    ndarray, shape (n_features,)

    Examples
    --------
    >>> event_weights(np.array([[0.0], [1.0], [4.0]]), np.array([False, True, False]))
    array([-1.])
    >>> event_weights(np.array([[2.0]]), np.array([True, False]))
    array([-2.])
    """
    each = set_rows(coefficients)
    return each[holds].mean(axis=0) - each[~holds].mean(axis=0)


def set_rows(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a row of coefficients a class, of a softmax; scikit-learn keeps one row for two classes, of a sigmoid."""
    return coefficients if len(coefficients) > 1 else np.concatenate([np.zeros_like(coefficients), coefficients])
