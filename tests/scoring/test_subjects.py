"""Whose a recording is, and what the scores of several subjects say together."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streamdetect.errors import InputError
from streamdetect.scoring.subjects import group_by_subject, interval_of_mean, name_subject, subject_table, summarise


def paths(*names):
    return [Path("data") / name for name in names]


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("subj1_series1_data.csv", "subj1"),
        ("subj12_series10_data.csv", "subj12"),
        ("S001R03.edf", "S001"),
        ("sub-01_ses-2_task-grasp_run-1_eeg.vhdr", "sub-01"),
        ("sub-P001_ses-S001_task-Default_run-001_eeg.xdf", "sub-P001"),
        ("subject1.fif", None),
        ("monday_raw.fif", None),
        ("subj1_series1_events.csv", None),
        ("xS001R03.edf", None),
    ],
)
def test_three_layouts_name_their_subject(name, subject):
    assert name_subject(Path("S009") / name) == subject  # the folder has no say


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [("[a-z]+(?=_)", "anna"), ("(a)(n)", "a"), ("(a)(?P<subject>nn)", "nn"), ("^lab/([^/]+)/", "p7"), ("bert", None)],
)
def test_a_pattern_takes_its_group_or_all(pattern, subject):
    assert name_subject(Path("lab/p7/anna_1.fif"), pattern) == subject


def test_recordings_are_grouped_in_their_order_and_subjects_sorted_as_numbers():
    given = paths("subj10_series1_data.csv", "subj2_series2_data.csv", "subj2_series1_data.csv")
    assert group_by_subject(given) == {"subj2": [given[1], given[2]], "subj10": [given[0]]}
    assert list(group_by_subject(given)) == ["subj2", "subj10"]


def test_names_that_say_nothing_are_one_subject_s():
    given = paths("b.fif", "a.fif")
    assert group_by_subject(given) == {"": given}


@pytest.mark.parametrize("pattern", [None, r"S\d+"])
def test_a_recording_of_nobody_among_others_is_refused(pattern):
    with pytest.raises(InputError, match=r"found none in data/monday\.fif and 1 more"):
        group_by_subject(paths("S001R03.edf", "monday.fif", "tuesday.fif"), pattern)


def test_a_pattern_that_matches_nothing_of_a_name_is_refused():
    with pytest.raises(InputError, match=r"found none in data/a\.fif"):
        group_by_subject(paths("a.fif"), "x*")


def test_a_broken_pattern_is_refused():
    with pytest.raises(InputError, match=r"--subject-pattern \(: expected a regular expression"):
        group_by_subject(paths("a.fif"), "(")


def test_the_interval_holds_the_mean_and_narrows_with_more_subjects():
    rng = np.random.default_rng(0)
    few, many = rng.normal(0.7, 0.05, 5), rng.normal(0.7, 0.05, 100)
    widths = []
    for values in (few, many):
        low, high = interval_of_mean(list(values), seed=3)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert widths[1] == pytest.approx(2 * 1.96 * many.std() / 10, rel=0.15)  # as the normal approximation
    assert interval_of_mean([0.7]) is None


def document(auc, p_value=0.001, events=("move",)):
    figures = {
        "auc": auc,
        "recall": 0.5,
        "false_positive_rate": 0.1,
        "event_recall": 0.6,
        "false_alarms_per_min": 1.0,
        "lag_s": {"median": None, "p95": None},
        "members": {"lda": {"auc": auc}},
    }
    return {
        "events": dict.fromkeys(events, figures),
        "mean": figures,
        "luck": {name: {"auc": auc, "p_value": p_value} for name in events},
        "controls": {"clock": dict.fromkeys(events, 0.55)},
    }


def printed(documents, failures):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(subject_table(documents, failures, summarise(documents)))
    return console.export_text()


def test_every_subject_counts_the_same_and_undefined_figures_do_not():
    summary = summarise({"a": document(0.6), "b": document(0.8), "c": document(None)})
    assert summary["mean"]["auc"] == pytest.approx(0.7)
    assert summary["mean"]["n_subjects"] == 2
    low, high = summary["mean"]["auc_interval"]
    assert 0.6 <= low < 0.7 < high <= 0.8
    assert summary["mean"]["lag_s"]["median"] is None
    assert summary["controls"] == {"clock": {"move": pytest.approx(0.55)}}
    assert summarise({"a": document(0.6)})["mean"]["auc_interval"] is None


def test_an_event_is_averaged_over_those_who_have_it():
    summary = summarise({"a": document(0.6, events=("move", "tap")), "b": document(0.8, events=("move",))})
    assert summary["events"]["move"]["auc"] == pytest.approx(0.7)
    assert (summary["events"]["tap"]["auc"], summary["events"]["tap"]["n_subjects"]) == (0.6, 1)


def test_the_table_has_a_row_a_subject_the_mean_and_who_failed():
    text = printed({"anna": document(0.6, p_value=0.2), "bert": document(0.8)}, {"cleo": "no such file"})
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["anna"] == ["0.600", "0.600", "0.60", "1.00", "-", "0/1", "0.550", "-"]
    assert rows["bert"][5] == "1/1"
    assert rows["mean"][:2] == ["0.700", "0.700"]
    assert "- 95 % 0." in text
    assert "! cleo: failed: no such file" in text
    assert "Mean over subjects" not in text


def test_several_events_get_a_row_each():
    text = printed({name: document(0.8, events=("move", "tap")) for name in ("anna", "bert")}, {})
    assert "mean of its 2 events" in text
    assert {"move", "tap"} <= {line.split()[0] for line in text.splitlines() if line.strip()}
