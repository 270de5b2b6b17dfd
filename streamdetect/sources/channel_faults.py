"""Faults of channels: what a bad electrode does to the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from streamdetect.chunk import StreamInfo
from streamdetect.sources.channels import pick_channels
from streamdetect.sources.fault_plan import (
    ChannelFault,
    FaultPlan,
    Flat,
    LineNoise,
    Muscle,
    NotANumber,
    Railed,
    Steps,
    span_of,
)

_VOLTS_PER_UV = 1e-6
_MUSCLE_FROM_HZ = 20.0  # where the spectrum of facial muscles begins, Goncharova et al. 2003

Floats = NDArray[np.float64]
Disturb = Callable[[Floats, NDArray[np.int64]], Floats]  # samples in volts, and their index since the onset


class ChannelFaults:
    """The faults of channels of a plan.

    Parameters
    ----------
    plan : FaultPlan
        What goes wrong; faults of the stream are no matter of this class.
    info : StreamInfo
        The channels and the sampling rate.

    Raises
    ------
    ChannelError
        A fault names a channel that there is not.

    Notes
    -----
    Faults befall the samples in the order of the plan. State: each muscle noise's generator and filter, so that it
    does not depend on how the signal is cut.
    """

    def __init__(self, plan: FaultPlan, info: StreamInfo) -> None:
        self._placed = [
            _place(fault, info, np.random.default_rng([plan.seed, number]))
            for number, fault in enumerate(plan.faults)
            if isinstance(fault, ChannelFault)
        ]

    def process(self, data: Floats, first: int) -> Floats:
        """Disturb the next samples.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64
            Signal in volts; left as it is.
        first : int
            Index of the first sample since the start of the recording, lost ones counted.

        Returns
        -------
        ndarray, shape (n_channels, n_times), float64
            The data themselves where nothing befalls them.
        """
        disturbed = data
        for each in self._placed:
            start, stop = max(each.start, first), min(each.stop, first + data.shape[1])
            if start >= stop:
                continue
            if disturbed is data:
                disturbed = data.copy()
            part = (each.rows, slice(start - first, stop - first))
            disturbed[part] = each.disturb(disturbed[part], np.arange(start, stop) - each.start)
        return disturbed


@dataclass(frozen=True, slots=True)
class _Placed:
    rows: list[int]
    start: int
    stop: int
    disturb: Disturb


def _place(fault: ChannelFault, info: StreamInfo, rng: np.random.Generator) -> _Placed:
    rows = pick_channels(info.ch_names, fault.channels or info.ch_names, where="fault plan")
    return _Placed(rows, *span_of(fault, info.sfreq), _make_disturb(fault, len(rows), info.sfreq, rng))


def _make_disturb(fault: ChannelFault, n_rows: int, sfreq: float, rng: np.random.Generator) -> Disturb:
    """Return what a fault does to its channels."""
    match fault:
        case NotANumber():
            return lambda data, n: np.full_like(data, np.nan)
        case Flat() | Railed():
            return lambda data, n: np.full_like(data, fault.level_uv * _VOLTS_PER_UV)
        case LineNoise():
            peak = fault.amplitude_uv * _VOLTS_PER_UV
            turn, phase = 2.0 * np.pi * fault.frequency / sfreq, rng.uniform(0.0, 2.0 * np.pi)
            return lambda data, n: data + peak * np.sin(turn * n + phase)
        case Steps():
            step, interval = fault.amplitude_uv * _VOLTS_PER_UV, max(1, round(fault.interval_s * sfreq))
            return lambda data, n: data + step * (1 - n // interval % 2)  # up at the onset
        case Muscle():
            return _make_muscle(fault.amplitude_uv * _VOLTS_PER_UV, n_rows, sfreq, rng)


def _make_muscle(deviation: float, n_rows: int, sfreq: float, rng: np.random.Generator) -> Disturb:
    """Return what adds white noise without its part below 20 Hz."""
    from_hz = min(_MUSCLE_FROM_HZ, sfreq / 4.0)
    sos = signal.butter(4, from_hz, "highpass", fs=sfreq, output="sos")
    sos[0, :3] /= np.sqrt(1.0 - from_hz / (sfreq / 2.0))  # the share of the power that is left
    state = np.zeros((len(sos), n_rows, 2))

    def disturb(data: Floats, n: NDArray[np.int64]) -> Floats:
        white = rng.standard_normal((len(n), n_rows)).T  # sample by sample, whatever their number
        noise, state[:] = signal.sosfilt(sos, white, axis=1, zi=state)
        return data + deviation * noise

    return disturb
