"""The clock-only control of a training: what the time since the start knows, held out on the training's own folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamdetect.decisions import Decisions
from streamdetect.scoring.controls import ClockModel, clock_outcome
from streamdetect.scoring.evaluate import auc_by_event
from streamdetect.scoring.metrics import Outcome
from streamdetect.training.folds import Fold, take
from streamdetect.training.windows import LabelledWindows


def fit_clocks(windows: Sequence[LabelledWindows], event_names: Sequence[str]) -> dict[str, ClockModel]:
    """Fit the clock-only control of each event."""
    return {
        name: ClockModel.fit([(one.features.times, one.labels[:, column]) for one in windows])
        for column, name in enumerate(event_names)
    }


def clock_auc(
    windows: Sequence[LabelledWindows], folds: Sequence[Fold], event_names: tuple[str, ...]
) -> dict[str, float | None]:
    """Return the held-out AUC of a model that knows nothing but the time since the start, for each event.

    None for each where there is one recording: no other tells what the clock knows of it.
    """
    if len(windows) == 1:
        return dict.fromkeys(event_names)
    parts = []
    for fold in folds:
        clocks = fit_clocks(take(windows, fold.train), event_names)
        for one in take(windows, fold.test):
            block = one.features
            unknown = np.full((len(block), len(event_names)), np.nan, np.float32)
            empty = Decisions(event_names, block.samples, block.times, block.quality, unknown, {})
            parts.append(clock_outcome(Outcome(one.name, empty, one.events, 1.0), clocks))
    return auc_by_event(parts)
