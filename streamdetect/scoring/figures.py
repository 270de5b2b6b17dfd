"""Figures of the signal and of the scores by decision, each a pure function from data to a matplotlib figure.

Those of the scores by event are in `streamdetect.scoring.event_figures`.

Colours are those of Okabe and Ito, told apart by colour-blind readers too; lines also differ in dashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk
from streamdetect.events import Annotation
from streamdetect.scoring.calibration import reliability
from streamdetect.scoring.controls import RecordingLike
from streamdetect.scoring.metrics import Outcome, Pool, area_under_roc, match_outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
EXCERPT_S = 20.0
EXCERPT_CHANNELS = ("C3", "Cz", "C4")
N_EXCERPT_CHANNELS = 5
N_LINE_POINTS = 2000  # more cannot be seen
_MEMBER_STYLES = {"lda": ("LDA", BLUE, "--"), "rf": ("random forest", ORANGE, "-."), "lr": ("LR", GREEN, ":")}
_VOLTS_TO_MICROVOLTS = 1e6


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A few seconds of a few channels, with what was decided on the recording.

    Parameters
    ----------
    outcome : Outcome
        Decisions on the whole recording.
    ch_names : tuple of str
        Channels shown.
    times : ndarray, shape (n_times,), float64
        s after the recording's first sample.
    data : ndarray, shape (n_channels, n_times), float64
        Signal in volts.
    """

    outcome: Outcome
    ch_names: tuple[str, ...]
    times: NDArray[np.float64]
    data: NDArray[np.float64]


def cut_excerpt(recording: RecordingLike, outcome: Outcome, duration_s: float = EXCERPT_S) -> Excerpt:
    """Read the first stretch of a recording that shows what a detector does.

    Parameters
    ----------
    recording : RecordingLike
        The recording.
    outcome : Outcome
        Decisions on it.
    duration_s : float
        Length in s.

    Returns
    -------
    Excerpt
        From 4 s before the first detected event on (the first event, the first valid decision, where there is none);
        C3, Cz and C4 where recorded, and others up to five channels.
    """
    tmin = max(0.0, _find_start(outcome) - 4.0)
    ch_names = _choose_channels(recording.info.ch_names)
    held: list[Chunk] = []
    for chunk in recording.chunks(ch_names):
        if chunk.n_times and chunk.times[-1] >= tmin:
            held.append(chunk)
        if chunk.n_times and chunk.times[-1] >= tmin + duration_s:
            break
    times = np.concatenate([np.zeros(0), *(chunk.times for chunk in held)])
    data = np.concatenate([np.zeros((len(ch_names), 0)), *(chunk.data for chunk in held)], axis=1)
    inside = (times >= tmin) & (times < tmin + duration_s)
    return Excerpt(outcome, ch_names, times[inside], data[:, inside])


def excerpt_figure(excerpt: Excerpt, thresholds: Mapping[str, float]) -> Figure:
    """Draw the raw signal with observed events and detections, and the probability of each event below.

    Parameters
    ----------
    excerpt : Excerpt
        The stretch to draw; each channel is drawn without its median.
    thresholds : mapping of str to float
        Threshold of each event.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    decisions = excerpt.outcome.decisions
    names = decisions.event_names
    figure = Figure(figsize=(10, 1.2 + 0.7 * len(excerpt.ch_names) + 1.1 * len(names)), layout="constrained")
    ratios = [max(1.5, 0.7 * len(excerpt.ch_names)), *(1.0 for _ in names)]
    axes = figure.subplots(1 + len(names), 1, sharex=True, height_ratios=ratios)
    tmin, tmax = (float(excerpt.times[0]), float(excerpt.times[-1])) if len(excerpt.times) else (0.0, 1.0)
    _draw_signal(axes[0], excerpt)
    inside = (decisions.times >= tmin) & (decisions.times <= tmax)
    for column, (axis, name) in enumerate(zip(axes[1:], names, strict=True)):
        found = [each.time for each in decisions.detections if each.event == name and tmin <= each.time <= tmax]
        for shown in (axis, axes[0]):
            _shade_events(shown, excerpt.outcome.events.get(name, ()), tmin, tmax)
        axis.plot(decisions.times[inside], decisions.probability[inside, column], color="black", linewidth=1)
        axis.axhline(thresholds[name], color=VERMILION, linestyle="--", linewidth=1)
        axis.plot(found, [1.08] * len(found), "v", color=VERMILION, markersize=8, clip_on=False)
        axis.set(ylim=(0, 1.12), yticks=[0, 0.5, 1])
        axis.set_ylabel(f"{name}\nprobability", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        for time in found:
            axes[0].axvline(time, color=VERMILION, linewidth=1)
    axes[-1].set(xlim=(tmin, tmax), xlabel="time since the start of the recording (s)")
    axes[0].set_title(f"{excerpt.outcome.name}: signal, events and detections", fontsize=11, pad=26)
    _add_excerpt_legend(axes[0])
    return figure


def confusion_figure(confusion: Mapping[str, int], event: str, protocol: str) -> Figure:
    """Draw a confusion matrix with counts and the rates of each row.

    Parameters
    ----------
    confusion : mapping of str to int
        ``tn``, ``fp``, ``fn``, ``tp``.
    event, protocol : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    counts = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    totals = counts.sum(axis=1, keepdims=True)
    rates = counts / np.maximum(totals, 1)
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axis = figure.subplots()
    axis.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        rate = f"{rates[row, column]:.1%}" if totals[row, 0] else "-"
        color = "white" if rates[row, column] > 0.6 else "black"
        axis.text(column, row, f"{count}\n{rate}", ha="center", va="center", color=color, fontsize=12)
    axis.set(xticks=[0, 1], yticks=[0, 1], xlabel="decided", ylabel="observed")
    axis.set_xticklabels(["no event", event])
    axis.set_yticklabels(["no event", event], rotation=90, va="center")
    axis.tick_params(length=0)
    axis.set_title(f"{event}: windows\n{_wrap(protocol, 48)}", fontsize=10)
    return figure


def roc_figure(pooled: Pool, event: str, protocol: str) -> Figure:
    """Draw the receiver operating characteristic and precision against recall, of the vote and of each member.

    Parameters
    ----------
    pooled : Pool
        Valid decisions and labels.
    event, protocol : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    roc, precision = figure.subplots(1, 2)
    n_true = int(pooled.labels.sum())
    lines = [(*_MEMBER_STYLES.get(name, (name, PURPLE, "--")), each) for name, each in pooled.members.items()]
    lines.append(("vote", "black", "-", pooled.probability))
    for label, color, dashes, probability in lines:
        auc = area_under_roc(pooled.labels, probability)
        if auc is None:
            continue
        n_hits, n_above = _count_above(pooled.labels, probability)
        look = {"color": color, "linestyle": dashes, "linewidth": 2.2 if label == "vote" else 1.6}
        false_rate = (n_above - n_hits) / (len(pooled.labels) - n_true)
        roc.plot(np.append(0, false_rate), np.append(0, n_hits / n_true), label=f"{label}, AUC {auc:.3f}", **look)
        precision.plot(n_hits / n_true, n_hits / n_above, label=label, **look)
    roc.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance")
    precision.axhline(np.mean(pooled.labels) if len(pooled.labels) else 0, color="0.6", linewidth=1, label="chance")
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate (recall)", title="ROC")
    precision.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for axis in (roc, precision):
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axis.legend(fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{event}: windows - {_wrap(protocol, 90)}", fontsize=10)
    return figure


def reliability_figure(pooled: Pool, event: str, protocol: str) -> Figure:
    """Draw how often the event was going on where the vote gave it a certain probability.

    Parameters
    ----------
    pooled : Pool
        Valid decisions and labels.
    event, protocol : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
        Above, observed rate against predicted probability, on axes that reach as far as the bins do; below, how many
        decisions there are at each probability.
    """
    from matplotlib.figure import Figure

    found = reliability(pooled.labels, pooled.probability)
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    rates, counts = figure.subplots(2, 1, height_ratios=[3, 1])
    rates.set_title(f"{event}: reliability of the vote\n{_wrap(protocol, 60)}", fontsize=10)
    if len(found.counts):
        rates.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="as predicted")
        label = (
            f"calibration error {found.expected_calibration_error:.3f}\nBrier score {found.brier:.3f} "
            f"(base rate alone: {found.brier_of_base_rate:.3f})"
        )
        rates.plot(found.predicted, found.observed, "o-", color=BLUE, linewidth=1.6, markersize=6, label=label)
        rates.legend(fontsize=9, loc="upper left")
        reach = min(1.0, 1.25 * max(found.predicted.max(), found.observed.max(), 0.04))
        rates.set(xlim=(-0.02 * reach, 1.02 * reach), ylim=(-0.02 * reach, 1.02 * reach))
        bins = np.linspace(0, 1, 41)
        inside = (pooled.probability[~pooled.labels], pooled.probability[pooled.labels])
        counts.hist(inside, bins, histtype="step", color=["0.5", VERMILION], label=["no event", event], log=True)
        counts.legend(fontsize=9, loc="upper right")
    else:
        rates.text(0.5, 0.5, "no valid decision", ha="center", va="center", transform=rates.transAxes)
    rates.set(xlabel="predicted probability (mean of the bin)", ylabel="observed rate")
    counts.set(xlabel="predicted probability", ylabel="windows", xlim=(-0.01, 1.01))
    for axis in (rates, counts):
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _find_start(outcome: Outcome) -> float:
    """Return the onset of the first detected event, or the next best moment."""
    detected: list[float] = []
    for name in outcome.decisions.event_names:
        matching = match_outcome(outcome, name)
        times = [each.time for each in outcome.decisions.detections if each.event == name]
        hits = [time for time, index in zip(times, matching.event_index, strict=True) if index >= 0]
        detected += [hits[0] - float(matching.lag_s[0])] if hits else []
    onsets = [event.onset for events in outcome.events.values() for event in events]
    valid = outcome.decisions.times[outcome.decisions.valid]
    return min(detected or onsets or [float(valid[0]) if len(valid) else 0.0])


def _choose_channels(ch_names: Sequence[str]) -> tuple[str, ...]:
    wanted = [name.lower() for name in EXCERPT_CHANNELS]
    first = [name for name in ch_names if name.rstrip(".").lower() in wanted]
    others = [name for name in ch_names if name not in first]
    step = max(1, len(others) // max(1, N_EXCERPT_CHANNELS - len(first)))
    chosen = {*first, *others[::step][: N_EXCERPT_CHANNELS - len(first)]}
    return tuple(name for name in ch_names if name in chosen)


def _draw_signal(axis: Axes, excerpt: Excerpt) -> None:
    """Draw the channels below each other at one scale, with a bar in µV."""
    microvolts = np.where(np.isfinite(excerpt.data), excerpt.data * _VOLTS_TO_MICROVOLTS, np.nan)
    offsets = -np.arange(len(microvolts), dtype=np.float64)
    centred = np.array(
        [row - np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else row for row in microvolts]
    )
    finite = np.abs(centred[np.isfinite(centred)])
    spacing = max(2.5 * float(np.percentile(finite, 98)), 1e-6) if len(finite) else 1.0
    for row, offset in zip(centred, offsets, strict=True):
        axis.plot(excerpt.times, row / spacing + offset, color="0.25", linewidth=0.6)
    axis.set_yticks(offsets, excerpt.ch_names)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(offsets[-1] - 0.75, 0.75)
    axis.spines[["top", "right", "left"]].set_visible(False)
    bar = _round_down(0.8 * spacing)
    middle = (offsets[-1]) / 2
    line = axis.get_yaxis_transform()
    axis.plot([1.01, 1.01], [middle - bar / spacing / 2, middle + bar / spacing / 2], color="black", linewidth=3,
              transform=line, clip_on=False, solid_capstyle="butt")  # fmt: skip
    axis.text(1.02, middle, f"{bar:g} µV", transform=line, va="center", fontsize=9)


def _shade_events(axis: Axes, events: Sequence[Annotation], tmin: float, tmax: float) -> None:
    for event in events:
        start, end = event.onset, event.onset + event.duration
        if end < tmin or start > tmax:
            continue
        if event.duration > 0:
            axis.axvspan(max(start, tmin), min(end, tmax), color=SKY, alpha=0.35, linewidth=0)
        else:
            axis.axvline(start, color=BLUE, linewidth=2.5, alpha=0.8)


def _add_excerpt_legend(axis: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=BLUE, linewidth=4, alpha=0.6, label="observed event"),
        Line2D([], [], color=VERMILION, marker="v", linewidth=1, label="detection"),
        Line2D([], [], color=VERMILION, linestyle="--", linewidth=1, label="threshold"),
        Line2D([], [], color="black", linewidth=1, label="probability (vote)"),
    ]
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, fontsize=9, frameon=False)


def _count_above(labels: NDArray[np.bool_], probability: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for falling thresholds the true and all windows at or above, at no more points than can be seen."""
    order = np.argsort(-probability, kind="stable")
    n_hits = np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)  # ties count together
    if len(ends) > N_LINE_POINTS:
        ends = ends[np.unique(np.geomspace(1, len(ends), N_LINE_POINTS).astype(np.int64)) - 1]
    return n_hits[ends], ends + 1


def _round_down(value: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= value * (1 + 1e-9)))


def _wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
