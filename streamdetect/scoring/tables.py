"""Scores as tables for the terminal, and as the rows that the report shares with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from streamdetect.scoring.luck import Luck

RANDOM_SPLIT_WARNING = (
    "Random split: measures memory, not detection: neighbouring windows overlap by more than 95 %, so that almost the "
    "same window is in the training and in the test part. Expect far less on a new recording."
)
IN_SAMPLE_WARNING = (
    "In-sample: the model was trained on recordings that are scored here: the scores say what it remembers, not what "
    "it detects."
)
CHANCE_TOLERANCE = 0.05  # the phase-randomised control must score 0.5 within this much
MEMBERS = {"lda": "LDA", "rf": "RF", "lr": "LR"}
CONTROLS = {"clock": "clock alone", "phase_randomised": "random phases"}
# Oschmann 2019, "Boosting research with machine learning": windows of a random split.
PUBLISHED_2019 = {"tn": 456263, "fp": 113, "fn": 3833, "tp": 9016}
LUCK_CAPTION = (
    "Whether the AUC may be luck. p: how often chance does as well, by moving the observed events in time, in blocks "
    "of 30 s; above 0.05 (divided by the number of events where there are several) a model is no better than luck. The "
    "interval is a bootstrap of whole recordings, or of trials where fewer than three hold the event; from fewer than "
    "five it is rough, and rather too narrow. Better than luck may still be the clock: see the clock alone."
)

Controls = Mapping[str, Mapping[str, float | None]]


def is_random_split(scores: Mapping[str, Any]) -> bool:
    """Say whether scores come from the random-split protocol."""
    return "random" in str(scores.get("protocol", ""))


def list_warnings(
    scores: Mapping[str, Any], controls: Controls | None = None, luck: Mapping[str, Luck] | None = None
) -> list[str]:
    """Say in words what a reader of the scores must know first.

    Parameters
    ----------
    scores : mapping
        As `score` returns them, with ``protocol``.
    controls : mapping, optional
        AUC of each event for ``clock`` and ``phase_randomised``.
    luck : mapping of str to Luck, optional
        For each event whether it is better than luck, as `verdicts` returns it; without it, an AUC near 0.5 is taken
        for chance.

    Returns
    -------
    list of str
        One sentence or two each; empty where nothing is wrong.
    """
    found = [RANDOM_SPLIT_WARNING] if is_random_split(scores) else []
    for event, each in scores["events"].items():
        judged = (luck or {}).get(event)
        if judged is not None and not judged.is_better:
            from streamdetect.scoring.luck import describe

            found.append(f"{describe(judged)}.")
        elif judged is None and each["auc"] is not None and each["auc"] <= 0.5 + CHANCE_TOLERANCE:
            found.append(f"{event}: AUC {each['auc']:.3f} is chance: nothing was learnt that holds on new recordings.")
        elif each["event_recall"] == 0:
            found.append(f"{event}: not one event is found at the threshold.")
    if "in-sample" in str(scores.get("protocol", "")):
        found.append(IN_SAMPLE_WARNING)
    for event, auc in (controls or {}).get("clock", {}).items():
        vote = scores["events"].get(event, {}).get("auc")
        if auc is not None and vote is not None and auc >= vote:
            found.append(
                f"{event}: the time since the start alone scores AUC {auc:.3f}, the detector {vote:.3f}: these "
                "recordings cannot show whether the EEG adds anything."
            )
    for event, auc in (controls or {}).get("phase_randomised", {}).items():
        if auc is not None and round(abs(auc - 0.5), 3) > CHANCE_TOLERANCE:  # as printed
            found.append(
                f"{event}: EEG with random phases scores AUC {auc:.3f} where {0.5 - CHANCE_TOLERANCE:.2f} to "
                f"{0.5 + CHANCE_TOLERANCE:.2f} is chance: part of the score is not detection, or there is too little "
                "data to tell."
            )
    n_left_out = scores["mean"].get("n_events_invalid", 0)
    if n_left_out:
        found.append(f"{n_left_out} events lie wholly in invalid signal and are left out.")
    return found


def score_rows(
    scores: Mapping[str, Any], controls: Controls | None = None, luck: Mapping[str, Luck] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return a heading and a row for each event, its interval and p value, its controls, and the mean.

    Parameters
    ----------
    scores, controls, luck
        As for `list_warnings`.

    Returns
    -------
    heading : list of str
        Words of a heading that may stand below each other are separated by a line break.
    rows : list of list of str
        Undefined figures are a dash.
    """
    members = [name for name in MEMBERS if name in scores["mean"]["members"]]
    heading = ["event", "AUC", *(f"{MEMBERS[name]}\nAUC" for name in members)]
    heading += ["win.\nrecall", "false\npos.", "events\nfound", "FA\n/min", "lag\ns", "lag\np95"]
    rows = []
    for name, each in [*scores["events"].items(), ("mean", scores["mean"])]:
        if name == "mean" and len(scores["events"]) < 2:
            break
        rows.append(
            [
                name,
                _format(each["auc"], 3),
                *(_format(each["members"][member]["auc"], 3) for member in members),
                _format(each["recall"], 3),
                _format(each["false_positive_rate"], 3),
                _format(each["event_recall"], 2),
                _format(each["false_alarms_per_min"], 2),
                _format(each["lag_s"]["median"], 2),
                _format(each["lag_s"]["p95"], 2),
            ]
        )
        judged = (luck or {}).get(name)
        if judged is not None and judged.auc is not None and name in scores["events"]:
            # In the first column, since a further one would not fit 80 beside six events.
            interval = f"- {100 * judged.level:g} % {_format(judged.low, 2)} to {_format(judged.high, 2)}"
            rows.append([interval] + [""] * (len(heading) - 1))
            rows.append(["- p if only luck", _format(judged.p_value, 3)] + [""] * (len(heading) - 2))
        for control, label in CONTROLS.items():
            if controls and control in controls:
                auc = _mean(controls[control].values()) if name == "mean" else controls[control].get(name)
                rows.append([f"- {label}", _format(auc, 3)] + [""] * (len(heading) - 2))
    return heading, rows


def score_table(
    scores: Mapping[str, Any], controls: Controls | None = None, luck: Mapping[str, Luck] | None = None
) -> Group:
    """Return the scores as a table of at most 80 columns with its warnings, plain text in a pipe.

    Parameters
    ----------
    scores, controls, luck
        As for `list_warnings`.

    Returns
    -------
    rich.console.Group
        To be printed by a rich console. Where ``luck`` is given, it ends in a sentence for each event.
    """
    from rich.text import Text

    protocol = str(scores.get("protocol", "")) or "protocol not stated"
    heading, rows = score_rows(scores, controls, luck)
    table = _make_table(gap=1)
    table.add_column(heading[0], overflow="fold")
    for words in heading[1:]:
        table.add_column(words, justify="right", no_wrap=True)
    for row in rows:
        style = "dim" if row[0].startswith("- ") else "bold" if row[0] == "mean" else None
        table.add_row(*(Text(cell) for cell in row), style=style)
    title = (
        f"Scores, {protocol}\n{scores['n_windows']} valid windows, {scores['n_invalid']} invalid left out; "
        f"{scores['seconds'] / 60:.1f} min of valid signal"
    )
    return _with_words(title, table, list_warnings(scores, controls, luck), _list_better(luck or {}))


def luck_rows(luck: Mapping[str, Luck]) -> tuple[list[str], list[list[str]]]:
    """Return a heading and a row for each event: its AUC, the interval around it, and whether it may be luck.

    Parameters
    ----------
    luck : mapping of str to Luck
        As `verdicts` returns it.

    Returns
    -------
    heading : list of str
    rows : list of list of str
        Undefined figures are a dash. `LUCK_CAPTION` explains them.
    """
    from streamdetect.scoring.luck import describe_resampled

    rows = [
        [
            name,
            _format(each.auc, 3),
            "-" if each.low is None else f"{_format(each.low, 3)} to {_format(each.high, 3)}, {100 * each.level:g} %",
            describe_resampled(each),
            _format(each.p_value, 3),
            "-" if each.auc is None else "better than luck" if each.is_better else "no better than luck",
        ]
        for name, each in luck.items()
    ]
    return ["event", "AUC", "interval", "drawn from", "p", "verdict"], rows


def published_table(scores: Mapping[str, Any]) -> Group:
    """Return the random-split windows beside those published in 2019.

    Parameters
    ----------
    scores : mapping
        As `score` returns them for the random-split protocol; the confusion matrix is the sum over events.

    Returns
    -------
    rich.console.Group
        To be printed by a rich console.
    """
    table = _make_table(gap=3)
    table.add_column("windows")
    table.add_column("here", justify="right")
    table.add_column("Oschmann 2019", justify="right")
    here = scores["mean"]["confusion"]
    for cell, label in {
        "tn": "true negatives (TN)",
        "fp": "false positives (FP)",
        "fn": "false negatives (FN)",
        "tp": "true positives (TP)",
    }.items():
        table.add_row(label, str(here[cell]), str(PUBLISHED_2019[cell]))
    for label, derive in (("recall", _recall), ("FP per 1,000 windows", _false_positives_per_1000)):
        table.add_row(label, _format(derive(here), 3), _format(derive(PUBLISHED_2019), 3))
    return _with_words("Random split of windows, as in 2019", table, [])


def _make_table(gap: int) -> Table:
    from rich.table import Table

    return Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)


def _list_better(luck: Mapping[str, Luck]) -> list[str]:
    """Say of which events the detector is better than luck; the others are among the warnings."""
    from streamdetect.scoring.luck import describe

    return [f"{describe(each)}." for each in luck.values() if each.is_better]


def _with_words(title: str, table: Table, warnings: Sequence[str], remarks: Sequence[str] = ()) -> Group:
    """Put a title above, remarks and warnings below a table, as wide as the terminal rather than the table."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title, "bold"), table, *map(Text, remarks), *(Text(f"! {line}", "bold") for line in warnings))


def _recall(confusion: Mapping[str, int]) -> float | None:
    n_true = confusion["tp"] + confusion["fn"]
    return confusion["tp"] / n_true if n_true else None


def _false_positives_per_1000(confusion: Mapping[str, int]) -> float | None:
    n_windows = sum(confusion.values())
    return 1000 * confusion["fp"] / n_windows if n_windows else None


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
