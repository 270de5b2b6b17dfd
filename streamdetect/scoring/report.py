"""The report: one HTML file with everything a lab needs to judge a model, and nothing to fetch from a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from streamdetect.scoring.event_figures import lag_figure, operating_figure
from streamdetect.scoring.figures import Excerpt, confusion_figure, excerpt_figure, reliability_figure, roc_figure
from streamdetect.scoring.learning import Needs, ablation_figure, learning_figure
from streamdetect.scoring.luck import Luck
from streamdetect.scoring.metrics import Outcome, pool
from streamdetect.scoring.operating import FALSE_ALARM_LIMITS, OperatingCurve, operating_curve, operating_points
from streamdetect.scoring.page import figure_html, save_page, table_html
from streamdetect.scoring.scalp import scalp_figure
from streamdetect.scoring.tables import (
    LUCK_CAPTION,
    RANDOM_SPLIT_WARNING,
    Controls,
    is_random_split,
    list_warnings,
    luck_rows,
    score_rows,
)
from streamdetect.stages.metadata import ModelMetadata

_TABLE_CAPTION = (
    "AUC: how well the probability ranks moments inside the event above moments outside (0.5 is chance, 1 is perfect), "
    "of the vote and of each member. Window recall and false positives: by single windows at the threshold. Events "
    "found, false alarms (FA) per minute and lag: what a live user would see, dwell and refractory time included; a "
    "detection belongs to an event from 0.15 s before its onset to its end, at least 1 s. <i>Clock alone</i> knows "
    "only the time since the start of the recording; <i>random phases</i> is the same training on EEG without its "
    "timing and must score 0.45 to 0.55. A dash: undefined."
)
_EXCERPT_CAPTION = (
    "Raw signal, each channel without its median, one scale for all (bar). Blue: what the recording says happened. "
    "Vermilion: detections, stamped when the threshold had been held for the dwell time. Below: the probability that "
    "the vote gives each event, and the threshold."
)
_CONFUSION_CAPTION = "Valid windows by what was observed and what was decided at the threshold; per cent of each row."
_ROC_CAPTION = (
    "Left: part of the event's windows found against part of the other windows wrongly taken for it, as the threshold "
    "falls. Right: how many of the windows above the threshold are right. With rare events the right one is stricter."
)
_OPERATING_CAPTION = (
    "Each dot is a threshold, at the model's dwell and refractory time; the axis is logarithmic above 0.1. Above, left "
    "and up is better; below, left and down. The large dot is what the model's threshold gives. It may lie beside the "
    "line where the rule was chosen anew in each fold."
)
_POINTS_CAPTION = (
    "The threshold that finds most events at each limit on false alarms per minute, and what it gives. Each is the "
    "best on these very decisions: expect a little less on a new recording. A dash: no threshold keeps the limit, or "
    "nothing is found."
)
_RELIABILITY_CAPTION = (
    "Above: windows in bins of equal count by the probability that the vote gives them, and how often the event was "
    "going on in each. On the line a probability means what it says; below it, the vote promises too much. Calibration "
    "error: the mean distance from the line. Brier score: mean squared error, to be compared with that of always "
    "giving the event's overall rate. Below: windows at each probability."
)
_LAG_CAPTION = "How long after its onset each found event was detected; negative: before it, at most 0.15 s."
_LEARNING_CAPTION = (
    "The same training on the first part of each fold's signal, as a shorter session would have given it. Where the "
    "line still rises, more calibration helps."
)
_ABLATION_CAPTION = (
    "The same training without one part of the features, and the vote without one member. Left of the line: the part "
    "helps. What lies inside the band may be chance."
)
_SCALP_CAPTION = (
    "Patterns of the linear members (Haufe et al. 2014, doi:10.1016/j.neuroimage.2013.10.067) show what changes "
    "with the event; the forest's importance shows where it looks, and has no sign. Maps interpolate between "
    "the channels (dots)."
)


def write_report(
    path: str | Path,
    *,
    title: str,
    scores: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    metadata: ModelMetadata,
    controls: Controls | None = None,
    excerpt: Excerpt | None = None,
    curves: Mapping[str, OperatingCurve] | None = None,
    random_split: Mapping[str, Any] | None = None,
    max_false_alarms_per_min: float | None = None,
    luck: Mapping[str, Luck] | None = None,
    needs: Needs | None = None,
) -> Path:
    """Write scores, figures, settings and provenance as one HTML file.

    Parameters
    ----------
    path : str or Path
        The ``.html`` file; it is replaced whole or not at all.
    title : str
        Heading.
    scores : mapping
        As `score` returns them, with ``protocol``.
    outcomes : sequence of Outcome
        The decisions that were scored.
    metadata : ModelMetadata
        The model's settings, patterns and provenance.
    controls : mapping, optional
        AUC of each event for ``clock`` and ``phase_randomised``.
    excerpt : Excerpt, optional
        A stretch of signal to show, from `cut_excerpt`.
    curves : mapping of str to OperatingCurve, optional
        For each event; computed where missing.
    random_split : mapping, optional
        Scores of the random-split protocol, shown last and under their warning.
    max_false_alarms_per_min : float, optional
        The limit that the thresholds were chosen for, marked in the operating curve.
    luck : mapping of str to Luck, optional
        For each event whether it is better than luck.
    needs : Needs, optional
        What the training would score with less of everything.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    import mne

    protocol = str(scores.get("protocol", "protocol not stated"))
    settings = dict(zip(metadata.event_names, metadata.decisions, strict=True))
    thresholds = {name: each.threshold for name, each in settings.items()}
    report = mne.Report(title=title, verbose="error")
    report.add_html(
        _warnings_html(list_warnings(scores, controls, luck)) + _scores_html(scores, controls) + _luck_html(luck),
        "Scores",
        tags=("scores",),
    )
    if excerpt is not None:
        drawn = figure_html(excerpt_figure(excerpt, thresholds), _EXCERPT_CAPTION)
        report.add_html(drawn, "Signal and detections", tags=("signal",))
    caution = _warnings_html([RANDOM_SPLIT_WARNING]) if is_random_split(scores) else ""
    for name, found in scores["events"].items():
        html = figure_html(confusion_figure(found["confusion"], name, protocol), _CONFUSION_CAPTION)
        pooled = pool(outcomes, name)
        html += figure_html(roc_figure(pooled, name, protocol), _ROC_CAPTION)
        html += figure_html(reliability_figure(pooled, name, protocol), _RELIABILITY_CAPTION)
        if found["event_recall"] is not None:
            curve = (curves or {}).get(name) or operating_curve(outcomes, name, settings[name])
            figure = operating_figure(curve, found, name, settings[name], metadata.sfreq, max_false_alarms_per_min)
            html += figure_html(figure, _OPERATING_CAPTION) + _points_html(curve, max_false_alarms_per_min)
            html += figure_html(lag_figure(outcomes, name), _LAG_CAPTION)
        report.add_html(caution + html, f"Event: {name}", tags=("scores", "event"))
    if needs is not None:
        report.add_html(_needs_html(needs, protocol), "What the training needs", tags=("scores",))
    if metadata.patterns:
        drawn = figure_html(scalp_figure(metadata), _SCALP_CAPTION)
        report.add_html(drawn, "What the model looks at", tags=("model",))
    report.add_html(_settings_html(metadata), "Settings", tags=("model",))
    report.add_html(_provenance_html(metadata), "Provenance", tags=("model",))
    if random_split is not None:
        words = str(random_split.get("protocol", "random-split"))
        html = _warnings_html(list_warnings(random_split)) + _scores_html(random_split, None)
        for name, found in random_split["events"].items():
            html += figure_html(confusion_figure(found["confusion"], name, words), _CONFUSION_CAPTION)
        report.add_html(html, "Random split, as in 2019", tags=("random-split",))
    return save_page(report, path)


def _warnings_html(warnings: Sequence[str]) -> str:
    return "".join(
        f'<div style="border-left: 6px solid #D55E00; background: #fdf0e6; padding: 0.6em 1em; margin: 0 0 1em 0; '
        f'text-align: left"><b>{escape(line)}</b></div>'
        for line in warnings
    )


def _scores_html(scores: Mapping[str, Any], controls: Controls | None) -> str:
    heading, rows = score_rows(scores, controls)
    summary = (
        f"Protocol: <b>{escape(str(scores.get('protocol', 'not stated')))}</b>. {scores['n_windows']:,} valid windows, "
        f"{scores['n_invalid']:,} invalid ones left out; {scores['seconds'] / 60:.1f} minutes of valid signal."
    )
    return f"<p>{summary}</p>{table_html(heading, rows)}<p>{_TABLE_CAPTION}</p>"


def _points_html(curve: OperatingCurve, asked: float | None) -> str:
    heading = ["false alarms/min\nat most", "threshold", "events\nfound", "false\nalarms/min", "median\nlag (s)"]
    return f"{table_html(heading, describe_points(curve, asked))}<p>{_POINTS_CAPTION}</p>"


def _luck_html(luck: Mapping[str, Luck] | None) -> str:
    return table_html(*luck_rows(luck)) + f"<p>{LUCK_CAPTION}</p>" if luck else ""


def _needs_html(needs: Needs, protocol: str) -> str:
    intervals = {
        name: [(each[name].auc, each[name].low, each[name].high) for each in needs.by_minutes]
        for name in needs.by_minutes[-1]
    }
    protocol = protocol.partition(";")[0]  # no decision rule takes part
    learning = learning_figure(needs.minutes, intervals, protocol=protocol)
    full = {name: each[-1] for name, each in intervals.items()}
    ablation = ablation_figure(needs.left_out, full, protocol=protocol)
    return figure_html(learning, _LEARNING_CAPTION) + figure_html(ablation, _ABLATION_CAPTION)


def _settings_html(metadata: ModelMetadata) -> str:
    return table_html(["setting", "value"], describe_settings(metadata)) + table_html(
        ["event", "annotations", "threshold", "dwell", "refractory"], describe_events(metadata)
    )


def _provenance_html(metadata: ModelMetadata) -> str:
    training = metadata.training
    rows = [[each.name, f"{each.n_windows}", each.sha256] for each in training.recordings]
    facts = [
        ["model", metadata.name],
        ["made", metadata.created],
        ["command", training.command or "-"],
        ["seed", str(training.seed)],
        *([name, version] for name, version in training.versions.items()),
    ]
    return table_html(["training recording", "windows", "SHA-256"], rows) + table_html(["", ""], facts)


def describe_settings(metadata: ModelMetadata) -> list[list[str]]:
    """Return a model's settings as rows of a name and words.

    Parameters
    ----------
    metadata : ModelMetadata
        The document in the model file.

    Returns
    -------
    list of list of str
    """
    features, sfreq = metadata.features, metadata.sfreq
    normaliser = features.normaliser
    return [
        ["sampling rate", f"{sfreq:g} Hz"],
        ["channels", f"{len(metadata.ch_names)}: {' '.join(metadata.ch_names)}"],
        ["features", f"{features.name}: {len(metadata.feature_names)} in all"],
        *(
            ["block", f"{block.description}; window {describe_samples(block.window_samples, sfreq)}"]
            for block in features.blocks
        ),
        ["normaliser", f"time constant {normaliser.time_constant_s:g} s" if normaliser else "-"],
        ["hop", describe_samples(features.hop_samples, sfreq)],
        ["longest gap", describe_samples(metadata.health.max_gap_samples, sfreq)],
        ["members of the vote", " ".join(metadata.members) or "-"],
    ]


def describe_events(metadata: ModelMetadata) -> list[list[str]]:
    """Return a model's events as rows: name, annotations, threshold, dwell and refractory time.

    Parameters
    ----------
    metadata : ModelMetadata
        The document in the model file.

    Returns
    -------
    list of list of str
    """
    return [
        [
            event.name,
            ", ".join(event.descriptions),
            f"{each.threshold:.4g}",
            f"{each.dwell_samples / metadata.sfreq:.3g} s",
            f"{each.refractory_samples / metadata.sfreq:.3g} s",
        ]
        for event, each in zip(metadata.events, metadata.decisions, strict=True)
    ]


def describe_points(curve: OperatingCurve, asked: float | None = None) -> list[list[str]]:
    """Return operating points as rows: limit on false alarms, threshold, events found, false alarms and lag.

    Parameters
    ----------
    curve : OperatingCurve
        From `operating_curve`.
    asked : float, optional
        A limit on false alarms a minute that stands among the others, and is marked.

    Returns
    -------
    list of list of str
        One a limit, ascending; a dash for what is undefined.
    """
    rows = []
    for limit in sorted({*FALSE_ALARM_LIMITS, *([] if asked is None else [asked])}):
        label = f"{limit:g} (asked for)" if limit == asked else f"{limit:g}"
        points = operating_points(curve, [limit])
        if not points:
            rows.append([label, "-", "-", "-", "-"])
        for point in points:
            recall = "-" if math.isnan(point.event_recall) else f"{point.event_recall:.0%}"
            lag = "-" if math.isnan(point.lag_s) else f"{point.lag_s:.2f}"
            rows.append([label, f"{point.threshold:.4g}", recall, f"{point.false_alarms_per_min:.2f}", lag])
    return rows


def describe_samples(n_samples: int, sfreq: float) -> str:
    """Return a duration in samples and in s.

    Examples
    --------
    >>> describe_samples(10, 500.0)
    '10 samples (0.02 s)'
    """
    return f"{n_samples} sample{'' if n_samples == 1 else 's'} ({n_samples / sfreq:.4g} s)"
