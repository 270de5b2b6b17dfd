import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import StandardScaler

from models import make_data
from streamdetect.errors import InputError
from streamdetect.training.ensemble import (
    CalibratedVote,
    calibrate,
    fit_calibration,
    make_ensemble,
    member_probabilities,
    patterns,
    predict_probability,
    split_members,
)


def test_2019_is_scikit_learn_s_defaults_but_for_balanced():
    vote = make_ensemble("2019", n_events=1, seed=7)
    assert isinstance(vote, VotingClassifier)
    assert vote.voting == "soft"
    assert vote.weights.tolist() == [1, 1, 1]
    members = dict(vote.estimators)
    assert list(members) == ["lda", "rf", "lr"]
    for name, changed in {
        "lda": {},
        "rf": {"class_weight": "balanced", "random_state": 7, "n_jobs": 1},
        "lr": {"class_weight": "balanced", "random_state": 7},
    }.items():
        defaults = type(members[name])().get_params()
        assert members[name].get_params() == defaults | changed


def test_other_features_are_scaled_for_the_linear_members_only_and_the_forest_is_bounded():
    members = dict(make_ensemble("power", n_events=1, seed=0).estimators)
    assert isinstance(members["lda"][0], StandardScaler)
    assert isinstance(members["lr"][0], StandardScaler)
    assert isinstance(members["rf"], RandomForestClassifier)
    assert members["rf"].max_leaf_nodes is not None
    assert members["rf"].class_weight == members["lr"][-1].class_weight == "balanced"


@pytest.mark.parametrize("name", ["power", "2019"])
@pytest.mark.parametrize("n_events", [1, 3])
def test_member_probabilities_are_scikit_learn_s(name, n_events):
    X, y = make_data(4, n_events)
    estimator = make_ensemble(name, n_events=n_events, seed=0)
    estimator.set_params(**{("rf__" if n_events == 1 else "estimator__rf__") + "n_estimators": 5}).fit(X, y)
    found = member_probabilities(estimator, X)
    assert list(found) == ["probability", "lda", "rf", "lr"]
    votes = [estimator] if n_events == 1 else estimator.estimators_
    rows = X.astype(np.float64)
    for event, vote in enumerate(votes):
        np.testing.assert_allclose(found["probability"][:, event], vote.predict_proba(rows)[:, 1], atol=1e-12)
        for member, (fitted, share) in split_members(vote).items():
            np.testing.assert_array_equal(found[member][:, event], fitted.predict_proba(rows)[:, 1])
            assert share == pytest.approx(1 / 3)
    np.testing.assert_array_equal(predict_probability(estimator, X), found["probability"])


def test_one_vote_an_event():
    assert isinstance(make_ensemble("power", n_events=2, seed=0), MultiOutputClassifier)


def test_dropped_members_leave_the_vote_and_their_weight_with_them():
    X, y = make_data(4)
    vote = make_ensemble("power", n_events=1, seed=0)
    vote.set_params(rf="drop", weights=np.array([1, 5, 3])).fit(X, y)
    assert [(name, share) for name, (_, share) in split_members(vote).items()] == [("lda", 0.25), ("lr", 0.75)]
    expected = vote.predict_proba(X.astype(np.float64))[:, 1]
    np.testing.assert_allclose(member_probabilities(vote, X)["probability"][:, 0], expected, atol=1e-12)


def test_classes_other_than_0_and_1_and_hard_votes_are_refused():
    X, y = make_data(4)
    for estimator in (LogisticRegression(), VotingClassifier([("lr", LogisticRegression())], voting="soft")):
        with pytest.raises(InputError, match="classes 0 and 1"):
            member_probabilities(estimator.fit(X, y + 1), X)
    with pytest.raises(InputError, match="soft"):
        member_probabilities(VotingClassifier([("lr", LogisticRegression())]).fit(X, y), X)


@pytest.mark.parametrize("name", ["power", "2019"])
def test_patterns_show_the_source_and_not_the_noise_that_is_cancelled(name):
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.5).astype(int)
    noise = rng.standard_normal(4000)
    X = np.stack([2 * y - 1 + noise, noise + 0.1 * rng.standard_normal(4000)], axis=1)  # the signal is in column 0
    estimator = make_ensemble(name, n_events=1, seed=0).set_params(rf__n_estimators=5).fit(X, y)
    found = patterns(estimator, X, ["HandStart"])
    assert list(found) == ["lda", "rf", "lr"]
    for member in ("lda", "lr"):
        last = dict(estimator.named_estimators_)[member]
        weights = np.ravel((last[-1] if name == "power" else last).coef_)
        assert abs(weights[1]) > 0.5 * abs(weights[0])  # the filter leans on the noise channel
        signal, cancelled = found[member]["HandStart"]
        assert signal > 0
        # the pattern does not; shrunken weights only nearly cancel
        assert abs(cancelled) < (0.25 if name == "power" else 0.15) * signal
    assert sum(found["rf"]["HandStart"]) == pytest.approx(1)


@pytest.mark.parametrize("n_events", [1, 3])
def test_a_calibrated_vote_changes_the_vote_and_not_its_members(n_events):
    X, y = make_data(4, n_events)
    estimator = make_ensemble("power", n_events=n_events, seed=0).fit(X, y)
    before = member_probabilities(estimator, X)
    calibrated = calibrate(estimator, [(0.5, -1.0)] * n_events)
    after = member_probabilities(calibrated, X)
    p = before["probability"]
    np.testing.assert_allclose(after["probability"], 1 / (1 + np.e * np.sqrt((1 - p) / p)), rtol=1e-9)
    for name in ("lda", "rf", "lr"):
        np.testing.assert_array_equal(after[name], before[name])
    votes = [calibrated] if n_events == 1 else calibrated.estimators_
    for event, vote in enumerate(votes):
        assert isinstance(vote, CalibratedVote)
        np.testing.assert_allclose(vote.predict_proba(X.astype(np.float64))[:, 1], after["probability"][:, event])


def test_calibration_of_a_vote_that_knows_nothing_gives_the_rate_of_the_event():
    rng = np.random.default_rng(0)
    labels = rng.random(4000) < 0.1
    vote = CalibratedVote(None, *fit_calibration(np.where(labels, 0.3, 0.6) + 0.2 * rng.random(4000), labels))
    np.testing.assert_allclose(vote.calibrate(np.array([0.01, 0.5, 0.99])), 0.1, atol=0.01)
