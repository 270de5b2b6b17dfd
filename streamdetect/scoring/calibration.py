"""Whether a probability means what it says: of moments given 0.7, the event should be going on in seven of ten."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_BINS = 10


class Reliability(NamedTuple):
    """Predicted probabilities beside observed rates.

    Parameters
    ----------
    predicted : ndarray of float64, shape (n_bins,)
        Mean probability in each bin, ascending, 0 to 1.
    observed : ndarray of float64, shape (n_bins,)
        Part of the bin's decisions within the event, 0 to 1.
    counts : ndarray of int64, shape (n_bins,)
        Decisions in each bin; none is empty.
    expected_calibration_error : float or None
        Mean distance of ``observed`` from ``predicted``, each bin weighing as its count; 0 is perfect.
    brier : float or None
        Mean squared difference of probability and truth; 0 is perfect.
    brier_of_base_rate : float or None
        The same, were every probability the overall rate of the event: a probability worth having lies below it.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]
    expected_calibration_error: float | None
    brier: float | None
    brier_of_base_rate: float | None


def reliability(labels: ArrayLike, probability: ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """Compare predicted probabilities with observed rates, bin by bin.

    Parameters
    ----------
    labels : array of bool, shape (n,)
        Whether the event was going on.
    probability : array of float, shape (n,)
        Predicted probability, finite, 0 to 1.
    n_bins : int
        At most so many bins, at least 1.

    Returns
    -------
    Reliability
        Without bins, and None for the rest, where there are no decisions.

    Raises
    ------
    ValueError
        The lengths differ, a probability is not within 0 to 1, or ``n_bins`` is below 1.

    Notes
    -----
    The bins hold equal counts. Events are rare, so most probabilities lie close together: bins of equal width would put
    nearly all decisions into one or two, and leave the others to chance. Equal probabilities share a bin, so that the
    order of the decisions does not matter; with many ties there are fewer bins, and their counts differ.

    Neighbouring decisions are much alike: the counts say nothing of how sure an observed rate is.

    References
    ----------
    Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. Nguyen and O'Connor 2015, "Posterior calibration
    and exploratory analysis for natural language processing models", doi:10.18653/v1/D15-1182, for bins of equal count.

    Examples
    --------
    >>> found = reliability([False, False, False, True], [0.1, 0.1, 0.5, 0.9], n_bins=2)
    >>> found.predicted.tolist(), found.observed.tolist(), found.counts.tolist()
    ([0.1, 0.7], [0.0, 0.5], [2, 2])
    """
    labels = np.asarray(labels, dtype=bool)
    probability = np.asarray(probability, dtype=np.float64)
    if labels.shape != probability.shape:
        raise ValueError(f"labels: expected one a probability ({probability.shape}), found {labels.shape}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probability: expected values from 0 to 1, found others; leave invalid decisions out")
    if n_bins < 1:
        raise ValueError(f"n_bins: expected at least 1, found {n_bins}")
    n = len(labels)
    if n == 0:
        nothing = np.zeros(0)
        return Reliability(nothing, nothing, np.zeros(0, dtype=np.int64), None, None, None)
    order = np.argsort(probability, kind="stable")
    ordered, truth = probability[order], labels[order]
    starts = np.arange(n_bins) * n // n_bins
    # A bin that would start within ties starts where they do; bins that start together are one.
    starts = np.unique(np.searchsorted(ordered, ordered[starts], side="left"))
    counts = np.diff(np.append(starts, n))
    predicted = np.add.reduceat(ordered, starts) / counts
    observed = np.add.reduceat(truth.astype(np.float64), starts) / counts
    rate = float(truth.mean())
    return Reliability(
        predicted,
        observed,
        counts,
        float(np.sum(counts * np.abs(observed - predicted)) / n),
        float(np.mean((ordered - truth) ** 2)),
        rate * (1 - rate),
    )
