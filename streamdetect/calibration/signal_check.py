"""Whether a live signal is good enough to begin with: one rule a fault, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.table import Table

MICROVOLTS_PER_VOLT = 1e6

# Flat: a channel that holds one value for 2 s is no electrode on a scalp, and invalid to a live detector too.
# It is called railed where that value is further from zero than an amplifier with a high-pass ever rests: an open input
# drifts to the end of the range.
FLAT_S, RAIL_UV = 2.0, 1000.0
# Railed: clipping makes a channel return to exactly its own largest or smallest value and stay. Chance repeats an
# extreme, noise hardly ever three times in a row, and a short artefact takes less than a twentieth of the time.
RAIL_RUN_SAMPLES, RAIL_SHARE = 3, 0.05
# Silent: what the amplifier makes by itself must stay below 1.5 µV peak to peak, about 0.5 µV RMS (IFCN standards,
# Nuwer et al. 1998, doi:10.1016/S0013-4694(97)00106-5). A channel with no more than that carries no brain.
SILENT_UV = 0.5
# Noisy: scalp EEG at rest is tens of µV. Over PhysioNet S001 no channel exceeds 75 µV RMS (1-45 Hz, 5 s) and the
# median is 37; a loose or moving electrode adds hundreds. From 100 on it is worth a look, from 200 on it is no EEG.
POOR_NOISE_UV, BAD_NOISE_UV = 100.0, 200.0
# Mains: a good contact leaves a few per cent of the power at 50 or 60 Hz (S001: 10 % at most). Above a half, the mains
# outweighs the brain. Above nine tenths it does harm even behind the low-pass at 30 Hz that features begin with: of
# nine times the rest, a sixtieth is left at 50 Hz (order 4).
POOR_MAINS, BAD_MAINS = 0.5, 0.9
MAINS_HZ = (50.0, 60.0)
MAINS_HALF_WIDTH_HZ = 2.0  # of a Hann window of 1 s

NOISE_BAND_HZ = (1.0, 45.0)  # below lie slow drifts, above the mains
POWER_BAND_HZ = (1.0, 100.0)  # what the mains is a share of
RATE_TOLERANCE = 0.05  # of the nominal rate: clocks differ by far less, lost blocks of samples by more

Verdict = Literal["good", "poor", "bad"]


@dataclass(frozen=True, slots=True)
class ChannelCheck:
    """What the check found in one channel.

    Parameters
    ----------
    name : str
        The channel.
    noise_uv : float
        RMS from 1 to 45 Hz in µV; NaN where the channel is not finite.
    mains_share : float
        Share of the power from 1 to 100 Hz that lies at 50 or at 60 Hz, whichever is more, 0 to 1; NaN where the
        sampling rate is too low to tell, or there is no power.
    verdict : {"good", "poor", "bad"}
        ``poor`` is worth a look, ``bad`` no EEG.
    fault : str
        What is wrong, in a word or two; empty where nothing is.
    """

    name: str
    noise_uv: float
    mains_share: float
    verdict: Verdict
    fault: str


def check_signal(data: NDArray[np.float64], ch_names: Sequence[str], sfreq: float) -> tuple[ChannelCheck, ...]:
    """Check a few seconds of signal, channel by channel.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times), float64
        Signal in volts, a second or more.
    ch_names : sequence of str
        Names of the channels.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    tuple of ChannelCheck
        One a channel, in order.

    Examples
    --------
    >>> noise = 1e-5 * np.random.default_rng(0).standard_normal((2, 1000))
    >>> noise[1] = 0.0
    >>> [(one.name, one.verdict, one.fault) for one in check_signal(noise, ["C3", "C4"], 250.0)]
    [('C3', 'good', ''), ('C4', 'bad', 'flat')]
    """
    if data.shape[1] < sfreq:
        raise ValueError(f"data: expected at least 1 s of signal, found {data.shape[1] / sfreq:.2f} s")
    microvolts = data * MICROVOLTS_PER_VOLT
    finite = np.logical_and.reduce(np.isfinite(microvolts), axis=1)
    noise_uv, mains_share = measure_power(np.where(finite[:, None], microvolts, 0.0), sfreq)
    noise_uv[~finite] = np.nan
    return tuple(
        ChannelCheck(name, float(noise), float(share), *_judge(row, sfreq, float(noise), float(share)))
        for name, row, noise, share in zip(ch_names, microvolts, noise_uv, mains_share, strict=True)
    )


def measure_power(microvolts: NDArray[np.float64], sfreq: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each channel's noise and its share of mains.

    Parameters
    ----------
    microvolts : ndarray, shape (n_channels, n_times), float64
        Finite signal in µV.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    noise_uv, mains_share : ndarray, shape (n_channels,), float64
        As in `ChannelCheck`. Medians over half-overlapping windows of a second, so that a blink counts for little.
    """
    from scipy import signal

    n_window = round(sfreq)
    freqs, density = signal.welch(microvolts, sfreq, nperseg=n_window, average="median", detrend="linear")
    power = density * freqs[1]

    def between(low: float, high: float) -> NDArray[np.float64]:
        return power[:, (freqs >= low) & (freqs <= high)].sum(axis=1)

    noise_uv = np.sqrt(between(*NOISE_BAND_HZ))
    seen = [hz for hz in MAINS_HZ if hz + MAINS_HALF_WIDTH_HZ < sfreq / 2]
    if not seen:
        return noise_uv, np.full(len(microvolts), np.nan)
    mains = np.max([between(hz - MAINS_HALF_WIDTH_HZ, hz + MAINS_HALF_WIDTH_HZ) for hz in seen], axis=0)
    whole = between(*POWER_BAND_HZ)
    return noise_uv, np.divide(mains, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _judge(row: NDArray[np.float64], sfreq: float, noise_uv: float, mains_share: float) -> tuple[Verdict, str]:
    """Return the verdict on a channel in µV, and its gravest fault."""
    if not np.isfinite(row).all():
        return "bad", "not finite"
    held = _run_lengths(np.diff(row) == 0.0)
    if held.max(initial=0) + 1 >= min(FLAT_S * sfreq, len(row)):
        return "bad", "railed" if abs(np.median(row)) > RAIL_UV else "flat"
    if noise_uv < SILENT_UV:
        return "bad", "silent"
    if _share_at_rails(row) > RAIL_SHARE:
        return "bad", "railed"
    if mains_share > BAD_MAINS:
        return "bad", "mains"
    if noise_uv > BAD_NOISE_UV:
        return "bad", "noisy"
    if mains_share > POOR_MAINS:
        return "poor", "mains"
    if noise_uv > POOR_NOISE_UV:
        return "poor", "noisy"
    return "good", ""


def _share_at_rails(row: NDArray[np.float64]) -> float:
    """Return the share of samples that stay at the largest or the smallest value, three and more in a row."""
    lengths = _run_lengths((row == row.max()) | (row == row.min()))
    return float(lengths[lengths >= RAIL_RUN_SAMPLES].sum()) / len(row)


def _run_lengths(is_so: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how long each run of True is."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_so, [False]))))
    return edges[1::2] - edges[::2]


_ADVICE = {
    "flat": "check that the electrode is plugged in",
    "railed": "check the electrode's contact, and those of reference and ground",
    "silent": "check that it is no bridge or dummy, and the unit",
    "mains": "lower the impedance, move cables away from mains",
    "noisy": "lower the impedance, sit still, check the unit",
    "not finite": "check the amplifier's driver",
}


def describe_faults(checks: Sequence[ChannelCheck]) -> str:
    """Name the bad channels in part of a line, and say what to do; empty where there are none.

    Examples
    --------
    >>> describe_faults([ChannelCheck("C3", 0.0, 0.0, "bad", "flat"), ChannelCheck("C4", 9.0, 0.0, "good", "")])
    '1 of 2 channels is bad: C3 (flat); mend it, leave it out with --exclude C3, or go on with --ignore-signal-check'
    """
    bad = [one for one in checks if one.verdict == "bad"]
    if not bad:
        return ""
    verb, it = ("is", "it") if len(bad) == 1 else ("are", "them")
    listed = ", ".join(f"{one.name} ({one.fault})" for one in bad)
    head = f"{len(bad)} of {len(checks)} channels {verb} bad: {listed}"
    rest = "go on with --ignore-signal-check"
    if len(bad) < len(checks):
        return f"{head}; mend {it}, leave {it} out with --exclude {','.join(one.name for one in bad)}, or {rest}"
    faults = {one.fault for one in bad}
    if faults <= {"silent", "noisy"}:  # all too small, or all too large: that is seldom the electrodes
        return f"{head}; give the signal's unit with --unit if the stream tells a wrong one, or {rest}"
    return f"{head}; check amplifier, reference and ground, or {rest}"


def describe_rate(n_times: int, found_sfreq: float, sfreq: float) -> str:
    """Say in part of a line that samples come at another rate than the stream's, and what to do; empty where not.

    Parameters
    ----------
    n_times : int
        Samples that came.
    found_sfreq : float
        Samples for each second of their time stamps, in Hz.
    sfreq : float
        Nominal sampling rate in Hz.

    Examples
    --------
    >>> describe_rate(1250, 250.1, 250.0)
    ''
    >>> describe_rate(1000, 200.0, 250.0)
    'samples come at 200 Hz, expected 250 Hz; mend the connection (cable, radio, network), or go on with
    --ignore-signal-check'
    """
    if n_times >= sfreq and abs(found_sfreq - sfreq) <= RATE_TOLERANCE * sfreq:
        return ""
    return (
        f"samples come at {found_sfreq:.0f} Hz, expected {sfreq:g} Hz; mend the connection (cable, radio, network), or "
        "go on with --ignore-signal-check"
    )


def signal_table(checks: Sequence[ChannelCheck]) -> Table:
    """Return the check as a table for the terminal."""
    from rich.table import Table

    table = Table(title="Signal check", title_justify="left")
    table.add_column("channel")
    table.add_column("noise (µV)", justify="right")
    table.add_column("mains (%)", justify="right")
    table.add_column("signal")
    table.add_column("what to do")
    for one in checks:
        table.add_row(
            one.name,
            "–" if np.isnan(one.noise_uv) else f"{one.noise_uv:.1f}",
            "–" if np.isnan(one.mains_share) else f"{100 * one.mains_share:.0f}",
            one.verdict if not one.fault else f"{one.verdict}: {one.fault}",
            _ADVICE.get(one.fault, ""),
        )
    return table
