from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from outcomes import make_outcome, simulate_outcomes
from streamdetect.events import Annotation
from streamdetect.scoring.luck import ALPHA, Luck, describe, describe_resampled, verdict, verdicts
from streamdetect.scoring.metrics import Outcome
from streamdetect.scoring.resampling import bootstrap_interval, permutation_test

EVENTS = ("HandStart", "Grasp")
BETTER = Luck("movement", 0.712, 0.001, 0.662, 0.758, 0.95, "recording", 8, 8)
NO_BETTER = replace(BETTER, auc=0.513, p_value=0.32, low=0.44, high=0.56)


def make_noise(n_recordings: int = 6) -> list[Outcome]:
    rng = np.random.default_rng(0)
    events = [Annotation(float(onset), 3.0, "movement") for onset in np.arange(3, 110, 8)]
    return [make_outcome(rng.random(1200), events, name=f"run {index}") for index in range(n_recordings)]


class TestVerdict:
    def test_a_detector_that_works(self) -> None:
        outcomes = simulate_outcomes(EVENTS, n_recordings=6)
        luck = verdict(outcomes, "Grasp", seed=4)
        tested = permutation_test(outcomes, "Grasp", seed=4)
        assert (luck.auc, luck.p_value) == (tested.auc, tested.p_value)
        assert (luck.low, luck.high) == bootstrap_interval(outcomes, "Grasp", seed=4)[:2]
        assert luck.low < luck.auc < luck.high
        assert luck.is_better
        assert not luck.is_rough
        assert (luck.n_recordings, luck.n_resampled, luck.resampled_by) == (6, 6, "recording")

    def test_noise(self) -> None:
        luck = verdict(make_noise(), "movement")
        assert not luck.is_better
        assert luck.p_value > ALPHA

    def test_few_recordings_are_rough(self) -> None:
        assert verdict(make_noise(4), "movement").is_rough
        assert not verdict(make_noise(5), "movement").is_rough

    def test_recordings_without_a_valid_decision_do_not_count(self) -> None:
        lost = make_outcome(np.full(100, 0.5), (), invalid=slice(None))
        assert verdict([*make_noise(5), lost], "movement").n_recordings == 5

    def test_events_share_the_error(self) -> None:
        found = verdicts(simulate_outcomes(EVENTS, n_recordings=2))
        assert tuple(found) == EVENTS
        assert all(each.alpha == ALPHA / 2 and each.n_events == 2 for each in found.values())

    def test_nothing_to_judge(self) -> None:
        assert verdicts([]) == {}

    def test_figures_are_ready_for_json(self) -> None:
        figures = json.loads(json.dumps(verdict(make_noise(), "movement").figures(), allow_nan=False))
        assert set(figures) == {"auc", "p_value", "interval", "resampled_by"}
        assert figures["interval"][0] < figures["auc"] < figures["interval"][1]
        undefined = verdict([make_outcome([0.5] * 10)], "movement").figures()
        assert undefined == {"auc": None, "p_value": None, "interval": None, "resampled_by": None}


class TestDescribe:
    def test_no_better_than_luck_says_what_to_do(self) -> None:
        assert describe(NO_BETTER) == (
            "movement: no better than luck (AUC 0.51, 95 % 0.44 to 0.56 over 8 recordings, p = 0.320): do not use this "
            "model for it; record more, or check the electrodes"
        )

    def test_few_recordings(self) -> None:
        text = describe(replace(BETTER, n_resampled=4, n_recordings=4))
        assert "over 4 recordings, rough with so few, p = 0.001)" in text

    def test_one_recording(self) -> None:
        text = describe(replace(BETTER, resampled_by="trial", n_resampled=15, n_recordings=1))
        assert "over 15 trials of one recording: others may differ, p" in text

    def test_two_recordings(self) -> None:
        text = describe(replace(BETTER, resampled_by="trial", n_resampled=30, n_recordings=2))
        assert "over 30 trials of fewer than 3 recordings: others may differ, p" in text

    def test_the_interval_reaches_chance(self) -> None:
        text = describe(replace(BETTER, low=0.48))
        assert text.startswith("movement: better than luck (")
        assert text.endswith("; the interval reaches down to chance, 0.5: record more to be sure")
        assert "reaches down" not in describe(BETTER)

    def test_one_of_several_events_needs_more(self) -> None:
        text = describe(replace(BETTER, p_value=0.02, alpha=0.05 / 6, n_events=6))
        assert "no better than luck" in text
        assert "p = 0.020, above the 0.0083 asked of one in 6 events" in text
        assert "asked of" not in describe(replace(NO_BETTER, alpha=0.05 / 6, n_events=6))

    def test_levels_that_differ_between_recordings(self) -> None:
        text = describe(replace(BETTER, auc=0.48))
        assert "no better than luck" in text
        assert "its level differs between recordings" in text

    def test_a_single_trial(self) -> None:
        outcome = make_outcome(np.linspace(0, 1, 300), [Annotation(25.0, 4.0, "movement")])
        assert "no interval from a single trial" in describe(verdict([outcome], "movement"))

    def test_undefined(self) -> None:
        luck = verdict([make_outcome([0.5] * 10)], "movement")
        assert "cannot be told" in describe(luck)
        assert describe_resampled(luck) == "-"

    @pytest.mark.parametrize("n_recordings", [1, 2, 6])
    def test_is_one_line_with_the_figures(self, n_recordings: int) -> None:
        luck = verdict(simulate_outcomes(EVENTS, n_recordings=n_recordings), "Grasp")
        text = describe(luck)
        figures = r"AUC 0\.\d\d, 95 % 0\.\d\d to [01]\.\d\d over .+, p = 0\.001"
        assert re.fullmatch(rf"Grasp: better than luck \({figures}\)", text)
