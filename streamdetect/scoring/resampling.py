"""What chance would score on the same recordings, and how far a score may be off: permutation and bootstrap.

Neighbouring decisions see almost the same signal, so a few minutes hold far fewer independent moments than decisions.
Neither takes decisions one by one: the permutation test moves whole stretches of labels in time, the bootstrap draws
whole recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, t

from streamdetect.errors import InputError
from streamdetect.events import label_times
from streamdetect.scoring.metrics import Outcome, area_under_roc, column_of

BLOCK_S = 30.0  # labels are shifted within blocks of at least so long; `permutation_test` says why
MIN_RECORDINGS = 3  # that hold the event, to draw recordings: two give three different samples
MIN_TRIAL_S = 4.0  # events that follow each other faster are drawn together by the bootstrap
N_PERMUTATIONS = 1000
N_BOOT = 1000
LEVEL = 0.95  # of the interval


class Permutation(NamedTuple):
    """What chance would give.

    Parameters
    ----------
    auc : float or None
        The observed AUC; None where no valid decision lies inside the event, or none outside.
    p_value : float or None
        How often chance alone scores at least that high, from 1 / (1 + n_permutations) to 1.
    null : ndarray of float64, shape (n_permutations,)
        AUC of each permutation.
    n_blocks : int
        Blocks that hold the event: what was shifted independently.
    """

    auc: float | None
    p_value: float | None
    null: NDArray[np.float64]
    n_blocks: int


class Interval(NamedTuple):
    """How far an AUC may be off.

    Parameters
    ----------
    low, high : float or None
        Ends of the interval; None where nothing can be drawn: no AUC, or a single trial.
    resampled_by : str or None
        ``recording``, or ``trial`` where fewer than three recordings hold the event.
    n_resampled : int
        How many of these there are.
    """

    low: float | None
    high: float | None
    resampled_by: str | None
    n_resampled: int


class _Track(NamedTuple):
    """The valid decisions of one recording about one event: labels and probability, shape (n,)."""

    labels: NDArray[np.bool_]
    probability: NDArray[np.float32]
    hop_s: float


def permutation_test(
    outcomes: Sequence[Outcome], event: str, n_permutations: int = N_PERMUTATIONS, seed: int = 0
) -> Permutation:
    """Test the AUC of an event against chance.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one; their valid decisions are pooled, as `score` does.
    event : str
        Name of the event.
    n_permutations : int
        At least 1.
    seed : int
        Seed of the shifts.

    Returns
    -------
    Permutation

    Raises
    ------
    InputError
        If there is no permutation to make.
    EventError
        If the detector knows no such event.

    Notes
    -----
    *What is permuted.* Each recording is cut, midway between events, into blocks of at least 30 s; within each block
    the labels are shifted in a circle, by an offset drawn anew for each block and permutation, 0 included (leaving it
    out would make p too small). So a permutation keeps the probability with all its autocorrelation, and the labels'
    runs with the pauses between them; only their timing against each other is lost. Under the null hypothesis (what
    the vote says has nothing to do with when the event happens) every offset is as good as the one observed. The
    trained models stay as they are.

    *Why not decisions one by one.* They overlap; shuffled labels would make any slow wave significant.

    *Why not the whole recording.* Cues often come at fixed intervals. A shift by one interval puts each label on the
    next cue, and since detectors lag, a shift that makes up for the lag scores higher than the truth: on one cued
    recording a detector of AUC 0.72 gets p = 0.12 that way, and 0.004 with blocks, which shift independently and do
    not fall into step. And a drift over the recording stays where it is, which circular shifts of a whole recording
    take for an effect (Harris 2020).

    *Why not single trials.* Events moved each within its own trial, or trials in another order, break any rhythm of the
    signal that is as slow as the cues (blood pressure, breathing): 10 to 24 % of detectors of nothing came out below
    p = 0.05 on such noise. With blocks it is 5 to 10 %, and on noise without such a rhythm (autoregressive with 0.5 and
    2 s, 1/f, random walk; cued, random and point events; 1 or 4 recordings of 125 s; 400 seeds each) 2 to 7 %.

    *What it does not test.* Labels never change their block: where the vote only knows which recording, or which half
    minute, holds more events, chance scores above 0.5 too. And better than luck may still be the clock: cues at fixed
    times make the time since the start a detector, see `streamdetect.scoring.controls`.

    Invalid decisions are left out before the shift.

    References
    ----------
    Winkler A. M. et al. (2014), Permutation inference for the general linear model, NeuroImage 92, 381-397,
    doi:10.1016/j.neuroimage.2014.01.060: permutation within blocks where data are not exchangeable between them.
    Harris K. D. (2020), Nonsense correlations in neuroscience, bioRxiv, doi:10.1101/2020.11.29.402719.
    Phipson B., Smyth G. K. (2010), Permutation p-values should never be zero, Statistical Applications in Genetics and
    Molecular Biology 9, 39, doi:10.2202/1544-6115.1585: p = (1 + number at least as high) / (1 + number made).
    """
    if n_permutations < 1:
        raise InputError(f"n_permutations: expected at least 1, found {n_permutations}")
    tracks = _tracks(outcomes, event)
    labels, probability = _join(tracks)
    n_true, n_false = int(labels.sum()), int((~labels).sum())
    if n_true == 0 or n_false == 0:
        return Permutation(None, None, np.zeros(0), 0)
    # Ranks are taken once; doubled, mean ranks are whole numbers, so that ties with the observed sum are exact.
    ranks = np.rint(2 * rankdata(probability)).astype(np.int64)
    observed = int(ranks[labels].sum())
    rng = np.random.default_rng(seed)
    sums = np.zeros(n_permutations, dtype=np.int64)
    n_blocks = start = 0
    for track in tracks:
        for block in cut_trials(track.labels, round(BLOCK_S / track.hop_s)):
            inside = track.labels[block]
            by_offset = _shifted_sums(ranks[start + block.start : start + block.stop], inside)
            sums += by_offset[rng.integers(len(by_offset), size=n_permutations)]
            n_blocks += bool(inside.any())
        start += len(track.labels)

    def to_auc(rank_sum: Any) -> Any:
        return (rank_sum - n_true * (n_true + 1)) / (2 * n_true * n_false)

    n_as_high = int(np.count_nonzero(sums >= observed))
    return Permutation(to_auc(observed), (1 + n_as_high) / (1 + n_permutations), to_auc(sums), n_blocks)


def bootstrap_interval(
    outcomes: Sequence[Outcome], event: str, n_boot: int = N_BOOT, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Estimate by bootstrap how far the AUC of an event may be off.

    Parameters
    ----------
    outcomes : sequence of Outcome
        At least one; their valid decisions are pooled, as `score` does.
    event : str
        Name of the event.
    n_boot : int
        Bootstrap samples, at least 1.
    seed : int
        Seed of the draws.
    level : float
        Part of the samples within the interval, above 0 and below 1.

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        If ``n_boot`` or ``level`` is out of range.
    EventError
        If the detector knows no such event.

    Notes
    -----
    Recordings are drawn with replacement, as many as there are, and their decisions pooled; the interval lies between
    percentiles that are widened for small numbers (Hesterberg 2015). A sample without the event, or without anything
    else, has no AUC and is left out. Where fewer than three recordings hold the event, trials are drawn within each
    recording in their place (events with half the pause to either side, 4 s or longer); that says how far these
    minutes may be off, and nothing of other recordings.

    From fewer than five recordings the interval is rough, and too narrow: four give 35 different samples. On simulated
    recordings of 125 s a 95 % interval held the true AUC in 76 % of 300 studies of 3 recordings, in 88 % of 4, 91 % of
    5, 93 % of 8 and 95 % of 10. It does not know that the models of a cross-validation share recordings.

    The AUC of a sample needs no ranking: the pairs of a decision inside the event and one outside that the vote ranks
    rightly are counted once for each two recordings, and weighted by how often these were drawn.

    References
    ----------
    Field C. A., Welsh A. H. (2007), Bootstrapping clustered data, Journal of the Royal Statistical Society B 69,
    369-390, doi:10.1111/j.1467-9868.2007.00593.x.
    Hesterberg T. C. (2015), What teachers should know about the bootstrap, The American Statistician 69, 371-386,
    doi:10.1080/00031305.2015.1089789: the expanded percentile interval.
    """
    if n_boot < 1:
        raise InputError(f"n_boot: expected at least 1, found {n_boot}")
    if not 0 < level < 1:
        raise InputError(f"level: expected a part above 0 and below 1, such as 0.95, found {level:g}")
    tracks = _tracks(outcomes, event)
    if area_under_roc(*_join(tracks)) is None:
        return Interval(None, None, None, 0)
    by_recording = _n_holding(tracks) >= MIN_RECORDINGS
    if by_recording:
        units, strata = tracks, np.zeros(len(tracks), dtype=np.int64)
    else:
        cut = [list(_trials(track)) for track in tracks]
        units = [trial for trials in cut for trial in trials]
        strata = np.repeat(np.arange(len(cut)), [len(trials) for trials in cut])
        if _n_holding(units) < 2:
            return Interval(None, None, None, 0)
    drawn = _draw(strata, n_boot, np.random.default_rng(seed))
    n_true = np.array([np.count_nonzero(unit.labels) for unit in units])
    n_false = np.array([len(unit.labels) for unit in units]) - n_true
    n_pairs = (drawn @ n_true) * (drawn @ n_false)
    n_right = np.einsum("bi,bi->b", drawn @ _count_right(units), drawn)
    aucs = n_right[n_pairs > 0] / n_pairs[n_pairs > 0]
    n_resampled = len(units) if by_recording else _n_holding(units)
    tail = tail_of(level, n_resampled)
    low, high = np.quantile(aucs, [tail, 1 - tail]).tolist() if len(aucs) else (None, None)
    return Interval(low, high, "recording" if by_recording else "trial", n_resampled)


def cut_trials(labels: NDArray[np.bool_], min_samples: int) -> list[slice]:
    """Cut a recording midway between events into stretches of a certain length or longer.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,)
        Whether the event is going on.
    min_samples : int
        Least length of a stretch, where the recording is that long.

    Returns
    -------
    list of slice
        Consecutive, from the first decision to the last; each holds at least one event, if the recording does; empty
        for no decision.

    Examples
    --------
    >>> cut_trials(np.array([0, 1, 0, 0, 1, 1, 0, 0, 0, 1], dtype=bool), 3)
    [slice(0, 3, None), slice(3, 7, None), slice(7, 10, None)]
    """
    starts, ends = _find_runs(labels)
    edges = [0]
    for end, start in zip(ends[:-1].tolist(), starts[1:].tolist(), strict=True):
        middle = (end + start) // 2
        if middle - edges[-1] >= min_samples and len(labels) - middle >= min_samples:
            edges.append(middle)
    edges.append(len(labels))
    return [slice(first, stop) for first, stop in pairwise(edges) if stop > first]


def _tracks(outcomes: Sequence[Outcome], event: str) -> list[_Track]:
    """Return the valid decisions of each recording that has any."""
    column = column_of(outcomes, event)
    tracks = []
    for each in outcomes:
        valid = each.decisions.valid
        labels = label_times(each.decisions.times, each.events.get(event, ()))[valid]
        tracks.append(_Track(labels, each.decisions.probability[valid, column], each.hop_s))
    return [track for track in tracks if len(track.labels)]


def _join(tracks: Sequence[_Track]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    labels = [np.zeros(0, dtype=bool), *(track.labels for track in tracks)]
    return np.concatenate(labels), np.concatenate([np.zeros(0, np.float32), *(track.probability for track in tracks)])


def _trials(track: _Track) -> Iterator[_Track]:
    for part in cut_trials(track.labels, round(MIN_TRIAL_S / track.hop_s)):
        yield _Track(track.labels[part], track.probability[part], track.hop_s)


def _n_holding(tracks: Sequence[_Track]) -> int:
    """Return in how many the event happens."""
    return sum(bool(track.labels.any()) for track in tracks)


def _find_runs(labels: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of True begins, and the index after its end."""
    steps = np.diff(labels.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)


def _shifted_sums(ranks: NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the sum of the ranks at the labels for each circular shift of the labels, shape (n,), by running sums."""
    n = len(ranks)
    below = np.concatenate([[0], np.cumsum(np.concatenate([ranks, ranks]))])
    sums = np.zeros(n, dtype=np.int64)
    for start, end in zip(*_find_runs(labels), strict=True):
        sums += below[end : end + n] - below[start : start + n]
    return sums


def _draw(strata: NDArray[np.int64], n_boot: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each unit is drawn in each sample, shape (n_boot, n_units), as many in a stratum as it has."""
    drawn = np.zeros((n_boot, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=n_boot)
    return drawn


def tail_of(level: float, n: int) -> float:
    """Return the part of the samples to leave out at each end, below (1 - level) / 2 (Hesterberg 2015).

    A bootstrap of n is too narrow by sqrt((n - 1) / n), and takes Student's distribution for the normal one.
    """
    return float(norm.cdf(np.sqrt(n / (n - 1)) * t.ppf((1 - level) / 2, n - 1)))


def _count_right(units: Sequence[_Track]) -> NDArray[np.float64]:
    """Count pairs that are ranked rightly, ties half: inside the event in one unit, outside in another, (n, n)."""
    inside = np.concatenate([unit.probability[unit.labels] for unit in units])
    owner = np.repeat(np.arange(len(units)), [np.count_nonzero(unit.labels) for unit in units])
    right = np.zeros((len(units), len(units)))
    for column, unit in enumerate(units):
        outside = np.sort(unit.probability[~unit.labels])
        n_below = (np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")) / 2
        right[:, column] = np.bincount(owner, weights=n_below, minlength=len(units))
    return right
