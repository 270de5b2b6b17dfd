"""What each threshold would give a live user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamdetect.scoring.metrics import (
    Outcome,
    column_of,
    match_detections,
    pool,
    scorable_events,
    valid_seconds,
)
from streamdetect.settings import DecisionSettings
from streamdetect.stages.decision import find_detections

N_THRESHOLDS = 100  # candidates of a sweep; over 140,000 decisions they take one to two seconds
FALSE_ALARM_LIMITS = (0.2, 0.5, 1.0, 2.0, 5.0)  # a minute: from one in five minutes to more than most people bear


class OperatingCurve(NamedTuple):
    """What each threshold would give a live user; all arrays have the shape (n_thresholds,).

    Parameters
    ----------
    thresholds : ndarray of float64
        Ascending.
    event_recall : ndarray of float64
        Part of the events that are matched, 0 to 1; NaN where there is no event in valid signal.
    false_alarms_per_min : ndarray of float64
        Unmatched detections a minute of valid signal.
    lag_s : ndarray of float64
        Median of detection minus onset, in s; NaN where nothing matches.
    """

    thresholds: NDArray[np.float64]
    event_recall: NDArray[np.float64]
    false_alarms_per_min: NDArray[np.float64]
    lag_s: NDArray[np.float64]


def operating_curve(
    outcomes: Sequence[Outcome],
    event: str,
    settings: DecisionSettings,
    thresholds: ArrayLike | None = None,
) -> OperatingCurve:
    """Say what each threshold would give: event recall, false alarms a minute and lag.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one; detections are made anew from the probabilities for each threshold.
    event : str
        Name of the event.
    settings : DecisionSettings
        Dwell and refractory time; its threshold is not used.
    thresholds : array of float, optional
        Thresholds to try; `candidate_thresholds` of the pooled probabilities by default.

    Returns
    -------
    OperatingCurve
    """
    column = column_of(outcomes, event)
    if thresholds is None:
        thresholds = candidate_thresholds(pool(outcomes, event).probability)
    thresholds = np.sort(np.asarray(thresholds, dtype=np.float64))
    minutes = valid_seconds(outcomes) / 60
    scorable = [scorable_events(each, event) for each in outcomes]
    n_events = sum(map(len, scorable))
    recall, rate, lag = (np.full(len(thresholds), np.nan) for _ in range(3))
    for index, threshold in enumerate(thresholds):
        tried = replace(settings, threshold=float(threshold))
        matchings = [
            match_detections(_detection_times(each, column, tried), events)
            for each, events in zip(outcomes, scorable, strict=True)
        ]
        lags = np.concatenate([matching.lag_s for matching in matchings])
        if n_events:
            recall[index] = len(lags) / n_events
        if minutes:
            rate[index] = sum(matching.n_false_alarms for matching in matchings) / minutes
        if len(lags):
            lag[index] = np.median(lags)
    return OperatingCurve(thresholds, recall, rate, lag)


def candidate_thresholds(probability: ArrayLike, n_thresholds: int = N_THRESHOLDS) -> NDArray[np.float64]:
    """Return thresholds worth trying: quantiles of the probability, denser towards the top.

    Parameters
    ----------
    probability : array of float, shape (n,)
        Valid probabilities, 0 to 1; at least one.
    n_thresholds : int
        At most so many, at least 2.

    Returns
    -------
    ndarray of float64
        Ascending and different; the last lies above every probability (at 1 where the highest probability is 1).
        Each lies half-way between two neighbouring probabilities, not on one, so that rounding elsewhere flips
        nothing, and is exact in float32, the type that probabilities are compared in.

    Examples
    --------
    >>> candidate_thresholds([0.25, 0.5, 0.5, 0.75]).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    values = np.unique(np.asarray(probability, dtype=np.float32))
    ordered = np.sort(np.asarray(probability, dtype=np.float32))
    # Of n probabilities, those above a candidate run geometrically from the highest one to all of them.
    n_above = np.unique(np.round(np.geomspace(1, len(ordered), n_thresholds - 1)).astype(np.int64))
    upper = np.searchsorted(values, ordered[len(ordered) - n_above])
    padded = np.concatenate([[0.0], values.astype(np.float64)])
    between = ((padded[upper] + padded[upper + 1]) / 2).astype(np.float32)
    silent = max(np.float32((padded[-1] + 1) / 2), np.nextafter(values[-1], np.float32(2)))
    return np.unique(np.append(between, min(silent, np.float32(1)))).astype(np.float64)


class OperatingPoint(NamedTuple):
    """The threshold that a limit on false alarms allows, and what it gives.

    Parameters
    ----------
    limit_per_min : float
        False alarms a minute of valid signal that are accepted.
    threshold : float
        0 to 1.
    event_recall : float
        Part of the events that are matched, 0 to 1; NaN where there is no event in valid signal.
    false_alarms_per_min : float
        What the threshold costs, at most the limit.
    lag_s : float
        Median of detection minus onset, in s; NaN where nothing matches.
    """

    limit_per_min: float
    threshold: float
    event_recall: float
    false_alarms_per_min: float
    lag_s: float


def operating_points(
    curve: OperatingCurve, limits_per_min: Sequence[float] = FALSE_ALARM_LIMITS
) -> tuple[OperatingPoint, ...]:
    """Return the best that each limit on false alarms allows, for a person to choose from.

    Parameters
    ----------
    curve : OperatingCurve
        From `operating_curve`.
    limits_per_min : sequence of float
        False alarms a minute of valid signal.

    Returns
    -------
    tuple of OperatingPoint
        In the order of the limits, none for a limit that no threshold keeps. Of equal event recalls the threshold with
        fewer false alarms, then the shorter lag, then the higher one, as `decision_rules.choose_decision` chooses.

    Examples
    --------
    >>> curve = OperatingCurve(*np.array([[0.2, 0.5, 0.8], [1.0, 0.8, 0.5], [9.0, 1.5, 0.4], [0.1, 0.2, 0.3]]))
    >>> [(point.limit_per_min, point.threshold) for point in operating_points(curve, [0.1, 0.5, 1.0, 2.0])]
    [(0.5, 0.8), (1.0, 0.8), (2.0, 0.5)]
    """
    recall = np.nan_to_num(curve.event_recall, nan=0.0)
    lag = np.nan_to_num(curve.lag_s, nan=np.inf)
    by_merit = np.lexsort((-curve.thresholds, lag, curve.false_alarms_per_min, -recall))
    points = []
    for limit in limits_per_min:
        acceptable = by_merit[curve.false_alarms_per_min[by_merit] <= limit]
        if len(acceptable):
            points.append(OperatingPoint(float(limit), *(float(each[acceptable[0]]) for each in curve)))
    return tuple(points)


def _detection_times(outcome: Outcome, column: int, settings: DecisionSettings) -> NDArray[np.float64]:
    indices, _ = find_detections(outcome.decisions.samples, is_above(outcome, column, settings.threshold), settings)
    return outcome.decisions.times[indices]


def is_above(outcome: Outcome, column: int, threshold: float) -> NDArray[np.bool_]:
    """Say of each decision whether it is valid and its probability at or above a threshold, shape (n,)."""
    decisions = outcome.decisions
    return decisions.valid & (decisions.probability[:, column] >= np.float32(threshold))
