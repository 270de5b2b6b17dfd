from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from outcomes import make_outcome, simulate_outcomes
from streamdetect.scoring.luck import Luck, describe
from streamdetect.scoring.metrics import score
from streamdetect.scoring.tables import (
    IN_SAMPLE_WARNING,
    RANDOM_SPLIT_WARNING,
    list_warnings,
    luck_rows,
    published_table,
    score_table,
)

GRASP_AND_LIFT = (
    "HandStart", "FirstDigitTouch", "BothStartLoadPhase", "LiftOff", "Replace", "BothReleased",
)  # fmt: skip


def render(table: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def make_scores(*events: str, protocol: str = "held-out, by recording") -> dict[str, Any]:
    outcomes = simulate_outcomes(events, n_recordings=1, seconds=60)
    return {"protocol": protocol, **score(outcomes, dict.fromkeys(events, 0.5))}


def test_six_events_fit_80_columns_in_plain_text() -> None:
    scores = make_scores(*GRASP_AND_LIFT)
    controls = {name: dict.fromkeys(GRASP_AND_LIFT, 0.512) for name in ("clock", "phase_randomised")}
    lines = render(score_table(scores, controls)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    for name, found in [*scores["events"].items(), ("mean", scores["mean"])]:
        row = next(line for line in lines if line.startswith(f"{name} "))
        expected = [found["auc"], *(found["members"][each]["auc"] for each in ("lda", "rf", "lr"))]
        assert row.split()[1:5] == [f"{value:.3f}" for value in expected]
        assert row.split()[7:9] == [f"{found['event_recall']:.2f}", f"{found['false_alarms_per_min']:.2f}"]
    assert sum("- clock alone" in line and "0.512" in line for line in lines) == 7
    assert sum("- random phases" in line and "0.512" in line for line in lines) == 7


def make_luck(event: str, auc: float | None = 0.7123, p_value: float | None = 0.001, **changes: Any) -> Luck:
    fields = {"low": 0.6622, "high": 0.7581, "level": 0.95, "resampled_by": "recording", "n_resampled": 8}
    return Luck(event, auc, p_value, n_recordings=8, **(fields | changes))


def test_interval_and_p_value_fit_beside_six_events() -> None:
    luck = {name: make_luck(name) for name in GRASP_AND_LIFT}
    controls = {"clock": dict.fromkeys(GRASP_AND_LIFT, 0.512)}
    lines = render(score_table(make_scores(*GRASP_AND_LIFT), controls, luck)).splitlines()
    assert max(map(len, lines)) <= 80
    place = next(index for index, line in enumerate(lines) if line.startswith("LiftOff "))
    assert [line.rstrip() for line in lines[place + 1 : place + 3]] == [
        "- 95 % 0.66 to 0.76", "- p if only luck    0.001",
    ]  # fmt: skip
    assert lines[place + 3].startswith("- clock alone")
    assert sum(line.startswith("- p if only luck") for line in lines) == 6  # none for the mean


def test_table_ends_in_what_luck_says() -> None:
    luck = {"Grasp": make_luck("Grasp"), "LiftOff": make_luck("LiftOff", 0.58, 0.2)}
    text = " ".join(render(score_table(make_scores("Grasp", "LiftOff"), luck=luck)).split())
    assert f"{describe(luck['Grasp'])}. ! {describe(luck['LiftOff'])}." in text


def test_luck_decides_what_is_chance() -> None:
    scores = make_scores("Grasp")
    scores["events"]["Grasp"].update(auc=0.54, event_recall=0.1)
    assert "is chance" in list_warnings(scores)[0]
    assert list_warnings(scores, luck={"Grasp": make_luck("Grasp", 0.54, 0.001)}) == []
    worse = make_luck("Grasp", 0.54, 0.3)
    assert list_warnings(scores, luck={"Grasp": worse}) == [f"{describe(worse)}."]


def test_undefined_luck_is_told_and_has_no_rows() -> None:
    undefined = make_luck("movement", None, None, low=None, high=None, resampled_by=None, n_resampled=0)
    scores = {"protocol": "held-out", **score([make_outcome([0.1] * 20)], {"movement": 0.5})}
    text = render(score_table(scores, luck={"movement": undefined}))
    assert "cannot be told" in text
    assert "only luck" not in text
    assert luck_rows({"movement": undefined})[1] == [["movement", "-", "-", "-", "-", "-"]]


def test_luck_rows() -> None:
    heading, rows = luck_rows({"Grasp": make_luck("Grasp"), "Lift": make_luck("Lift", 0.51, 0.3, low=None, high=None)})
    assert len(heading) == 6
    assert rows == [
        ["Grasp", "0.712", "0.662 to 0.758, 95 %", "8 recordings", "0.001", "better than luck"],
        ["Lift", "0.510", "-", "8 recordings", "0.300", "no better than luck"],
    ]


def test_one_event_needs_no_mean() -> None:
    assert "\nmean" not in render(score_table(make_scores("Grasp")))


def test_undefined_is_a_dash() -> None:
    scores = {"protocol": "held-out", **score([make_outcome([0.1] * 20)], {"movement": 0.5})}
    assert render(score_table(scores)).splitlines()[-1].split()[:3] == ["movement", "-", "-"]


def test_names_with_brackets_are_not_markup() -> None:
    assert "[red]" in render(score_table(make_scores("[red]")))


def test_random_split_prints_its_warning() -> None:
    assert RANDOM_SPLIT_WARNING not in " ".join(render(score_table(make_scores("Grasp"))).split())
    scores = make_scores("Grasp", protocol="random-split")
    assert RANDOM_SPLIT_WARNING in " ".join(render(score_table(scores)).split())


def test_scores_on_training_recordings_are_told() -> None:
    assert IN_SAMPLE_WARNING in list_warnings(make_scores("Grasp", protocol="in-sample"))


@pytest.mark.parametrize(("auc", "warns"), [(0.45, False), (0.55, False), (0.561, True), (0.43, True), (None, False)])
def test_phase_randomised_eeg_must_score_at_chance(auc: float | None, warns: bool) -> None:
    found = list_warnings(make_scores("Grasp"), {"phase_randomised": {"Grasp": auc}})
    assert any("random phases" in line for line in found) is warns


def test_clock_that_knows_as_much_is_told() -> None:
    scores = make_scores("Grasp")
    assert list_warnings(scores, {"clock": {"Grasp": 0.5}}) == []
    assert "cannot show whether the EEG adds anything" in list_warnings(scores, {"clock": {"Grasp": 1.0}})[0]


def test_events_in_invalid_signal_are_told() -> None:
    scores = make_scores("Grasp")
    scores["mean"]["n_events_invalid"] = 3
    assert list_warnings(scores) == ["3 events lie wholly in invalid signal and are left out."]


def test_published_table_stands_beside_ours() -> None:
    scores = make_scores("Grasp", protocol="random-split")
    scores["mean"]["confusion"] = {"tn": 980, "fp": 2, "fn": 8, "tp": 10}
    text = render(published_table(scores))
    rows = {" ".join(line.split()[:-2]): line.split()[-2:] for line in text.splitlines()}
    assert rows["true negatives (TN)"] == ["980", "456263"]
    assert rows["recall"] == ["0.556", "0.702"]
    assert rows["FP per 1,000 windows"] == ["2.000", "0.241"]
    assert RANDOM_SPLIT_WARNING not in " ".join(text.split())  # it stands under the scores, printed just before
    assert max(map(len, text.splitlines())) <= 80
