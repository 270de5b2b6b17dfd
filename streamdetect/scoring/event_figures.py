"""Figures of the scores by event, what a live user lives with: events found, false alarms and lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamdetect.scoring.figures import BLUE, SKY, VERMILION
from streamdetect.scoring.metrics import Outcome, match_outcome
from streamdetect.scoring.operating import OperatingCurve
from streamdetect.settings import DecisionSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RATES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)  # ticks, false alarms a minute
_LINEAR_TO = 0.1  # false alarms a minute; below it the axis is linear, so that it reaches 0
_REACH = 20.0  # the axis goes this far at least: what lies beyond no one would use


def operating_figure(
    curve: OperatingCurve,
    scores: Mapping[str, Any],
    event: str,
    rule: DecisionSettings,
    sfreq: float,
    max_false_alarms_per_min: float | None = None,
) -> Figure:
    """Draw event recall and lag against false alarms a minute, with the chosen point and the limit asked for.

    Parameters
    ----------
    curve : OperatingCurve
        From `operating_curve`, for the dwell and refractory time of ``rule``.
    scores : mapping
        The event's scores: what the chosen rule gives.
    event : str
        For the title.
    rule : DecisionSettings
        The chosen threshold, dwell and refractory time.
    sfreq : float
        Sampling rate in Hz.
    max_false_alarms_per_min : float, optional
        The limit that the rule was chosen for.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6.2), layout="constrained")
    recall, lag = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    look = {"color": BLUE, "marker": ".", "linewidth": 1.2, "label": "other thresholds"}
    recall.plot(curve.false_alarms_per_min, curve.event_recall, **look)
    lag.plot(curve.false_alarms_per_min, curve.lag_s, **look)
    rate, found, median = scores["false_alarms_per_min"], scores["event_recall"], scores["lag_s"]["median"]
    if found is not None and rate is not None:
        label = f"chosen threshold {rule.threshold:.3g}:\n{found:.0%} of events, {rate:.2g} false alarms/min"
        _mark_chosen(recall, rate, found, label)
        if median is not None:
            _mark_chosen(lag, rate, median, f"median {median:.2f} s")
    for axis in (recall, lag):
        if max_false_alarms_per_min is not None:
            label = f"limit asked for: {max_false_alarms_per_min:g}/min"
            axis.axvline(max_false_alarms_per_min, color="black", linestyle="--", linewidth=1.2, label=label)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    _scale_rates(lag, max(_REACH, 1.5 * (rate or 0.0), 1.5 * (max_false_alarms_per_min or 0.0)))
    recall.set(ylim=(-0.02, 1.04), ylabel="part of the events found")
    lag.set(xlabel="false alarms per minute of valid signal", ylabel="median lag (s)")
    recall.legend(fontsize=9, loc="best")
    if lag.get_legend_handles_labels()[1] and median is not None:
        lag.legend(handles=[line for line in lag.lines if "median" in str(line.get_label())], fontsize=9, loc="best")
    words = f"dwell {rule.dwell_samples / sfreq:.3g} s, refractory time {rule.refractory_samples / sfreq:.3g} s"
    recall.set_title(f"{event}: what each threshold would give\n{words}", fontsize=11)
    return figure


def lag_figure(outcomes: Sequence[Outcome], event: str) -> Figure:
    """Draw how long after the onset events are detected.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Decisions and detections.
    event : str
        Name of the event.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    lags = np.concatenate([match_outcome(each, event).lag_s for each in outcomes])
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    if len(lags):
        axis.hist(lags, bins=min(30, max(5, round(2 * np.sqrt(len(lags))))), color=SKY, edgecolor="white")
        median, late = np.median(lags), np.percentile(lags, 95)
        axis.axvline(median, color="black", linewidth=2, label=f"median {median:.2f} s")
        axis.axvline(late, color=VERMILION, linestyle="--", linewidth=2, label=f"95th percentile {late:.2f} s")
        axis.legend(fontsize=9)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axis.text(0.5, 0.5, "no event was detected", ha="center", va="center", transform=axis.transAxes)
    axis.set(xlabel="lag: detection minus onset (s)", ylabel="detected events")
    axis.set_title(f"{event}: {len(lags)} detected events", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _mark_chosen(axis: Axes, x: float, y: float, label: str) -> None:
    axis.plot([x], [y], "o", markersize=11, color=VERMILION, markeredgecolor="black", label=label, zorder=3)


def _scale_rates(axis: Axes, reach: float) -> None:
    """Give each rate that a person may choose between the same room, and 0 a place too."""
    axis.set_xscale("symlog", linthresh=_LINEAR_TO, linscale=0.3)
    axis.set_xlim(-0.02, 1.05 * reach)
    shown = [rate for rate in _RATES if rate <= reach]
    axis.set_xticks(shown, [f"{rate:g}" for rate in shown])
    axis.set_xticks([], minor=True)
