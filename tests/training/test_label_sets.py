import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression

from models import make_data
from streamdetect.errors import InputError
from streamdetect.scoring.metrics import area_under_roc
from streamdetect.training.ensemble import make_ensemble, member_probabilities
from streamdetect.training.label_sets import EventOfSets, LabelSetVotes


def _three_kinds(n_rows, seed):
    """Return windows of three kinds in a plane; event 0 lies between the two others, where no line parts it."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n_rows)
    X = np.array([[0.0, 1.0], [-2.0, -0.0], [2.0, 0.0]])[kind] + 0.7 * rng.standard_normal((n_rows, 2))
    return X, (kind[:, None] == np.arange(3)).astype(int)


def _votes():
    return LabelSetVotes(make_ensemble("power", n_events=1, seed=0).set_params(rf__n_estimators=5))


def test_linear_members_that_know_of_the_other_events_find_one_between_them():
    X, Y = _three_kinds(3000, seed=0)
    new, truth = _three_kinds(3000, seed=1)
    together = member_probabilities(_votes().fit(X, Y), new)
    alone = member_probabilities(make_ensemble("power", n_events=1, seed=0).fit(X, Y[:, 0]), new)
    for member in ("lda", "lr"):
        found = area_under_roc(truth[:, 0] == 1, together[member][:, 0])
        assert found > area_under_roc(truth[:, 0] == 1, alone[member][:, 0]) + 0.05


def test_with_one_event_it_is_the_vote_alone():
    X, y = make_data(4)
    together = member_probabilities(_votes().fit(X, y[:, None]), X)
    alone = member_probabilities(make_ensemble("power", n_events=1, seed=0).set_params(rf__n_estimators=5).fit(X, y), X)
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, atol=1e-4)  # as far as the regression converges


def test_probability_is_the_sum_over_the_sets_that_hold_the_event():
    X, Y = make_data(3, n_events=2)
    votes = LabelSetVotes(
        VotingClassifier([("lda", LinearDiscriminantAnalysis()), ("lr", LogisticRegression(class_weight="balanced"))])
    ).fit(X, Y)
    sets, codes = np.unique(Y, axis=0, return_inverse=True)
    for event, vote in enumerate(votes.estimators_):
        lda, lr = vote.estimators_
        decision = LinearDiscriminantAnalysis().fit(X, codes.ravel()).decision_function(X)
        expected = softmax(decision, axis=1) @ (sets[:, event] == 1)
        np.testing.assert_allclose(lda.predict_proba(X)[:, 1], expected)
        np.testing.assert_allclose(lr.predict_proba(X).sum(axis=1), 1)
        weight = np.where(Y[:, event] == 1, 0.5 / Y[:, event].mean(), 0.5 / (1 - Y[:, event].mean()))
        fitted = LogisticRegression().fit(X, codes.ravel(), sample_weight=weight)
        np.testing.assert_allclose(lr.predict_proba(X)[:, 1], fitted.predict_proba(X) @ (sets[:, event] == 1))
    assert votes.estimators_[0].estimators_[0].sets is votes.estimators_[1].estimators_[0].sets


def test_two_events_that_always_go_on_together():
    X, Y = make_data(3)
    votes = _votes().fit(X, np.stack([Y, Y], axis=1))
    first, second = votes.estimators_
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    lda = first.estimators_[0]
    assert isinstance(lda, EventOfSets)
    distance = lda.sets.decision_function(X)
    np.testing.assert_allclose(lda.predict_proba(X)[:, 1], expit(distance))


def test_weights_of_windows_are_refused():
    X, Y = make_data(3, n_events=2)
    with pytest.raises(InputError, match="sample_weight"):
        _votes().fit(X, Y, sample_weight=np.ones(len(X)))
