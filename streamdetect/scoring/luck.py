"""Whether a score may be luck, in figures and in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamdetect.scoring.metrics import Outcome
from streamdetect.scoring.resampling import LEVEL, MIN_RECORDINGS, bootstrap_interval, permutation_test

ALPHA = 0.05  # of the test, all events of a model together
N_FIRM = 5  # from so many recordings, or trials, on the interval is not called rough


@dataclass(frozen=True)
class Luck:
    """An event's AUC, and whether it may be luck.

    Parameters
    ----------
    event : str
        Name of the event.
    auc : float or None
        Area under the receiver operating characteristic; None where it is undefined.
    p_value : float or None
        How often chance alone scores at least that high.
    low, high : float or None
        Interval around the AUC; None where it is undefined.
    level : float
        Level of the interval, 0 to 1.
    resampled_by : str or None
        What the interval drew: ``recording`` or ``trial``.
    n_resampled : int
        How many of these there are.
    n_recordings : int
        Recordings with valid decisions.
    alpha : float
        The p value above which the AUC may be luck.
    n_events : int
        Events that were tested together.
    """

    event: str
    auc: float | None
    p_value: float | None
    low: float | None
    high: float | None
    level: float
    resampled_by: str | None
    n_resampled: int
    n_recordings: int
    alpha: float = ALPHA
    n_events: int = 1

    @property
    def is_better(self) -> bool:
        """Whether the detector is better than luck: above 0.5, and chance would rarely do as well."""
        return self.auc is not None and self.p_value is not None and self.auc > 0.5 and self.p_value <= self.alpha

    @property
    def is_rough(self) -> bool:
        """Whether so little was drawn from that the interval is too narrow as a rule."""
        return self.n_resampled < N_FIRM

    def figures(self) -> dict[str, Any]:
        """Return what goes into JSON: ``auc``, ``p_value``, ``interval`` and ``resampled_by``; undefined is None."""
        interval = None if self.low is None else [self.low, self.high]
        return {
            "auc": self.auc,
            "p_value": self.p_value,
            "interval": interval,
            "resampled_by": self.resampled_by,
        }


def verdicts(outcomes: Sequence[Outcome], *, seed: int = 0) -> dict[str, Luck]:
    """Judge for each event of a detector whether it is better than luck.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Decisions on recordings that the detector was not trained on; may be empty.
    seed : int
        Seed of the permutations and of the bootstrap.

    Returns
    -------
    dict of str to Luck
        Empty without outcomes.

    Notes
    -----
    Each of n events is held to ``ALPHA / n`` (Bonferroni): of six useless detectors one would else look better than
    luck in every fourth study.
    """
    names = outcomes[0].decisions.event_names if outcomes else ()
    return {name: verdict(outcomes, name, seed=seed, n_events=len(names)) for name in names}


def verdict(outcomes: Sequence[Outcome], event: str, *, seed: int = 0, n_events: int = 1) -> Luck:
    """Judge whether a detector of an event is better than luck.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one.
    event : str
        Name of the event.
    seed : int
        Seed of the permutations and of the bootstrap.
    n_events : int
        Events that are tested together; see `verdicts`.

    Returns
    -------
    Luck
    """
    tested = permutation_test(outcomes, event, seed=seed)
    interval = bootstrap_interval(outcomes, event, seed=seed, level=LEVEL)
    return Luck(
        event,
        auc=tested.auc,
        p_value=tested.p_value,
        low=interval.low,
        high=interval.high,
        level=LEVEL,
        resampled_by=interval.resampled_by,
        n_resampled=interval.n_resampled,
        n_recordings=sum(bool(each.decisions.valid.any()) for each in outcomes),
        alpha=ALPHA / n_events,
        n_events=n_events,
    )


def describe(luck: Luck) -> str:
    """Say in one plain sentence whether a detector is better than luck.

    Parameters
    ----------
    luck : Luck
        From `verdict`.

    Returns
    -------
    str

    Examples
    --------
    >>> print(describe(Luck("movement", 0.712, 0.001, 0.662, 0.758, 0.95, "recording", 8, 8)))
    movement: better than luck (AUC 0.71, 95 % 0.66 to 0.76 over 8 recordings, p = 0.001)
    """
    if luck.auc is None or luck.p_value is None:
        return (
            f"{luck.event}: whether it is better than luck cannot be told: valid decisions are needed both inside and "
            "outside the event"
        )
    p_value = f"p = {luck.p_value:.3f}"
    if luck.alpha < luck.p_value <= luck.alpha * luck.n_events:
        p_value += f", above the {luck.alpha:.2g} asked of one in {luck.n_events} events"
    figures = f"AUC {luck.auc:.2f}, {_describe_interval(luck)}, {p_value}"
    if not luck.is_better:
        if luck.p_value <= luck.alpha:
            reason = "its level differs between recordings, so that one threshold does not fit them"
            return f"{luck.event}: no better than luck ({figures}): {reason}; do not use this model for it"
        return (
            f"{luck.event}: no better than luck ({figures}): do not use this model for it; record more, or check the "
            "electrodes"
        )
    reaches_chance = luck.low is not None and luck.low <= 0.5
    doubt = "; the interval reaches down to chance, 0.5: record more to be sure" if reaches_chance else ""
    return f"{luck.event}: better than luck ({figures}){doubt}"


def describe_resampled(luck: Luck) -> str:
    """Say what the interval was drawn from.

    Examples
    --------
    >>> describe_resampled(Luck("movement", 0.7, 0.001, 0.6, 0.8, 0.95, "trial", 15, 1))
    '15 trials of one recording'
    """
    if luck.resampled_by is None:
        return "-"
    if luck.resampled_by == "recording":
        return f"{luck.n_resampled} recordings"
    recordings = "one recording" if luck.n_recordings == 1 else f"fewer than {MIN_RECORDINGS} recordings"
    return f"{luck.n_resampled} trials of {recordings}"


def _describe_interval(luck: Luck) -> str:
    if luck.low is None:
        return "no interval from a single trial"
    rough = ", rough with so few" if luck.is_rough else ""
    other = ": others may differ" if luck.resampled_by == "trial" else ""
    level = f"{100 * luck.level:g} %"
    return f"{level} {luck.low:.2f} to {luck.high:.2f} over {describe_resampled(luck)}{other}{rough}"
