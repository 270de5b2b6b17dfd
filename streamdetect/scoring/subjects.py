"""Several subjects: whose a recording is, and what their scores say together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamdetect.errors import InputError
from streamdetect.scoring.luck import ALPHA
from streamdetect.scoring.resampling import LEVEL, N_BOOT, tail_of
from streamdetect.scoring.tables import CONTROLS, MEMBERS, list_warnings

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_LAYOUTS = (
    re.compile(r"(?P<subject>subj\d+)_series\d+_data\.csv", re.IGNORECASE),  # the Grasp-and-Lift challenge
    re.compile(r"(?P<subject>S\d{3})R\d{2}\.edf", re.IGNORECASE),  # PhysioNet's EEG Motor Movement/Imagery
    re.compile(r"(?P<subject>sub-[^_]+)_.+", re.IGNORECASE),  # BIDS, and what LabRecorder writes by default
)
_FIGURES = ("auc", "recall", "false_positive_rate", "event_recall", "false_alarms_per_min")

Documents = Mapping[str, Mapping[str, Any]]


def name_subject(path: Path, pattern: str | None = None) -> str | None:
    """Read the subject off a recording's name.

    Parameters
    ----------
    path : Path
        The recording.
    pattern : str or None
        Regular expression, searched for in the whole path (with ``/`` between folders); the subject is its group named
        ``subject``, else its first group, else all that it matches. Without one the file's name decides: it is that of
        a Grasp-and-Lift series, of a PhysioNet motor run, or a BIDS name.

    Returns
    -------
    str or None
        None where the name does not say.

    Raises
    ------
    InputError
        The pattern is no regular expression.

    Examples
    --------
    >>> [name_subject(Path(name)) for name in ("subj1_series8_data.csv", "S001R03.edf", "sub-01_task-x_eeg.vhdr")]
    ['subj1', 'S001', 'sub-01']
    >>> name_subject(Path("lab/anna/monday.fif"), "lab/([^/]+)/")
    'anna'
    """
    if pattern is None:
        found = next((match for layout in _LAYOUTS if (match := layout.fullmatch(path.name))), None)
    else:
        try:
            found = re.search(pattern, path.as_posix())
        except re.error as error:
            raise InputError(f"--subject-pattern {pattern}: expected a regular expression, but {error}") from error
    if found is None:
        return None
    groups = found.groupdict()
    return groups["subject"] if "subject" in groups else found[1] if found.re.groups else found[0]


def group_by_subject(paths: Iterable[Path], pattern: str | None = None) -> dict[str, list[Path]]:
    """Gather the recordings of each subject.

    Parameters
    ----------
    paths : iterable of Path
        Recordings.
    pattern : str or None
        As for `name_subject`.

    Returns
    -------
    dict of str to list of Path
        By subject, ``subj2`` before ``subj10``; each subject's recordings in the order given. Where no name says whose
        it is and there is no pattern, all are one subject's, named ``""``.

    Raises
    ------
    InputError
        Some names say whose they are and others do not, or a pattern does not match.
    """
    subjects: dict[str, list[Path]] = {}
    unnamed: list[Path] = []
    for path in paths:
        name = name_subject(path, pattern)
        (subjects.setdefault(name, []) if name else unnamed).append(path)
    if unnamed and (subjects or pattern is not None):
        more = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        asked = "" if pattern is None else f" {pattern}"
        raise InputError(
            f"--subject-pattern{asked}: expected a subject in the name of every recording, found none in "
            f"{unnamed[0]}{more}; leave it out, or give a pattern that fits all, such as '([^/]+)/[^/]*$' for one "
            "folder a subject"
        )
    if unnamed:
        return {"": unnamed}
    return {name: subjects[name] for name in sorted(subjects, key=_natural)}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers within names by value."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def summarise(documents: Documents, *, seed: int = 0) -> dict[str, Any]:
    """Return the mean of the subjects' scores, each subject counting the same, with its interval.

    Parameters
    ----------
    documents : mapping of str to mapping
        For each subject its scores, as ``evaluate --json`` writes them.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``events`` and ``mean`` as in each document; a figure is the mean over the subjects for which it is defined.
        Beside ``auc`` stand ``auc_interval`` (see `interval_of_mean`), None for a single subject, and ``n_subjects``,
        those that have an AUC. ``controls`` holds the mean AUC of each event for each control.
    """
    names = dict.fromkeys(name for document in documents.values() for name in document["events"])
    controls = [document["controls"] for document in documents.values()]
    return {
        "events": {
            name: _mean_figures([each["events"][name] for each in documents.values() if name in each["events"]], seed)
            for name in names
        },
        "mean": _mean_figures([each["mean"] for each in documents.values()], seed),
        "controls": {
            control: {name: _mean(each[control].get(name) for each in controls if control in each) for name in names}
            for control in CONTROLS
            if any(control in each for each in controls)
        },
    }


def interval_of_mean(values: Sequence[float], *, seed: int = 0) -> tuple[float, float] | None:
    """Estimate by bootstrap how far the mean over subjects may be off.

    Parameters
    ----------
    values : sequence of float
        A figure of each subject.
    seed : int
        Seed of the draws.

    Returns
    -------
    (low, high) or None
        95 % interval: subjects are drawn with replacement, and percentiles widened for small numbers as in
        `bootstrap_interval`; None for fewer than two subjects.

    Examples
    --------
    >>> low, high = interval_of_mean([0.6, 0.7, 0.8, 0.7])
    >>> 0.6 <= low < 0.7 < high <= 0.8
    True
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = rng.choice(np.asarray(values), (N_BOOT, len(values))).mean(axis=1)
    tail = tail_of(LEVEL, len(values))
    low, high = np.quantile(means, [tail, 1 - tail]).tolist()
    return low, high


def _mean_figures(each: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    aucs = [one["auc"] for one in each if one["auc"] is not None]
    interval = interval_of_mean(aucs, seed=seed)
    return {
        "n_subjects": len(aucs),
        **{name: _mean(one[name] for one in each) for name in _FIGURES},
        "auc_interval": None if interval is None else list(interval),
        "lag_s": {part: _mean(one["lag_s"][part] for one in each) for part in ("median", "p95")},
        "members": {
            name: {"auc": _mean(one["members"][name]["auc"] for one in each if name in one["members"])}
            for name in MEMBERS
            if any(name in one["members"] for one in each)
        },
    }


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def subject_table(documents: Documents, failures: Mapping[str, str], summary: Mapping[str, Any]) -> Group:
    """Return a row a subject, the mean over subjects, and where there are several events a row an event.

    Parameters
    ----------
    documents : mapping of str to mapping
        For each subject its scores, as ``evaluate --json`` writes them.
    failures : mapping of str to str
        For each subject that could not be scored why.
    summary : mapping
        As `summarise` returns it.

    Returns
    -------
    rich.console.Group
        To be printed by a rich console.
    """
    from rich.console import Group
    from rich.text import Text

    def mean_of(controls: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
        return {control: _mean(values.values()) for control, values in controls.items()}

    members = [name for name in MEMBERS if name in summary["mean"]["members"]]
    names, controls = summary["events"], summary["controls"]
    rows = [
        _row(name, each["mean"], members, mean_of(each["controls"]), _count_better(each["luck"]))
        for name, each in documents.items()
    ]
    rows += _mean_rows("mean", summary["mean"], members, mean_of(controls))
    title = f"Scores of {len(documents)} subjects, each cross-validated on its own"
    parts: list[Any] = [
        Text(f"{title}; mean of its {len(names)} events" if len(names) > 1 else title, "bold"),
        _make_table("subject", members, rows),
    ]
    if len(names) > 1:
        by_event = [
            _mean_rows(name, each, members, {control: aucs[name] for control, aucs in controls.items()})
            for name, each in names.items()
        ]
        parts += [
            Text("Mean over subjects", "bold"),
            _make_table("event", members, [row for rows in by_event for row in rows]),
        ]
    parts.append(
        Text(
            "Beats luck: for how many events a subject's AUC is better than chance would give (p at most 0.05, divided "
            "by the number of events). The interval draws subjects; from fewer than five it is rough."
        )
    )
    warnings = [f"{name}: failed: {reason}" for name, reason in failures.items()]
    warnings += list_warnings({"protocol": "held-out", **summary}, controls)
    return Group(*parts, *(Text(f"! {line}", "bold") for line in warnings))


def _row(
    name: str,
    figures: Mapping[str, Any],
    members: Sequence[str],
    controls: Mapping[str, float | None],
    n_better: str = "",
) -> list[str]:
    return [
        name,
        _format(figures["auc"], 3),
        *(_format(figures["members"].get(member, {}).get("auc"), 3) for member in members),
        _format(figures["event_recall"], 2),
        _format(figures["false_alarms_per_min"], 2),
        _format(figures["lag_s"]["median"], 2),
        n_better,
        *(_format(controls.get(control), 3) for control in CONTROLS),
    ]


def _mean_rows(
    name: str, figures: Mapping[str, Any], members: Sequence[str], controls: Mapping[str, float | None]
) -> list[list[str]]:
    """Return the row of a mean, and where there is one that of its interval."""
    row = _row(name, figures, members, controls)
    if figures["auc_interval"] is None:
        return [row]
    low, high = figures["auc_interval"]
    return [row, [f"- {100 * LEVEL:g} % {low:.2f} to {high:.2f}"] + [""] * (len(row) - 1)]


def _make_table(first: str, members: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    headings = ["AUC", *(f"{MEMBERS[member]}\nAUC" for member in members), "events\nfound", "FA\n/min", "lag\ns"]
    for words in [*headings, "beats\nluck", *(label.replace(" ", "\n") for label in CONTROLS.values())]:
        table.add_column(words, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row), style="dim" if row[0].startswith("- ") else "bold" if row[0] == "mean" else None)
    return table


def _count_better(luck: Mapping[str, Mapping[str, Any]]) -> str:
    """Return for how many events a subject's AUC is better than luck."""
    known = [one for one in luck.values() if one["p_value"] is not None]
    better = sum(one["auc"] > 0.5 and one["p_value"] <= ALPHA / len(luck) for one in known)
    return f"{better}/{len(luck)}" if known else "-"


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
