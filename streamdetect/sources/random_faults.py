"""Fault plans by chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from streamdetect.errors import InputError
from streamdetect.sources.fault_plan import (
    ClockJump,
    Drift,
    Duplicates,
    Fault,
    FaultPlan,
    Flat,
    Gap,
    LineNoise,
    Muscle,
    NotANumber,
    Railed,
    Restart,
    Steps,
)
from streamdetect.sources.gaps import LONGEST_GAP_S

_SHORTEST_S = 30.0
_CALM_BEFORE_S, _CALM_AFTER_S = 5.0, 15.0  # a channel is good again after ten good seconds
_BETWEEN_S = (
    1.5  # from the end of a fault of the stream to the next; time stamps count once they were regular for a second
)
_LONGEST_S = 5.0
_MOST_DRIFT_PPM = 50.0  # quartz; over the longest gap at 1 kHz a quarter of a sample


def random_plan(seed: int, duration: float, ch_names: Sequence[str]) -> FaultPlan:
    """Make a plan by chance: up to four faults of the stream and up to four of channels.

    Parameters
    ----------
    seed : int
        Seed of the plan, and of the noise in it.
    duration : float
        Length of what will be played, in s; 30 s or more.
    ch_names : sequence of str
        The channels to choose from.

    Returns
    -------
    FaultPlan
        Nothing in its first 5 s and its last 15 s. Each lost sample can be counted from the time stamps alone: gaps
        are 0.2 s or longer, clocks jump back, or ahead by more than any gap, and drift by less than half a sample in a
        gap. No restart changes the channels.

    Raises
    ------
    InputError
        The duration is too short.
    """
    if not duration >= _SHORTEST_S:
        raise InputError(f"duration: expected {_SHORTEST_S:g} s or more for a random fault plan, found {duration:g}")
    rng = np.random.default_rng(seed)
    begin, end = _CALM_BEFORE_S, duration - _CALM_AFTER_S
    n_stream_faults = int(rng.integers(0, 5))
    slots = np.linspace(begin, end, n_stream_faults + 1).tolist()
    faults: list[Fault] = [_draw_stream_fault(rng, start, stop) for start, stop in pairwise(slots)]
    faults += [_draw_channel_fault(rng, begin, end, ch_names) for _ in range(rng.integers(n_stream_faults == 0, 5))]
    if rng.random() < 0.3:
        ppm = _round(rng.choice([-1, 1]) * rng.uniform(20.0, _MOST_DRIFT_PPM))
        faults.append(Drift(onset=_round(begin), duration=_round(end - begin), ppm=ppm))
    return FaultPlan(seed=seed, faults=tuple(sorted(faults, key=lambda fault: fault.onset)))


def _draw_stream_fault(rng: np.random.Generator, start: float, stop: float) -> Fault:
    """Draw a fault of the stream that lies between two times."""
    kind = rng.choice(["gap", "duplicates", "clock-jump", "restart"], p=[0.4, 0.2, 0.2, 0.2])
    longest = min(_LONGEST_S, stop - start - _BETWEEN_S)
    length = _round(np.exp(rng.uniform(np.log(0.2), np.log(longest))))
    onset = _round(rng.uniform(start, stop - length - _BETWEEN_S))
    if kind == "gap":
        return Gap(onset=onset, duration=length)
    if kind == "duplicates":
        return Duplicates(onset=onset, duration=length)
    if kind == "restart":
        return Restart(onset=onset, duration=length, source_id="new" if rng.random() < 0.5 else "same")
    ahead = LONGEST_GAP_S + rng.uniform(10.0, 1e5)
    return ClockJump(onset=onset, jump_s=_round(ahead if rng.random() < 0.5 else -rng.uniform(10.0, 1e5)))


def _draw_channel_fault(rng: np.random.Generator, start: float, stop: float, ch_names: Sequence[str]) -> Fault:
    """Draw a fault of one channel, of some or of all."""
    n_channels = int(rng.choice([1, int(rng.integers(1, len(ch_names) + 1)), len(ch_names)], p=[0.5, 0.3, 0.2]))
    picked = sorted(rng.choice(len(ch_names), n_channels, replace=False).tolist())
    length = _round(np.exp(rng.uniform(np.log(0.05), np.log((stop - start) / 2))))
    common: dict[str, Any] = {
        "onset": _round(rng.uniform(start, stop - length)),
        "duration": length,
        "channels": () if n_channels == len(ch_names) else tuple(ch_names[index] for index in picked),
    }
    amplitude_uv = _round(np.exp(rng.uniform(np.log(5.0), np.log(5000.0))))
    makers = (
        lambda: NotANumber(**common),
        lambda: Flat(**common, level_uv=float(rng.choice([0.0, amplitude_uv]))),
        lambda: Railed(**common, level_uv=float(rng.choice([-3276.8, 3276.7, 187500.0]))),
        lambda: LineNoise(**common, amplitude_uv=amplitude_uv, frequency=float(rng.choice([50.0, 60.0]))),
        lambda: Muscle(**common, amplitude_uv=amplitude_uv),
        lambda: Steps(**common, amplitude_uv=amplitude_uv, interval_s=_round(rng.uniform(0.2, 3.0))),
    )
    return makers[rng.integers(len(makers))]()


def _round(value: float) -> float:
    return round(float(value), 3)
