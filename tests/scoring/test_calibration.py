from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from streamdetect.scoring.calibration import reliability

PAIRS = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=80,
)


def bins_one_by_one(pairs: list[tuple[bool, float]], n_bins: int) -> list[list[tuple[bool, float]]]:
    """Fill a bin until its share is reached, and go on as long as the next probability is the same as the last."""
    ordered = sorted(pairs, key=lambda pair: pair[1])
    starts = {k * len(ordered) // n_bins for k in range(n_bins)}
    bins: list[list[tuple[bool, float]]] = []
    at = 0
    while at < len(ordered):
        stop = at + 1
        while stop < len(ordered) and ordered[stop][1] == ordered[at][1]:
            stop += 1  # those with the same probability
        if not bins or starts & set(range(at, stop)):
            bins.append([])
        bins[-1] += ordered[at:stop]
        at = stop
    return bins


class TestReliability:
    @settings(deadline=None)
    @given(pairs=PAIRS, n_bins=st.integers(1, 12))
    def test_agrees_with_bins_filled_one_by_one(self, pairs: list[tuple[bool, float]], n_bins: int) -> None:
        labels, probability = zip(*pairs, strict=True)
        found = reliability(labels, probability, n_bins)
        bins = bins_one_by_one(pairs, n_bins)
        assert found.counts.tolist() == [len(each) for each in bins]
        assert found.predicted == pytest.approx([sum(p for _, p in each) / len(each) for each in bins])
        assert found.observed == pytest.approx([sum(label for label, _ in each) / len(each) for each in bins])
        gaps = [abs(sum(label - p for label, p in each)) for each in bins]
        assert found.expected_calibration_error == pytest.approx(sum(gaps) / len(pairs))

    @settings(deadline=None)
    @given(pairs=PAIRS, n_bins=st.integers(1, 12), seed=st.integers(0, 100))
    def test_properties(self, pairs: list[tuple[bool, float]], n_bins: int, seed: int) -> None:
        labels, probability = (np.array(each) for each in zip(*pairs, strict=True))
        found = reliability(labels, probability, n_bins)
        assert found.counts.sum() == len(pairs)
        assert 1 <= len(found.counts) <= n_bins
        assert (np.diff(found.predicted) > 0).all()
        assert (found.counts * found.predicted).sum() == pytest.approx(probability.sum())
        assert (found.counts * found.observed).sum() == pytest.approx(labels.sum())
        # The overall gap can be no larger than the mean of the bins' gaps.
        assert abs(labels.mean() - probability.mean()) <= found.expected_calibration_error + 1e-9
        assert found.brier == pytest.approx(np.mean((probability - labels) ** 2))
        shuffled = np.random.default_rng(seed).permutation(len(pairs))
        again = reliability(labels[shuffled], probability[shuffled], n_bins)
        assert again.counts.tolist() == found.counts.tolist()
        assert again.observed == pytest.approx(found.observed)

    def test_brier_score_equals_sklearn(self) -> None:
        rng = np.random.default_rng(0)
        labels, probability = rng.random(1000) < 0.2, rng.random(1000).astype(np.float32)
        assert reliability(labels, probability).brier == pytest.approx(brier_score_loss(labels, probability))
        base_rate = np.full(1000, labels.mean())
        assert reliability(labels, probability).brier_of_base_rate == pytest.approx(brier_score_loss(labels, base_rate))

    def test_tells_calibrated_from_inflated(self) -> None:
        rng = np.random.default_rng(1)
        truly = rng.beta(0.5, 6, 100_000)
        labels = rng.random(100_000) < truly
        # A bin of 10,000 is off by 0.005 at most in one of three cases.
        assert reliability(labels, truly).expected_calibration_error < 0.005
        inflated = reliability(labels, np.sqrt(truly))
        assert inflated.expected_calibration_error == pytest.approx(np.mean(np.sqrt(truly) - truly), abs=0.005)
        assert (inflated.observed < inflated.predicted).all()

    def test_without_ties_counts_are_equal(self) -> None:
        found = reliability(np.zeros(1003, bool), np.linspace(0, 1, 1003) ** 8)
        assert len(found.counts) == 10
        assert set(found.counts.tolist()) == {100, 101}

    def test_one_probability_makes_one_bin(self) -> None:
        found = reliability([True, False, False, False], [0.5] * 4)
        assert (found.predicted.tolist(), found.observed.tolist(), found.counts.tolist()) == ([0.5], [0.25], [4])
        assert found.expected_calibration_error == 0.25

    def test_nothing_to_compare(self) -> None:
        found = reliability([], [])
        assert len(found.predicted) == len(found.observed) == len(found.counts) == 0
        assert found[3:] == (None, None, None)

    @pytest.mark.parametrize(
        ("labels", "probability", "n_bins", "message"),
        [
            ([True], [0.1, 0.2], 10, "labels: expected one a probability"),
            ([True], [float("nan")], 10, "probability: expected values from 0 to 1"),
            ([True], [1.5], 10, "probability: expected values from 0 to 1"),
            ([True], [0.5], 0, "n_bins: expected at least 1, found 0"),
        ],
    )
    def test_refuses(self, labels: list[bool], probability: list[float], n_bins: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            reliability(labels, probability, n_bins)
