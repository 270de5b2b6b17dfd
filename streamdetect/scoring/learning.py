"""Figures of what a detector needs: how many minutes of calibration, which features, which members of the vote.

Each is a pure function from plain numbers to a matplotlib figure; what trains the models is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamdetect.errors import InputError
from streamdetect.scoring.figures import BLUE, SKY, VERMILION
from streamdetect.scoring.luck import Luck

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AucInterval = tuple[float | None, float | None, float | None]  # AUC, and the ends of its interval; None: undefined
N_COLUMNS = 3  # panels side by side
_CHANCE = 0.5


@dataclass(frozen=True)
class Needs:
    """Held-out scores of a training with less signal, fewer features and fewer members.

    Parameters
    ----------
    minutes : tuple of float
        Minutes of valid signal that a fold was trained on, the mean over folds; ascending.
    by_minutes : tuple of dict of str to Luck
        For each of these the AUC of each event with its interval; the last is the full training.
    left_out : tuple of (str, dict)
        What was left out, and the AUC of each event without it.
    """

    minutes: tuple[float, ...]
    by_minutes: tuple[dict[str, Luck], ...]
    left_out: tuple[tuple[str, dict[str, float | None]], ...]


def learning_figure(
    minutes: Sequence[float], scores: Mapping[str, Sequence[AucInterval]], *, protocol: str = ""
) -> Figure:
    """Draw the held-out AUC of each event against minutes of calibration.

    Parameters
    ----------
    minutes : sequence of float
        Minutes of signal that each training had, in any order.
    scores : mapping of str to sequence of (auc, low, high)
        For each event the AUC and its interval, one a training; None where undefined.
    protocol : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
        A panel an event: AUC as a line, its interval as a band.

    Raises
    ------
    InputError
        An event has not one score a training.
    """
    for event, each in scores.items():
        if len(each) != len(minutes):
            raise InputError(f"scores of {event}: expected {len(minutes)}, one a training, found {len(each)}")
    figure, panels = _panels(tuple(scores), height=3.0)
    order = np.argsort(minutes, kind="stable")
    x = np.array(minutes, dtype=np.float64)[order]
    values = {event: _as_array(scores[event])[order] for event in scores}
    low, high = _span([_CHANCE, *(number for each in values.values() for number in each.ravel().tolist())])
    for event, axis in panels:
        auc, lower, upper = values[event].T
        axis.fill_between(x, lower, upper, color=SKY, alpha=0.35, linewidth=0, label="interval")
        axis.plot(x, auc, "o-", color=BLUE, linewidth=1.8, markersize=5, label="AUC on held-out signal")
        axis.axhline(_CHANCE, color="0.6", linewidth=1, label="chance")
        axis.set(xlim=(0, 1.05 * x.max(initial=1.0)), ylim=(low, high), xlabel="minutes of calibration", ylabel="AUC")
        axis.grid(color="0.9")
    _finish(figure, f"More calibration, better score?{f' {protocol}' if protocol else ''}")
    return figure


def ablation_figure(
    rows: Sequence[tuple[str, Mapping[str, float | None]]],
    full: Mapping[str, AucInterval],
    *,
    protocol: str = "",
) -> Figure:
    """Draw the held-out AUC of each event with one part left out at a time.

    Parameters
    ----------
    rows : sequence of (str, mapping of str to float or None)
        What was left out, a feature block or a member of the vote, and the AUC of each event without it; from top to
        bottom.
    full : mapping of str to (auc, low, high)
        For each event the AUC of the full model and its interval; None where undefined.
    protocol : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
        A panel an event: the full model as a line with its interval as a band, and for each part a dot with the
        difference beside it; filled where the AUC falls out of the band.

    Notes
    -----
    The band says how far the AUC may be off on other recordings. Both models are scored on the same ones, so that a
    smaller difference may be real too.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = _panels(tuple(full), height=1.5 + 0.3 * len(rows))
    figures = [number for each in full.values() for number in each]
    low, high = _span([*figures, *(values.get(event) for _, values in rows for event in full)])
    places = np.arange(len(rows))
    for event, axis in panels:
        auc, lower, upper = _as_array([full[event]])[0]
        without = _as_column([values.get(event) for _, values in rows])
        if np.isfinite(lower):
            axis.axvspan(lower, upper, color=SKY, alpha=0.35, linewidth=0, label="interval of the full model")
        if np.isfinite(auc):
            axis.axvline(auc, color=BLUE, linewidth=1.8, label="full model")
            axis.set_title(f"{event}, full model {auc:.3f}", fontsize=10)
            axis.hlines(places, auc, without, color="0.5", linewidth=1)
        outside = (without < lower) | (without > upper)
        kinds = ((~outside, "white", "without it"), (outside, VERMILION, "so, outside the interval"))
        for chosen, face, label in kinds:
            if chosen.any():
                look: dict[str, Any] = {"color": VERMILION, "markerfacecolor": face, "markersize": 6}
                axis.plot(without[chosen], places[chosen], "o", label=label, **look)
        for place, change in enumerate((without - auc).tolist()):
            text = f"{change:+.3f}".replace("-0.000", "+0.000") if np.isfinite(change) else "-"
            axis.text(1.02, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
        if low <= _CHANCE <= high:
            axis.axvline(_CHANCE, color="0.6", linewidth=1, linestyle=":", label="chance")
        axis.set(xlim=(low, high), ylim=(max(1, len(rows)) - 0.5, -0.5), xlabel="AUC")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_yticks(places, [name for name, _ in rows])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="0.9")
    _finish(figure, f"What is lost when a part is left out{f': {protocol}' if protocol else ''}")
    return figure


def _panels(events: Sequence[str], height: float) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """Return a figure and a panel an event, in rows of `N_COLUMNS`, labelled where they stand at the edge."""
    from matplotlib.figure import Figure

    n_columns = min(N_COLUMNS, max(1, len(events)))
    n_rows = -(-max(1, len(events)) // n_columns)
    figure = Figure(figsize=(max(7.0, 2.2 + 3.2 * n_columns), 0.9 + height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis in axes[len(events) :]:
        axis.remove()
    for place, axis in enumerate(axes[: len(events)]):
        axis.set_title(events[place], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.label_outer()
        if place + n_columns >= len(events):  # nothing below
            axis.tick_params(labelbottom=True)
    return figure, zip(events, axes, strict=False)


def _finish(figure: Figure, title: str) -> None:
    """Label panels at the edge only, and put a title above and one legend below."""
    figure.suptitle(title, fontsize=11)
    n_columns = min(N_COLUMNS, max(1, len(figure.axes)))
    handles: dict[str, Any] = {}
    for place, axis in enumerate(figure.axes):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        if place % n_columns:
            axis.set_ylabel("")
        if place + n_columns < len(figure.axes):
            axis.set_xlabel("")
    if handles:
        look: dict[str, Any] = {"ncols": 4, "fontsize": 9, "frameon": False}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", **look)


def _as_array(values: Sequence[AucInterval]) -> np.ndarray:
    """Return (auc, low, high) as rows, undefined as NaN, shape (n, 3)."""
    return np.array([_as_column(row) for row in values], dtype=np.float64).reshape(-1, 3)


def _as_column(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _span(values: Sequence[float | None]) -> tuple[float, float]:
    """Return limits around the defined values, with some room."""
    finite = [value for value in values if value is not None and np.isfinite(value)] or [_CHANCE, 1.0]
    room = max(0.01, 0.06 * (max(finite) - min(finite)))
    return max(0.0, min(finite) - room), min(1.0, max(finite)) + room
