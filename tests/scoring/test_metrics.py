from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from outcomes import HOP_S, make_outcome, simulate_outcomes
from streamdetect.errors import EventError
from streamdetect.events import Annotation, label_times
from streamdetect.scoring.metrics import Outcome, area_under_roc, in_match_window, match_detections, pool, score
from streamdetect.settings import DecisionSettings

AT_ONCE = DecisionSettings(threshold=0.5, dwell_samples=0, refractory_samples=0)


def grasp(onset: float) -> Annotation:
    return Annotation(onset, 0.0, "Grasp")


def cue(onset: float, duration: float) -> Annotation:
    return Annotation(onset, duration, "T1")


class TestAreaUnderRoc:
    @pytest.mark.parametrize("n_levels", [2, 7, 100_000])
    def test_equals_sklearn_with_ties(self, n_levels: int) -> None:
        rng = np.random.default_rng(n_levels)
        labels = rng.random(3000) < 0.1
        probability = ((rng.integers(0, n_levels, 3000) + labels) / n_levels).astype(np.float32)
        assert area_under_roc(labels, probability) == pytest.approx(roc_auc_score(labels, probability), abs=1e-12)

    def test_is_undefined_with_one_class(self) -> None:
        assert area_under_roc([True, True], [0.1, 0.2]) is None
        assert area_under_roc([False], [0.1]) is None
        assert area_under_roc([], []) is None


class TestMatchDetections:
    @pytest.mark.parametrize(("time", "matches"), [(9.84, False), (9.85, True), (11.0, True), (11.01, False)])
    def test_window_of_a_point_event(self, time: float, matches: bool) -> None:
        assert (match_detections([time], [grasp(10.0)]).n_matched == 1) is matches

    @pytest.mark.parametrize(("time", "matches"), [(9.85, True), (14.1, True), (14.11, False)])
    def test_window_of_a_long_event_reaches_its_end(self, time: float, matches: bool) -> None:
        assert (match_detections([time], [cue(10.0, 4.1)]).n_matched == 1) is matches

    def test_window_of_a_short_event_is_one_second(self) -> None:
        assert match_detections([10.9], [cue(10.0, 0.3)]).n_matched == 1

    def test_further_detections_are_neither_match_nor_false_alarm(self) -> None:
        matching = match_detections([10.0, 10.5, 11.0, 12.0], [grasp(10.0)])
        assert matching.event_index.tolist() == [0, -1, -1, -1]
        assert matching.is_extra.tolist() == [False, True, True, False]
        assert matching.n_false_alarms == 1

    def test_overlapping_windows_give_each_event_its_detection(self) -> None:
        matching = match_detections([10.6, 10.8, 11.4], [grasp(10.0), grasp(10.5)])
        assert matching.event_index.tolist() == [0, 1, -1]
        assert matching.is_extra.tolist() == [False, False, True]
        assert matching.lag_s == pytest.approx([0.6, 0.3])

    def test_a_short_event_within_a_long_one(self) -> None:
        events = [cue(10.0, 8.0), cue(11.0, 0.5), cue(16.0, 0.5)]
        matching = match_detections([11.2, 11.4, 14.0, 16.5, 18.5], events)
        assert matching.event_index.tolist() == [0, 1, -1, 2, -1]
        assert matching.is_extra.tolist() == [False, False, True, False, False]

    def test_index_refers_to_the_events_as_given(self) -> None:
        matching = match_detections([10.0, 20.0], [grasp(20.0), grasp(10.0)])
        assert matching.event_index.tolist() == [1, 0]
        assert matching.lag_s.tolist() == [0.0, 0.0]

    def test_nothing_to_match(self) -> None:
        assert match_detections([], []).n_matched == 0
        assert match_detections([1.0], []).n_false_alarms == 1
        assert match_detections([], [grasp(1.0)]).n_false_alarms == 0

    @settings(deadline=None)
    @given(
        detections=st.lists(st.floats(0, 60), max_size=30).map(sorted),
        events=st.lists(st.builds(cue, st.floats(0, 60), st.sampled_from([0.0, 0.4, 5.0])), max_size=12),
    )
    def test_agrees_with_the_rule_spelt_out(self, detections: list[float], events: list[Annotation]) -> None:
        matching = match_detections(detections, events)
        left = sorted(range(len(events)), key=lambda index: events[index].onset)
        for time, index, is_extra in zip(detections, matching.event_index, matching.is_extra, strict=True):
            holding = [
                each
                for each, event in enumerate(events)
                if event.onset - 0.15 - 1e-9 <= time <= event.onset + max(event.duration, 1.0) + 1e-9
            ]
            free = [each for each in left if each in holding]
            assert index == (free[0] if free else -1)
            assert is_extra == (bool(holding) and not free)
            left = [each for each in left if each != index]


class TestInMatchWindow:
    @settings(deadline=None)
    @given(
        times=st.lists(st.floats(0, 60), max_size=30),
        events=st.lists(st.builds(cue, st.floats(0, 60), st.sampled_from([0.0, 0.4, 5.0])), max_size=12),
    )
    def test_a_detection_elsewhere_is_a_false_alarm(self, times: list[float], events: list[Annotation]) -> None:
        alone = [match_detections([time], events).n_false_alarms == 0 for time in times]
        assert in_match_window(times, events).tolist() == alone
        assert (
            np.count_nonzero(~in_match_window(times, events)) == match_detections(sorted(times), events).n_false_alarms
        )

    def test_both_ends_belong_to_it(self) -> None:
        assert in_match_window([9.84, 9.85, 11.0, 11.01], [grasp(10.0)]).tolist() == [False, True, True, False]


class TestScore:
    def test_by_hand(self) -> None:
        # 60 s; positives at 10.0-10.9 s and 30.0-30.9 s; one cue at 10-12 s, found 0.4 s after its onset.
        probability = np.full(600, 0.1)
        probability[100:110] = probability[300:310] = 0.9
        outcome = make_outcome(probability, [cue(10.0, 2.0)], detection_times=[10.4, 11.5, 30.4])
        scores = score([outcome], {"movement": 0.5})
        found = scores["events"]["movement"]
        assert (scores["n_windows"], scores["n_invalid"]) == (600, 0)
        assert scores["seconds"] == pytest.approx(60.0)
        assert found["confusion"] == {"tn": 570, "fp": 10, "fn": 10, "tp": 10}
        assert found["recall"] == 0.5
        assert found["false_positive_rate"] == pytest.approx(10 / 580)
        assert found["event_recall"] == 1.0
        assert found["false_alarms_per_min"] == pytest.approx(1.0)
        assert found["lag_s"] == {"median": pytest.approx(0.4), "p95": pytest.approx(0.4)}
        # 10 of 20 true ones beat 570 of 580 others and tie with 10; the other 10 tie with 570.
        assert found["auc"] == pytest.approx((10 * (570 + 5) + 10 * 285) / (20 * 580))
        assert {member: each["auc"] for member, each in found["members"].items()} == dict.fromkeys(
            ("lda", "rf", "lr"), found["auc"]
        )

    def test_threshold_itself_is_positive(self) -> None:
        # 0.7 in float32 is less than 0.7 in float64.
        outcome = make_outcome([0.7] * 40, [cue(0.0, 2.0)])
        assert score([outcome], {"movement": 0.7})["events"]["movement"]["confusion"]["fn"] == 0

    def test_invalid_signal_counts_for_nothing(self) -> None:
        probability = np.full(600, 0.1)
        events = [grasp(10.0), grasp(25.0), grasp(45.0)]
        outcome = make_outcome(probability, events, detection_times=[10.0], invalid=slice(200, 300))
        scores = score([outcome], {"movement": 0.5})
        found = scores["events"]["movement"]
        assert (scores["n_windows"], scores["n_invalid"], scores["seconds"]) == (500, 100, pytest.approx(50.0))
        assert sum(found["confusion"].values()) == 500
        assert (found["n_events"], found["n_events_invalid"]) == (2, 1)
        assert found["event_recall"] == 0.5

    def test_event_with_one_valid_decision_counts(self) -> None:
        # The window of the event at 25 s ends at 26 s; the decision at 26.0 s is valid again.
        outcome = make_outcome([0.1] * 600, [grasp(25.0)], invalid=slice(200, 260))
        assert score([outcome], {"movement": 0.5})["events"]["movement"]["event_recall"] == 0.0

    def test_false_alarms_are_per_minute_of_valid_signal(self) -> None:
        outcome = make_outcome([0.1] * 600, detection_times=[40.0, 50.0], invalid=slice(0, 300))
        assert score([outcome], {"movement": 0.5})["events"]["movement"]["false_alarms_per_min"] == pytest.approx(4.0)

    def test_undefined_is_none(self) -> None:
        found = score([make_outcome([0.1] * 10, invalid=slice(0, 10))], {"movement": 0.5})["events"]["movement"]
        undefined = ("auc", "recall", "false_positive_rate", "event_recall", "false_alarms_per_min")
        assert [found[name] for name in undefined] == [None] * 5
        assert found["lag_s"] == {"median": None, "p95": None}

    def test_no_outcome_is_an_error(self) -> None:
        with pytest.raises(EventError, match="at least one recording"):
            score([], {})

    def test_pools_recordings(self) -> None:
        low = make_outcome([0.1] * 20 + [0.3] * 20, [cue(2.0, 2.0)])
        high = make_outcome([0.5] * 20 + [0.7] * 20, [cue(2.0, 2.0)])
        assert score([low], {"movement": 0.5})["mean"]["auc"] == 1.0
        assert score([low, high], {"movement": 0.5})["mean"]["auc"] == 0.75

    def test_mean_is_over_events_and_sums_confusion(self) -> None:
        names = ("HandStart", "Grasp", "LiftOff")
        scores = score(simulate_outcomes(names), dict.fromkeys(names, 0.7))
        mean, events = scores["mean"], [scores["events"][name] for name in names]
        assert mean["auc"] == pytest.approx(np.mean([each["auc"] for each in events]))
        assert mean["lag_s"]["p95"] == pytest.approx(np.mean([each["lag_s"]["p95"] for each in events]))
        assert mean["members"]["rf"]["auc"] == pytest.approx(np.mean([each["members"]["rf"]["auc"] for each in events]))
        assert mean["confusion"]["tp"] == sum(each["confusion"]["tp"] for each in events)
        assert json.loads(json.dumps(scores, allow_nan=False)) == scores

    def test_event_that_never_happens_leaves_the_mean_to_the_others(self) -> None:
        outcomes = simulate_outcomes(("Grasp", "LiftOff"))
        outcomes = [Outcome(o.name, o.decisions, {"Grasp": o.events["Grasp"]}, o.hop_s) for o in outcomes]
        scores = score(outcomes, {"Grasp": 0.7, "LiftOff": 0.7})
        assert scores["events"]["LiftOff"]["auc"] is None
        assert scores["mean"]["auc"] == scores["events"]["Grasp"]["auc"]

    @settings(deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_figures_fit_each_other(self, seed: int) -> None:
        outcomes = simulate_outcomes(("Grasp",), n_recordings=2, seconds=40, seed=seed)
        scores = score(outcomes, {"Grasp": 0.6})
        found = scores["events"]["Grasp"]
        assert sum(found["confusion"].values()) == scores["n_windows"]
        assert scores["n_windows"] + scores["n_invalid"] == sum(len(each.decisions) for each in outcomes)
        pooled = pool(outcomes, "Grasp")
        assert found["auc"] == pytest.approx(roc_auc_score(pooled.labels, pooled.probability))
        assert 0 <= found["event_recall"] <= 1
        assert found["confusion"]["tp"] == np.sum((pooled.probability >= 0.6) & pooled.labels)


def test_labels_follow_the_same_clock_as_detections() -> None:
    outcome = make_outcome([0.0] * 50, [grasp(2.0)])
    labelled = outcome.decisions.times[label_times(outcome.decisions.times, outcome.events["movement"])]
    assert labelled.tolist() == pytest.approx([1.9, 2.0, 2.1])
    assert pool([outcome], "movement").labels.sum() * HOP_S == pytest.approx(0.3)
