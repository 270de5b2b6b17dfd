"""Probabilities to detections: threshold, dwell and refractory time, counted in samples."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdetect.decisions import Decisions, Detection
from streamdetect.settings import DecisionSettings


class DwellState(NamedTuple):
    """What must outlive a chunk: the run that is being held, and the end of the refractory time.

    Parameters
    ----------
    run_start : int or None
        Sample at which the present run above threshold began to count; None outside a run.
    quiet_until : int
        First sample at which a run may begin to count again.
    """

    run_start: int | None = None
    quiet_until: int = 0


def find_detections(
    samples: NDArray[np.int64],
    above: NDArray[np.bool_],
    settings: DecisionSettings,
    state: DwellState | None = None,
) -> tuple[list[int], DwellState]:
    """Find the decisions that complete a detection.

    Parameters
    ----------
    samples : ndarray of int64, shape (n,)
        Ascending sample index of each decision.
    above : ndarray of bool, shape (n,)
        Whether the decision is valid and at or above the threshold.
    settings : DecisionSettings
        Dwell and refractory time; the threshold itself is not used here.
    state : DwellState or None
        State after the decisions before these; None at the start.

    Returns
    -------
    indices : list of int
        Indices into ``samples``: the run above threshold has lasted ``dwell_samples`` there.
    state : DwellState
        State after the last decision.

    Notes
    -----
    A decision below threshold, or an invalid one, ends the run. After a detection no sample counts towards a run before
    the refractory time is over.

    Examples
    --------
    >>> settings = DecisionSettings(threshold=0.5, dwell_samples=20, refractory_samples=100)
    >>> find_detections(np.arange(0, 80, 10), np.array([0, 1, 1, 1, 1, 1, 0, 1], bool), settings)
    ([3], DwellState(run_start=None, quiet_until=130))
    """
    run_start, quiet_until = state or DwellState()
    n = len(samples)
    if n == 0:
        return [], DwellState(run_start, quiet_until)
    if not np.count_nonzero(above):
        return [], DwellState(None, quiet_until)
    if not above[0]:
        run_start = None
    indices = []
    edges = np.flatnonzero(np.diff(above, prepend=False, append=False)).reshape(-1, 2)
    # Most runs are too short to matter; the first may go on from before, and the last may go on.
    matter = samples[edges[:, 1] - 1] - samples[edges[:, 0]] >= settings.dwell_samples
    matter |= (edges[:, 0] == 0) | (edges[:, 1] == n)
    for first, stop in edges[matter].tolist():
        if first > 0:
            run_start = None
        i = first
        while i < stop:
            if run_start is None:
                i += int(np.searchsorted(samples[i:stop], quiet_until))
                if i == stop:
                    break
                run_start = int(samples[i])
            i += int(np.searchsorted(samples[i:stop], run_start + settings.dwell_samples))
            if i < stop:
                indices.append(i)
                quiet_until = int(samples[i]) + max(1, settings.refractory_samples)
                run_start = None
                i += 1
    if not above[-1]:
        run_start = None
    return indices, DwellState(run_start, quiet_until)


class DecisionStage:
    """Adds the detections to decisions.

    Parameters
    ----------
    settings : tuple of DecisionSettings
        One for each event.

    Notes
    -----
    Adds no delay beyond the dwell time. Keeps, for each event, the start of the present run and the end of the
    refractory time.
    """

    def __init__(self, settings: tuple[DecisionSettings, ...]) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all runs and refractory times."""
        self._states = [DwellState() for _ in self.settings]

    def process(self, decisions: Decisions) -> Decisions:
        """Return the same decisions with the detections among them.

        Parameters
        ----------
        decisions : Decisions
            The next decisions; invalid ones end every run, since a NaN is above no threshold.

        Returns
        -------
        Decisions
        """
        found: list[Detection] = []
        for column, (name, settings) in enumerate(zip(decisions.event_names, self.settings, strict=True)):
            probability = decisions.probability[:, column]
            above = probability >= np.float32(settings.threshold)
            indices, self._states[column] = find_detections(decisions.samples, above, settings, self._states[column])
            found += [
                Detection(name, int(decisions.samples[i]), float(decisions.times[i]), float(probability[i]))
                for i in indices
            ]
        if not found:
            return decisions
        return replace(decisions, detections=tuple(sorted(found, key=lambda detection: detection.sample)))

    def flush(self) -> tuple[()]:
        """Return what is held back: nothing."""
        return ()
