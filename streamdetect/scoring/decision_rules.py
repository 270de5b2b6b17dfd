"""The choice of a decision rule: threshold, dwell and refractory time together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import EventError
from streamdetect.events import Annotation
from streamdetect.scoring.metrics import (
    Outcome,
    column_of,
    in_match_window,
    match_detections,
    pool,
    scorable_events,
    valid_seconds,
)
from streamdetect.scoring.operating import candidate_thresholds, is_above
from streamdetect.settings import DecisionSettings
from streamdetect.stages.decision import DwellState, find_detections

# From at once to what still leaves time in the second within which an event must be found; between them the step
# doubles, as what a dwell removes falls off with its length. 0.06 s is three decisions in a row at 20 ms.
DWELLS_S = (0.0, 0.06, 0.1, 0.2, 0.4)
# Around the second within which further detections of an event count for nothing. Shorter than half a second a burst
# becomes many alarms; longer than two, a person who moves again is not seen.
REFRACTORIES_S = (0.5, 1.0, 2.0)
_BLOCK = 4096  # decisions walked through before the false alarms are counted


def decision_candidates(
    sfreq: float, dwell_s: float | None = None, refractory_s: float | None = None
) -> tuple[DecisionSettings, ...]:
    """Return the dwell and refractory times that `choose_decision` may choose from.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    dwell_s, refractory_s : float, optional
        What a person has fixed, in s; it is not searched. `DWELLS_S` and `REFRACTORIES_S` by default.

    Returns
    -------
    tuple of DecisionSettings
        All different, shorter times first: they react sooner and are blind for less long, and so win a tie. The
        threshold stands for nothing.

    Examples
    --------
    >>> [(rule.dwell_samples, rule.refractory_samples) for rule in decision_candidates(500.0, dwell_s=0.1)]
    [(50, 250), (50, 500), (50, 1000)]
    >>> len(decision_candidates(500.0))
    15
    """
    dwells = DWELLS_S if dwell_s is None else (dwell_s,)
    refractories = REFRACTORIES_S if refractory_s is None else (refractory_s,)
    rules = (
        DecisionSettings(0.5, round(dwell * sfreq), round(refractory * sfreq))
        for dwell, refractory in product(dwells, refractories)
    )
    return tuple(dict.fromkeys(rules))  # at a low sampling rate two may be the same


def choose_decision(
    outcomes: Sequence[Outcome],
    event: str,
    candidates: Sequence[DecisionSettings],
    max_false_alarms_per_min: float,
) -> DecisionSettings:
    """Choose threshold, dwell and refractory time together: most events at an acceptable rate of false alarms.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Decisions on recordings held out from training; detections are made anew from the probabilities.
    event : str
        Name of the event.
    candidates : sequence of DecisionSettings
        Dwell and refractory times to choose from, at least one, such as `decision_candidates`; their thresholds are
        not used.
    max_false_alarms_per_min : float
        False alarms a minute of valid signal that a user accepts.

    Returns
    -------
    DecisionSettings
        Of all candidates, each at every one of `candidate_thresholds`, the one with the highest event recall; of equal
        ones that with fewer false alarms, then the shorter median lag, then the earlier candidate, then the higher
        threshold. Where none is acceptable, the first candidate at the highest threshold, at which nothing fires unless
        a probability is 1.

    Warnings
    --------
    What the chosen rule gives on these same outcomes flatters it: it is the best of 1,500 there. Score it on recordings
    that took no part in the choice: `streamdetect.training.protocols.cross_validate` chooses anew within each fold.

    Raises
    ------
    EventError
        If no event falls into valid signal.
    ValueError
        If there is no candidate.

    Notes
    -----
    Nothing is approximated, and three things keep it fast. The decisions above a threshold are picked out once for all
    candidates. Whether a detection would be a false alarm is known of each decision beforehand, so that a candidate is
    given up as soon as it has made too many. Only those that are not given up are matched with the events.
    """
    if not candidates:
        raise ValueError("candidates: expected at least one DecisionSettings, found none")
    column = column_of(outcomes, event)
    scorable = [scorable_events(each, event) for each in outcomes]
    if not any(scorable):
        raise EventError(
            f"event '{event}': expected at least one occurrence in valid signal to choose a threshold by, found none"
        )
    n_events = sum(map(len, scorable))
    n_allowed = _count_allowed(outcomes, max_false_alarms_per_min)
    is_false = [~in_match_window(each.decisions.times, events) for each, events in zip(outcomes, scorable, strict=True)]
    thresholds = candidate_thresholds(pool(outcomes, event).probability)
    chosen = replace(candidates[0], threshold=float(thresholds[-1]))
    best: tuple[float, ...] | None = None
    for threshold in thresholds[::-1].tolist():  # from the top: of equal merit the first stays
        recordings = [
            _Runs.pick(is_above(outcome, column, threshold), outcome, wrong, events)
            for outcome, wrong, events in zip(outcomes, is_false, scorable, strict=True)
        ]
        for rank, candidate in enumerate(candidates):
            found = _try_rule(recordings, candidate, n_allowed)
            if found is None:
                continue
            lag_s, n_false_alarms = found
            merit = (-len(lag_s), n_false_alarms, float(np.median(lag_s)) if len(lag_s) else np.inf, rank)
            if best is None or merit < best:
                best, chosen = merit, replace(candidate, threshold=threshold)
                if len(lag_s) == n_events:  # only fewer false alarms, or as few and sooner, can be better now
                    n_allowed = n_false_alarms
    return chosen


class _Runs(NamedTuple):
    """The decisions of one recording from which a threshold makes detections; each array has the shape (n_kept,).

    Parameters
    ----------
    samples, times, above : ndarray
        Of the decisions at or above the threshold, and of the first one below after each run of them.
    is_false : ndarray of bool
        Whether a detection there would be a false alarm.
    events : list of Annotation
        The events that count.
    """

    samples: NDArray[np.int64]
    times: NDArray[np.float64]
    above: NDArray[np.bool_]
    is_false: NDArray[np.bool_]
    events: list[Annotation]

    @classmethod
    def pick(
        cls, above: NDArray[np.bool_], outcome: Outcome, is_false: NDArray[np.bool_], events: list[Annotation]
    ) -> _Runs:
        kept = above.copy()
        kept[1:] |= above[:-1]
        return cls(outcome.decisions.samples[kept], outcome.decisions.times[kept], above[kept], is_false[kept], events)


def _count_allowed(outcomes: Sequence[Outcome], max_false_alarms_per_min: float) -> int:
    """Return the largest number of false alarms that keeps the rate; -1 where not even none does."""
    counts = np.arange(1 + sum(len(each.decisions) for each in outcomes))
    rates = counts / (valid_seconds(outcomes) / 60)
    return int(np.searchsorted(rates, max_false_alarms_per_min, side="right")) - 1


def _try_rule(
    recordings: Sequence[_Runs], rule: DecisionSettings, n_allowed: int
) -> tuple[NDArray[np.float64], int] | None:
    """Return the lag of each matched event and the number of false alarms; None as soon as those are too many."""
    n_false_alarms = 0
    lags = []
    for runs in recordings:
        indices: list[int] = []
        state = DwellState()
        for start in range(0, len(runs.samples), _BLOCK):
            block = slice(start, start + _BLOCK)
            new, state = find_detections(runs.samples[block], runs.above[block], rule, state)
            indices += [start + index for index in new]
            n_false_alarms += int(np.count_nonzero(runs.is_false[block][new]))
            if n_false_alarms > n_allowed:
                return None
        lags.append(match_detections(runs.times[indices], runs.events).lag_s)
    return (np.concatenate(lags), n_false_alarms) if n_false_alarms <= n_allowed else None
