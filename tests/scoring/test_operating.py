from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcomes import make_outcome, simulate_outcomes
from streamdetect.errors import EventError
from streamdetect.events import Annotation
from streamdetect.scoring.metrics import score
from streamdetect.scoring.operating import (
    OperatingCurve,
    candidate_thresholds,
    operating_curve,
    operating_points,
)
from streamdetect.settings import DecisionSettings

AT_ONCE = DecisionSettings(threshold=0.5, dwell_samples=0, refractory_samples=0)


def grasp(onset: float) -> Annotation:
    return Annotation(onset, 0.0, "Grasp")


class TestOperatingCurve:
    def test_agrees_with_score_at_the_detector_s_own_threshold(self) -> None:
        settings = DecisionSettings(threshold=0.7, dwell_samples=20, refractory_samples=100)
        outcomes = simulate_outcomes(("Grasp",), settings=settings)
        found = score(outcomes, {"Grasp": 0.7})["events"]["Grasp"]
        curve = operating_curve(outcomes, "Grasp", settings, [0.7])
        assert curve.event_recall.tolist() == [found["event_recall"]]
        assert curve.false_alarms_per_min.tolist() == pytest.approx([found["false_alarms_per_min"]])
        assert curve.lag_s.tolist() == [found["lag_s"]["median"]]

    def test_by_hand(self) -> None:
        probability = np.full(600, 0.1)
        probability[100:105] = 0.6  # within the event
        probability[300:305] = 0.8  # outside
        curve = operating_curve([make_outcome(probability, [grasp(10.0)])], "movement", AT_ONCE, [0.9, 0.7, 0.5])
        assert curve.thresholds.tolist() == [0.5, 0.7, 0.9]
        assert curve.event_recall.tolist() == [1.0, 0.0, 0.0]
        assert curve.false_alarms_per_min == pytest.approx([5.0, 5.0, 0.0])
        assert curve.lag_s[0] == 0.0
        assert math.isnan(curve.lag_s[2])

    def test_unknown_event(self) -> None:
        with pytest.raises(EventError, match=r"expected one of movement, found 'Grasp'"):
            operating_curve([make_outcome([0.1])], "Grasp", AT_ONCE)


class TestCandidateThresholds:
    @settings(deadline=None)
    @given(
        values=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=300),
        n_thresholds=st.integers(2, 60),
    )
    def test_ascend_within_bounds_and_silence_all(self, values: list[float], n_thresholds: int) -> None:
        thresholds = candidate_thresholds(values, n_thresholds)
        assert 1 <= len(thresholds) <= n_thresholds
        assert (np.diff(thresholds) > 0).all()
        assert thresholds[0] >= 0
        assert thresholds[-1] <= 1
        assert np.array_equal(thresholds, thresholds.astype(np.float32))
        assert max(values) < thresholds[-1] or max(values) == 1

    def test_are_denser_at_the_top(self) -> None:
        thresholds = candidate_thresholds(np.linspace(0, 0.999, 10_000))
        assert np.mean(thresholds > 0.9) > 0.5


class TestOperatingPoints:
    def test_each_is_the_best_that_its_limit_allows(self) -> None:
        curve = operating_curve(simulate_outcomes(("Grasp",)), "Grasp", DecisionSettings(0.5, 10, 100))
        points = operating_points(curve)
        assert [point.limit_per_min for point in points] == [0.2, 0.5, 1.0, 2.0, 5.0]
        for point in points:
            at = int(np.flatnonzero(curve.thresholds == point.threshold)[0])
            assert point[1:] == tuple(each[at] for each in curve)
            acceptable = curve.false_alarms_per_min <= point.limit_per_min
            assert acceptable[at]
            assert point.event_recall == curve.event_recall[acceptable].max()
        assert [point.event_recall for point in points] == sorted(point.event_recall for point in points)
        assert points[0].event_recall < points[-1].event_recall

    def test_ties_go_to_fewer_false_alarms_then_sooner_then_higher(self) -> None:
        thresholds, recall = np.arange(1.0, 6.0) / 10, np.full(5, 0.5)
        rates, lags = np.array([2.0, 1.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.1, 0.1, 0.3, math.nan])
        (point,) = operating_points(OperatingCurve(thresholds, recall, rates, lags), [5.0])
        assert point.threshold == 0.3

    def test_without_events_or_valid_signal(self) -> None:
        (point,) = operating_points(operating_curve([make_outcome([0.1] * 10)], "movement", AT_ONCE), [1.0])
        assert math.isnan(point.event_recall)
        assert point.false_alarms_per_min == 0
        undefined = OperatingCurve(np.array([0.5]), *np.full((3, 1), math.nan))
        assert operating_points(undefined) == ()
