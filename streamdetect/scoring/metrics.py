"""Scores of decisions against what really happened: by decision, and as a live user lives with them.

Two levels. *By decision*: the area under the receiver operating characteristic (AUC) and the confusion matrix, over
valid decisions, without dwell. *By event*: detections, matched with events, give the event recall, false alarms a
minute and the lag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from streamdetect.decisions import Decisions
from streamdetect.errors import EventError
from streamdetect.events import POINT_HALF_WIDTH_S, Annotation, label_times

EARLY_S = POINT_HALF_WIDTH_S  # a detection may come this much before the onset and still match
MATCH_S = 1.0  # and until the event's end, or this long after the onset where the event is shorter

_TIME_TOLERANCE_S = 1e-9  # far below one sample, far above the rounding of a time in seconds


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a detector decided on one recording, with the truth beside it.

    Parameters
    ----------
    name : str
        The recording's name.
    decisions : Decisions
        All decisions and detections; their times are s after the recording's first sample.
    events : dict of str to tuple of Annotation
        The occurrences of each event.
    hop_s : float
        Seconds of signal that one decision stands for.
    """

    name: str
    decisions: Decisions
    events: dict[str, tuple[Annotation, ...]]
    hop_s: float


class Matching(NamedTuple):
    """How detections and events belong together.

    Parameters
    ----------
    event_index : ndarray of int64, shape (n_detections,)
        Index of the event that each detection matches; -1 for none.
    is_extra : ndarray of bool, shape (n_detections,)
        True for a further detection of an event that is matched already: neither a match nor a false alarm.
    lag_s : ndarray of float64, shape (n_matched,)
        Detection minus onset of each match, in s, in the order of the detections.
    """

    event_index: NDArray[np.int64]
    is_extra: NDArray[np.bool_]
    lag_s: NDArray[np.float64]

    @property
    def n_matched(self) -> int:
        """Number of matched events."""
        return len(self.lag_s)

    @property
    def n_false_alarms(self) -> int:
        """Number of detections outside the match window of every event."""
        return int(np.count_nonzero((self.event_index < 0) & ~self.is_extra))


class Pool(NamedTuple):
    """The valid decisions of several recordings about one event, one after another.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,)
        Whether the event was going on.
    probability : ndarray of float32, shape (n,)
        The vote.
    members : dict of str to ndarray of float32, shape (n,)
        Each member of the vote.
    """

    labels: NDArray[np.bool_]
    probability: NDArray[np.float32]
    members: dict[str, NDArray[np.float32]]


def area_under_roc(labels: ArrayLike, probability: ArrayLike) -> float | None:
    """Return the area under the receiver operating characteristic.

    Parameters
    ----------
    labels : array of bool, shape (n,)
        Whether the event was going on.
    probability : array of float, shape (n,)
        Any score that is higher where the event is likelier.

    Returns
    -------
    float or None
        0 to 1; None where one of the two classes is missing.

    Notes
    -----
    It is the probability that a decision within an event ranks above one outside, a tie counting half: the
    Mann-Whitney U divided by the number of pairs, from mean ranks.

    Examples
    --------
    >>> area_under_roc([False, True, False, True], [0.1, 0.9, 0.5, 0.5])
    0.875
    """
    labels = np.asarray(labels, dtype=bool)
    n_true = int(np.count_nonzero(labels))
    n_false = len(labels) - n_true
    if n_true == 0 or n_false == 0:
        return None
    ranks = rankdata(probability)
    return float((ranks[labels].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def match_detections(detection_times: ArrayLike, events: Sequence[Annotation]) -> Matching:
    """Match the detections of one recording with its events.

    A detection matches an event from 0.15 s before its onset to its end, or to 1 s after the onset where the event is
    shorter. Where windows of neighbouring events overlap, it matches the earliest of them that is still unmatched.

    Parameters
    ----------
    detection_times : array of float, shape (n_detections,)
        Ascending, in s after the recording's first sample.
    events : sequence of Annotation
        The event's occurrences.

    Returns
    -------
    Matching

    Examples
    --------
    >>> match_detections([0.9, 1.4, 7.0], [Annotation(1.0, 0.0, "HandStart")])
    Matching(event_index=array([ 0, -1, -1]), is_extra=array([False,  True, False]), lag_s=array([-0.1]))
    """
    times = np.asarray(detection_times, dtype=np.float64)
    onsets = np.array([event.onset for event in events], dtype=np.float64)
    order = np.argsort(onsets, kind="stable")
    starts, ends = _match_windows([events[index] for index in order])
    # Events that may hold a detection: from the first that has not surely ended to the last that has begun.
    first = np.searchsorted(np.maximum.accumulate(ends), times, side="left")
    stop = np.searchsorted(starts, times, side="right")

    event_index = np.full(len(times), -1, dtype=np.int64)
    is_extra = np.zeros(len(times), dtype=bool)
    is_matched = [False] * len(onsets)
    near = np.flatnonzero(first < stop)
    for detection, low, high in zip(near.tolist(), first[near].tolist(), stop[near].tolist(), strict=True):
        for event in range(low, high):
            if ends[event] < times[detection]:
                continue
            if not is_matched[event]:
                is_matched[event] = True
                event_index[detection] = order[event]
                is_extra[detection] = False
                break
            is_extra[detection] = True
    hit = event_index >= 0
    return Matching(event_index, is_extra, times[hit] - onsets[event_index[hit]])


def in_match_window(times: ArrayLike, events: Sequence[Annotation]) -> NDArray[np.bool_]:
    """Say at which times a detection would belong to an event; at any other it is a false alarm.

    Parameters
    ----------
    times : array of float, shape (n,)
        In s after the recording's first sample.
    events : sequence of Annotation
        The event's occurrences.

    Returns
    -------
    ndarray of bool, shape (n,)

    Examples
    --------
    >>> in_match_window([0.8, 0.9, 2.0, 2.1], [Annotation(1.0, 0.0, "HandStart")]).tolist()
    [False, True, True, False]
    """
    starts, ends = _match_windows(events)
    n_begun = np.searchsorted(np.sort(starts), times, side="right")
    n_over = np.searchsorted(np.sort(ends), times, side="left")
    return n_begun > n_over


def match_outcome(outcome: Outcome, event: str) -> Matching:
    """Match the detections that a detector made on a recording with the occurrences of an event.

    Parameters
    ----------
    outcome : Outcome
        What the detector decided.
    event : str
        Name of the event.

    Returns
    -------
    Matching
        Over the events that have a valid decision in their match window, see `score`.
    """
    times = [detection.time for detection in outcome.decisions.detections if detection.event == event]
    return match_detections(times, scorable_events(outcome, event))


def pool(outcomes: Sequence[Outcome], event: str) -> Pool:
    """Join the valid decisions of several recordings about one event.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one.
    event : str
        Name of the event.

    Returns
    -------
    Pool
    """
    column = column_of(outcomes, event)
    labels = [label_times(each.decisions.times, each.events.get(event, ())) for each in outcomes]

    def join(arrays: Sequence[NDArray]) -> NDArray:
        return np.concatenate([array[each.decisions.valid] for each, array in zip(outcomes, arrays, strict=True)])

    members = {
        name: join([each.decisions.members[name][:, column] for each in outcomes])
        for name in outcomes[0].decisions.members
    }
    return Pool(join(labels), join([each.decisions.probability[:, column] for each in outcomes]), members)


def score(outcomes: Sequence[Outcome], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Score the decisions and detections of a detector on recordings that it was not trained on.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one; their `Decisions.detections` are taken as the detector made them.
    thresholds : mapping of str to float
        Threshold of each event, for the confusion matrix; a decision is positive where p ≥ threshold.

    Returns
    -------
    dict
        Ready for JSON: ``n_windows`` (valid decisions), ``n_invalid``, ``seconds`` of valid signal, ``events`` and
        ``mean``; the caller adds ``protocol``. Undefined figures are None.

    Notes
    -----
    AUC and confusion matrix pool the valid decisions of all recordings, as the Grasp-and-Lift challenge did: a
    recording whose probabilities lie higher than another's costs AUC, as it would cost a user with one threshold.

    An event counts only if at least one valid decision falls within its match window: where the signal was lost
    throughout, no detector could have found it. ``n_events`` are those that count, ``n_events_invalid`` the others. An
    event with any valid decision counts in full.

    ``mean`` is the mean over the events for which a figure is defined; its counts and confusion matrix are sums.

    Raises
    ------
    EventError
        If there is no outcome.
    """
    if not outcomes:
        raise EventError("nothing to score: expected at least one recording, found none")
    n_windows = sum(int(np.count_nonzero(each.decisions.valid)) for each in outcomes)
    seconds = valid_seconds(outcomes)
    events = {
        name: _score_event(outcomes, name, thresholds[name], seconds) for name in outcomes[0].decisions.event_names
    }
    return {
        "n_windows": n_windows,
        "n_invalid": sum(len(each.decisions) for each in outcomes) - n_windows,
        "seconds": seconds,
        "events": events,
        "mean": _mean_score(list(events.values())),
    }


def _score_event(outcomes: Sequence[Outcome], event: str, threshold: float, seconds: float) -> dict[str, Any]:
    pooled = pool(outcomes, event)
    above = pooled.probability >= np.float32(threshold)
    tp, fp = (int(np.count_nonzero(above & labels)) for labels in (pooled.labels, ~pooled.labels))
    fn, tn = int(pooled.labels.sum()) - tp, int((~pooled.labels).sum()) - fp

    n_events, n_invalid = map(sum, zip(*(_count_events(each, event) for each in outcomes), strict=True))
    matchings = [match_outcome(each, event) for each in outcomes]
    n_false_alarms = sum(matching.n_false_alarms for matching in matchings)
    lag_s = np.concatenate([matching.lag_s for matching in matchings])
    return {
        "auc": area_under_roc(pooled.labels, pooled.probability),
        "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        "recall": _ratio(tp, tp + fn),
        "false_positive_rate": _ratio(fp, fp + tn),
        "n_events": n_events,
        "n_events_invalid": n_invalid,
        "event_recall": _ratio(len(lag_s), n_events),
        "false_alarms_per_min": _ratio(60 * n_false_alarms, seconds),
        "lag_s": {
            "median": float(np.median(lag_s)) if len(lag_s) else None,
            "p95": float(np.percentile(lag_s, 95)) if len(lag_s) else None,
        },
        "members": {name: {"auc": area_under_roc(pooled.labels, each)} for name, each in pooled.members.items()},
    }


def _mean_score(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def mean(values: list[float | None]) -> float | None:
        defined = [value for value in values if value is not None]
        return float(np.mean(defined)) if defined else None

    names = ("auc", "recall", "false_positive_rate", "event_recall", "false_alarms_per_min")
    return {
        **{name: mean([each[name] for each in scores]) for name in names},
        "confusion": {cell: sum(each["confusion"][cell] for each in scores) for cell in ("tn", "fp", "fn", "tp")},
        **{name: sum(each[name] for each in scores) for name in ("n_events", "n_events_invalid")},
        "lag_s": {part: mean([each["lag_s"][part] for each in scores]) for part in ("median", "p95")},
        "members": {
            name: {"auc": mean([each["members"][name]["auc"] for each in scores])}
            for name in (scores[0]["members"] if scores else ())
        },
    }


def _match_windows(events: Sequence[Annotation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return first and last time at which a detection matches each event, both included."""
    onsets = np.array([event.onset for event in events], dtype=np.float64)
    durations = np.array([event.duration for event in events], dtype=np.float64)
    return onsets - EARLY_S - _TIME_TOLERANCE_S, onsets + np.maximum(durations, MATCH_S) + _TIME_TOLERANCE_S


def scorable_events(outcome: Outcome, event: str) -> list[Annotation]:
    """Return the events with a valid decision in their match window."""
    events = outcome.events.get(event, ())
    times = outcome.decisions.times[outcome.decisions.valid]
    starts, ends = _match_windows(events)
    is_seen = np.searchsorted(times, ends, side="right") > np.searchsorted(times, starts, side="left")
    return [each for each, seen in zip(events, is_seen, strict=True) if seen]


def _count_events(outcome: Outcome, event: str) -> tuple[int, int]:
    """Return the number of events that count, and of those that do not."""
    n_scorable = len(scorable_events(outcome, event))
    return n_scorable, len(outcome.events.get(event, ())) - n_scorable


def valid_seconds(outcomes: Sequence[Outcome]) -> float:
    """Return the seconds of signal that valid decisions stand for."""
    return float(sum(np.count_nonzero(each.decisions.valid) * each.hop_s for each in outcomes))


def column_of(outcomes: Sequence[Outcome], event: str) -> int:
    """Return the column of an event in the decisions' arrays; an `EventError` where there is none."""
    names = outcomes[0].decisions.event_names
    if event not in names:
        raise EventError(f"event: expected one of {', '.join(names)}, found '{event}'")
    return names.index(event)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
