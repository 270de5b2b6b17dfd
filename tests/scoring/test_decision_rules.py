from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from outcomes import make_outcome, simulate_outcomes
from streamdetect.errors import EventError
from streamdetect.events import Annotation
from streamdetect.scoring import decision_rules
from streamdetect.scoring.decision_rules import choose_decision, decision_candidates
from streamdetect.scoring.metrics import Outcome, match_detections, pool, scorable_events, valid_seconds
from streamdetect.scoring.operating import candidate_thresholds, operating_curve, operating_points
from streamdetect.settings import DecisionSettings

AT_ONCE = DecisionSettings(threshold=0.5, dwell_samples=0, refractory_samples=0)


def grasp(onset: float) -> Annotation:
    return Annotation(onset, 0.0, "Grasp")


def cue(onset: float, duration: float) -> Annotation:
    return Annotation(onset, duration, "T1")


class TestChooseThreshold:
    settings = DecisionSettings(threshold=0.5, dwell_samples=10, refractory_samples=100)

    def test_is_the_best_acceptable(self) -> None:
        outcomes = simulate_outcomes(("Grasp",))
        threshold = choose_decision(outcomes, "Grasp", [self.settings], 0.1).threshold
        curve = operating_curve(outcomes, "Grasp", self.settings)
        acceptable = curve.false_alarms_per_min <= 0.1
        chosen = int(np.flatnonzero(curve.thresholds == threshold)[0])
        assert acceptable[chosen]
        assert curve.event_recall[chosen] == curve.event_recall[acceptable].max()
        assert 0 < curve.event_recall[chosen] <= 1 < curve.false_alarms_per_min.max()

    def test_ties_go_to_fewer_false_alarms_then_to_the_higher_threshold(self) -> None:
        probability = np.full(600, 0.1)
        probability[100] = 0.9  # within the event
        probability[200] = 0.5  # outside
        probability[300] = 0.7  # outside
        threshold = choose_decision([make_outcome(probability, [grasp(10.0)])], "movement", [AT_ONCE], 10.0).threshold
        assert threshold == pytest.approx(0.8)

    def test_where_nothing_is_acceptable_nothing_fires(self) -> None:
        outcomes = simulate_outcomes(("Grasp",))
        threshold = choose_decision(outcomes, "Grasp", [self.settings], -1.0).threshold
        assert threshold > np.nanmax(outcomes[0].decisions.probability)

    def test_needs_an_event(self) -> None:
        with pytest.raises(EventError, match=r"event 'movement'.*found none"):
            choose_decision([make_outcome([0.1] * 10)], "movement", [AT_ONCE], 1.0)

    def test_takes_three_hours_of_decisions(self) -> None:
        outcomes = simulate_outcomes(("Grasp",), n_recordings=4, seconds=3500.0)
        assert sum(len(each.decisions) for each in outcomes) == 140_000
        assert 0 < choose_decision(outcomes, "Grasp", [self.settings], 1.0).threshold < 1


@st.composite
def recordings(draw: st.DrawFn) -> list[Outcome]:
    """A few short recordings with ties among the probabilities, lost signal, and events that may overlap."""
    level = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) if draw(st.booleans()) else st.floats(0, 1, width=32)
    outcomes = []
    for _ in range(draw(st.integers(1, 3))):
        probability = draw(st.lists(level, min_size=20, max_size=80))
        n_seconds = len(probability) / 10
        events = draw(st.lists(st.builds(cue, st.floats(0, n_seconds), st.sampled_from([0.0, 0.4, 3.0])), max_size=4))
        start = draw(st.integers(0, len(probability)))
        invalid = slice(start, start + draw(st.integers(0, 10)))
        outcomes.append(make_outcome(probability, events, invalid=invalid))
    return outcomes


def choose_by_trying_all(
    outcomes: list[Outcome], candidates: list[DecisionSettings], max_false_alarms_per_min: float
) -> DecisionSettings:
    """Every candidate at every threshold, decision by decision."""
    thresholds = candidate_thresholds(pool(outcomes, "movement").probability).tolist()
    tried = []
    for rank, rule in enumerate(candidates):
        for threshold in thresholds:
            n_false_alarms, lags = 0, []
            for each in outcomes:
                decisions = each.decisions
                above = [
                    bool(valid) and p >= np.float32(threshold)
                    for valid, p in zip(decisions.valid, decisions.probability[:, 0], strict=True)
                ]
                found = naive.detections(decisions.samples, above, rule.dwell_samples, rule.refractory_samples)
                matching = match_detections(decisions.times[found], scorable_events(each, "movement"))
                n_false_alarms += matching.n_false_alarms
                lags += matching.lag_s.tolist()
            if n_false_alarms / (valid_seconds(outcomes) / 60) <= max_false_alarms_per_min:
                lag = float(np.median(lags)) if lags else math.inf
                tried.append((-len(lags), n_false_alarms, lag, rank, -threshold))
    if not tried:
        return replace(candidates[0], threshold=thresholds[-1])
    *_, rank, threshold = min(tried)
    return replace(candidates[rank], threshold=-threshold)


class TestChooseDecision:
    rules = decision_candidates(100.0)

    @settings(deadline=None)
    @given(
        outcomes=recordings(),
        candidates=st.lists(
            st.builds(
                DecisionSettings, st.just(0.5), st.sampled_from([0, 6, 10, 25, 40]), st.sampled_from([0, 30, 100])
            ),
            min_size=1,
            max_size=4,
        ),
        limit=st.sampled_from([-1.0, 0.0, 3.0, 12.0, 40.0, math.inf]),
        block=st.sampled_from([1, 2, 7, 4096]),
    )
    def test_is_the_best_of_all_pairs(
        self, outcomes: list[Outcome], candidates: list[DecisionSettings], limit: float, block: int
    ) -> None:
        if not any(scorable_events(each, "movement") for each in outcomes):
            with pytest.raises(EventError):
                choose_decision(outcomes, "movement", candidates, limit)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decision_rules, "_BLOCK", block)
            chosen = choose_decision(outcomes, "movement", candidates, limit)
        assert chosen == choose_by_trying_all(outcomes, candidates, limit)

    @pytest.mark.parametrize("limit", [0.2, 2.0])
    def test_keeps_the_limit_and_is_no_worse_than_any_candidate_alone(self, limit: float) -> None:
        outcomes = simulate_outcomes(("Grasp",), seconds=120)

        def give(rule: DecisionSettings) -> tuple[float, float]:
            curve = operating_curve(outcomes, "Grasp", rule, [rule.threshold])
            return curve.event_recall[0], curve.false_alarms_per_min[0]

        recall, rate = give(choose_decision(outcomes, "Grasp", self.rules, limit))
        assert rate <= limit
        alone = [give(choose_decision(outcomes, "Grasp", [rule], limit))[0] for rule in self.rules]
        assert recall == max(alone) > min(alone)

    def test_agrees_with_the_operating_points_of_its_rule(self) -> None:
        outcomes = simulate_outcomes(("Grasp",))
        chosen = choose_decision(outcomes, "Grasp", self.rules, 1.0)
        (point,) = operating_points(operating_curve(outcomes, "Grasp", chosen), [1.0])
        assert point.threshold == chosen.threshold

    def test_a_dwell_that_removes_false_alarms_is_taken(self) -> None:
        probability = np.full(600, 0.1)
        probability[100:106] = 0.6  # within the event, held
        probability[200:600:50] = 0.9  # outside, single
        outcomes = [make_outcome(probability, [grasp(10.0)])]
        chosen = choose_decision(outcomes, "movement", self.rules, 0.5)
        assert (chosen.dwell_samples, chosen.refractory_samples) == (6, 50)
        assert 0.1 < chosen.threshold < 0.6

    def test_a_refractory_time_that_removes_false_alarms_is_taken(self) -> None:
        probability = np.full(600, 0.1)
        probability[100] = 0.9  # within the event
        probability[[300, 306, 315]] = 0.9  # a burst outside: 3, 2 or 1 false alarms
        outcomes = [make_outcome(probability, [grasp(10.0)])]
        assert choose_decision(outcomes, "movement", self.rules, 10.0).refractory_samples == 200

    def test_of_equal_candidates_the_earlier(self) -> None:
        outcomes = [make_outcome([0.1] * 100 + [0.9] + [0.1] * 100, [grasp(10.0)])]
        rules = [replace(AT_ONCE, refractory_samples=n) for n in (100, 50, 200)]
        assert choose_decision(outcomes, "movement", rules, 1.0).refractory_samples == 100
        assert choose_decision(outcomes, "movement", rules[1:], 1.0).refractory_samples == 50

    def test_the_earlier_candidate_goes_before_the_higher_threshold(self) -> None:
        probability = np.full(300, 0.1)
        probability[100:102] = 0.6, 0.9  # at 0.1 s: held from 0.6 on, or above 0.6 at once
        probability[200] = 0.6  # outside, single
        held, at_once = DecisionSettings(0.5, 10, 100), DecisionSettings(0.5, 0, 100)
        outcomes = [make_outcome(probability, [grasp(10.0)])]
        assert choose_decision(outcomes, "movement", [held, at_once], 1.0).dwell_samples == 10
        assert choose_decision(outcomes, "movement", [at_once, held], 1.0).dwell_samples == 0

    def test_of_equal_counts_the_sooner(self) -> None:
        probability = np.full(300, 0.1)
        probability[100:109] = 0.9
        rules = [DecisionSettings(0.5, dwell, 100) for dwell in (60, 20, 40)]
        assert choose_decision([make_outcome(probability, [grasp(10.0)])], "movement", rules, 1.0).dwell_samples == 20

    def test_where_nothing_is_acceptable_the_first_candidate_is_silent(self) -> None:
        outcomes = simulate_outcomes(("Grasp",))
        chosen = choose_decision(outcomes, "Grasp", self.rules, -1.0)
        assert chosen == replace(self.rules[0], threshold=chosen.threshold)
        assert chosen.threshold > np.nanmax(outcomes[0].decisions.probability)

    def test_needs_a_candidate(self) -> None:
        with pytest.raises(ValueError, match="candidates: expected at least one"):
            choose_decision(simulate_outcomes(("Grasp",), seconds=20), "Grasp", [], 1.0)

    def test_needs_an_event(self) -> None:
        with pytest.raises(EventError, match=r"event 'movement'.*found none"):
            choose_decision([make_outcome([0.1] * 10)], "movement", self.rules, 1.0)

    def test_takes_three_hours_of_decisions(self) -> None:
        outcomes = simulate_outcomes(("Grasp",), n_recordings=4, seconds=3500.0)
        chosen = choose_decision(outcomes, "Grasp", self.rules, 1.0)
        assert operating_curve(outcomes, "Grasp", chosen, [chosen.threshold]).false_alarms_per_min[0] <= 1.0


class TestDecisionCandidates:
    def test_what_is_fixed_is_not_searched(self) -> None:
        assert {rule.dwell_samples for rule in decision_candidates(500.0, dwell_s=0.3)} == {150}
        assert {rule.refractory_samples for rule in decision_candidates(500.0, refractory_s=0.0)} == {0}
        assert decision_candidates(500.0, 0.1, 1.0) == (DecisionSettings(0.5, 50, 500),)

    def test_are_different_and_shorter_first(self) -> None:
        for sfreq in (5.0, 128.0, 500.0):
            pairs = [(rule.dwell_samples, rule.refractory_samples) for rule in decision_candidates(sfreq)]
            assert pairs == sorted(set(pairs))

    def test_hold_the_defaults_of_training(self) -> None:
        assert DecisionSettings(0.5, 50, 500) in decision_candidates(500.0)
