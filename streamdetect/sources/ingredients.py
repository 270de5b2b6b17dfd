"""What simulated EEG is made of: one pure function an ingredient, its source beside its constants.

All functions work in µV and samples, take their random generator as an argument and return arrays of shape
``(n_channels, n_times)`` or ``(n_times,)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, interpolate, signal

from streamdetect.sources.montage import scalp_angles

Floats = NDArray[np.float64]

# Trials, Luciw, Jarocka, Edin, Scientific Data 2014, doi:10.1038/sdata.2014.47. The order is the paper's; the figures
# are those of 780 trials of subjects 1 to 3 of the data released with it (CC BY 4.0).
EVENT_NAMES = ("HandStart", "FirstDigitTouch", "BothStartLoadPhase", "LiftOff", "Replace", "BothReleased")
INTERVALS_S = {  # from the event before: median (s), SD of the logarithm within a subject and between subjects
    "FirstDigitTouch": (0.82, 0.17, 0.25),
    "BothStartLoadPhase": (0.09, 0.50, 0.45),
    "LiftOff": (0.22, 0.50, 0.50),
    "Replace": (3.10, 0.05, 0.08),
    "BothReleased": (0.20, 0.45, 0.25),
}
REST_S = (6.1, 0.45)  # from BothReleased to the next HandStart; means of 6.3 to 7.6 s in the subjects
FIRST_HAND_START_S = 2.4  # median over the 24 series

# Volume conduction makes electrodes within 10 to 12 cm of each other alike, a source's field falls off over a few cm:
# Srinivasan, Nunez, Silberstein, IEEE Trans Biomed Eng 1998, doi:10.1109/10.686789.
BACKGROUND_ANGLE_DEG = 45.0
SOURCE_ANGLE_DEG = 28.0

# An aperiodic spectrum flattens towards slow frequencies ("knee"): Donoghue et al., Nat Neurosci 2020,
# doi:10.1038/s41593-020-00744-x.
BACKGROUND_KNEE_HZ = 1.0

# BrainAmp amplifiers cut below 0.016 Hz (Luciw et al. 2014). An electrode's random walk behind such a high-pass is an
# Ornstein-Uhlenbeck process with this time constant.
AMPLIFIER_TIME_CONSTANT_S = 1.0 / (2.0 * np.pi * 0.016)

# Event-related desynchronisation: mu from about 2 s before the movement and beta from about 1 s before it,
# contralateral first, then on both sides; after the movement beta rebounds within 1 s: Pfurtscheller and Lopes da
# Silva, Clin Neurophysiol 1999, doi:10.1016/S1388-2457(99)00141-8; Pfurtscheller et al., "On the existence of
# different types of central beta rhythms below 30 Hz", Electroenceph clin Neurophysiol 102(4), 316-325, 1997.
MU_WIDTH_HZ, BETA_WIDTH_HZ = 1.2, 2.0  # standard deviations: mostly within 8-13 and 13-30 Hz
MU_RISE_S, BETA_RISE_S = (-2.0, -0.4), (-1.3, -0.4)  # the loss begins and is full, after HandStart, contralateral
IPSILATERAL_RISE_S, IPSILATERAL_SHARE = (-0.4, 0.1), 0.9  # the other side joins in at the onset, almost as deep
MU_RECOVERY_S, BETA_RECOVERY_S = 1.6, 0.5
RETURN_S = 0.6  # after BothReleased the hand goes back to its rest (Luciw et al. 2014); how long that takes is assumed
# In a steady grip the rhythms come back: Kilner et al., J Neurosci 2000, doi:10.1523/JNEUROSCI.20-23-08838.2000.
HOLD_SHARE = 0.4  # of the loss is left while the object is held still
HOLD_BEGIN_S, HOLD_END_S = (0.3, 1.0), 0.6  # after LiftOff, before Replace
LOSS_SHARES = (0.0, 1.0, 1.0, HOLD_SHARE, HOLD_SHARE, 1.0, 1.0, 0.0)  # at the knots of `movement_knots`
REBOUND_DELAY_S, REBOUND_SD_S = 1.0, 0.3
DEPTH_SD = 0.2  # relative, from trial to trial

# Movement-related cortical potential, seconds after the onset of movement and share of the peak. The early
# Bereitschaftspotential is widespread around the vertex, the late one steeper and contralateral; after the onset the
# motor potential turns into the reafferent positivity: Shibasaki and Hallett, Clin Neurophysiol 2006,
# doi:10.1016/j.clinph.2006.04.025.
MRCP_EARLY = ((-1.6, 0.0), (-1.0, -0.15), (-0.5, -0.45), (0.0, -1.0), (0.15, -0.9), (0.5, 0.0), (0.8, 0.1), (1.4, 0.0))
MRCP_LATE = ((-0.6, 0.0), (-0.3, -0.3), (0.0, -0.9), (0.08, -1.0), (0.2, -0.1), (0.32, 0.6), (0.6, 0.2), (1.2, 0.0))
MRCP_JITTER_S = 0.04  # of the potential against the event in the file
EVOKED_SD = 0.3  # relative, from trial to trial; of all evoked potentials

# Making and breaking contact excites the fingertips' afferents (Johansson and Flanagan, Nat Rev Neurosci 2009,
# doi:10.1038/nrn2621) and evokes P50, N80, P100 and N140 of a few µV over the contralateral hand area (Kekoni et al.,
# Biol Psychol 46, 125-142, 1997).
CONTACT_POTENTIAL = (
    (0.02, 0.0),
    (0.05, 0.4),
    (0.075, -0.3),
    (0.1, 0.8),
    (0.145, -1.0),
    (0.25, 0.5),
    (0.4, 0.0),
)
CONTACT_EVENTS = ("FirstDigitTouch", "LiftOff", "Replace", "BothReleased")

# An LED cues the reach and the lowering (Luciw et al. 2014) and is answered by a visual N1 and a P3 over the parietal
# cortex of 5 to 15 µV (Polich, Clin Neurophysiol 2007, doi:10.1016/j.clinph.2007.04.019). How long before the event it
# changes is not in the released files; assumed here are a simple reaction, and a reaction and the way down.
CUE_LEAD_S = {"HandStart": 0.42, "Replace": 0.95}
CUE_JITTER_S = 0.07
CUE_N1 = ((0.08, 0.0), (0.11, 0.4), (0.17, -0.7), (0.24, 0.3), (0.32, 0.0))
CUE_P3 = ((0.2, 0.0), (0.36, 1.0), (0.65, 0.0))

# Blinks: log-normal (Bentivoglio et al., Mov Disord 1997, doi:10.1002/mds.870120629); 0.2 to 0.4 s long, largest above
# the eyes and down to a tenth at the vertex (Lins et al., Brain Topogr 1993, doi:10.1007/BF01234127).
BLINK_DURATION_S = (0.2, 0.4)
BLINK_INTERVAL_SD = 0.7  # of the logarithm
BLINK_ANGLE_DEG = 35.0

# Muscles of the temples, the forehead and the neck: broad-band from 20 Hz up, at the edge of the cap (Goncharova et
# al., Clin Neurophysiol 2003, doi:10.1016/S1388-2457(03)00093-2).
MUSCLE_SITES = ("Fp1", "Fp2", "F7", "F8", "T7", "T8", "TP9", "TP10", "PO9", "PO10")
MUSCLE_BAND_HZ = (20.0, 200.0)
MUSCLE_DURATION_S = (0.3, 2.0)
MUSCLE_ANGLE_DEG = 20.0

# The mains of Umeå, where WAY-EEG-GAL was recorded, and its odd harmonic.
LINE_HZ = 50.0
LINE_THIRD_HARMONIC = 0.25


def draw_trials(
    rng: np.random.Generator, medians_s: dict[str, float], rest_s: float, n_trials: int, sfreq: float
) -> dict[str, NDArray[np.int64]]:
    """Draw when the six events of each trial happen.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    medians_s : dict of str to float
        The subject's median interval in s from the event before, for each event but the first.
    rest_s : float
        The series' median time in s from the last event of a trial to the first of the next.
    n_trials : int
        Number of trials.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    dict of str to ndarray of int64, shape (n_trials,)
        Sample of each event, in the order of a trial.
    """
    rests = rng.lognormal(np.log(rest_s), REST_S[1], n_trials)
    # 1.6 s is the shortest rest in the data
    steps = [np.concatenate([[FIRST_HAND_START_S], np.maximum(rests[1:], 1.6)])]
    for name, (_, within_sd, _) in INTERVALS_S.items():
        steps.append(rng.lognormal(np.log(medians_s[name]), within_sd, n_trials))
    times = np.cumsum(np.array(steps).T).reshape(n_trials, len(EVENT_NAMES))  # trial by trial, event by event
    return {name: np.round(times[:, k] * sfreq).astype(np.int64) for k, name in enumerate(EVENT_NAMES)}


def spread(centre: str, ch_names: Sequence[str], angle_deg: float = SOURCE_ANGLE_DEG) -> Floats:
    """Return how strongly each electrode sees a source: 1 at its centre, falling off as a Gaussian of the angle.

    Parameters
    ----------
    centre : str
        Electrode above the source.
    ch_names : sequence of str
        The electrodes.
    angle_deg : float
        Standard deviation of the Gaussian in degrees.

    Returns
    -------
    ndarray, shape (n_channels,), float64
    """
    angles = scalp_angles(ch_names, [centre])[:, 0]
    return np.exp(-0.5 * (angles / angle_deg) ** 2)


def shape_noise(rng: np.random.Generator, n_rows: int, n_times: int, power: Floats) -> Floats:
    """Return Gaussian noise with a given spectrum and a mean square of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_rows, n_times : int
        Shape of the noise.
    power : ndarray, shape (n_freqs,), float64
        Power at the frequencies of `noise_freqs`, in any unit.

    Returns
    -------
    ndarray, shape (n_rows, n_times), float64
    """
    gain = np.sqrt(power / np.sum(power))
    coefs = rng.standard_normal((n_rows, len(gain))) + 1j * rng.standard_normal((n_rows, len(gain)))
    n_fft = 2 * (len(gain) - 1)
    return fft.irfft(coefs * gain, n=n_fft)[:, :n_times] * (n_fft / 2)


def noise_freqs(n_times: int, sfreq: float) -> Floats:
    """Return the frequencies (Hz) at which `shape_noise` takes its spectrum."""
    return fft.rfftfreq(2 * fft.next_fast_len((n_times + 1) // 2), 1.0 / sfreq)


def make_background(
    rng: np.random.Generator, ch_names: Sequence[str], n_times: int, sfreq: float, exponent: float
) -> Floats:
    """Return 1/f noise that neighbouring electrodes share, with a mean square of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    ch_names : sequence of str
        The electrodes.
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    exponent : float
        Power falls as ``1 / f ** exponent``.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
    """
    freqs = noise_freqs(n_times, sfreq)
    independent = shape_noise(rng, len(ch_names), n_times, 1.0 / (BACKGROUND_KNEE_HZ + freqs) ** exponent)
    correlation = np.exp(-scalp_angles(ch_names, ch_names) / BACKGROUND_ANGLE_DEG)  # positive definite on a sphere
    return np.linalg.cholesky(correlation) @ independent


def make_rhythm(rng: np.random.Generator, n_times: int, sfreq: float, peak_hz: float, width_hz: float) -> Floats:
    """Return a rhythm that waxes and wanes: noise with one spectral peak and a mean square of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    peak_hz, width_hz : float
        Centre and standard deviation of the peak in Hz; spindles last about ``1 / (2 * width_hz)`` s.

    Returns
    -------
    ndarray, shape (n_times,), float64
    """
    freqs = noise_freqs(n_times, sfreq)
    return shape_noise(rng, 1, n_times, np.exp(-0.5 * ((freqs - peak_hz) / width_hz) ** 2))[0]


def make_drift(rng: np.random.Generator, n_channels: int, n_times: int, sfreq: float, time_constant_s: float) -> Floats:
    """Return each electrode's own slow wandering (Ornstein-Uhlenbeck), with a mean square of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_channels, n_times : int
        Shape of the drift.
    sfreq : float
        Sampling rate in Hz.
    time_constant_s : float
        Time in s after which the electrode has forgotten its potential.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
    """
    keep = np.exp(-1.0 / (time_constant_s * sfreq))
    steps = np.sqrt(1.0 - keep**2) * rng.standard_normal((n_channels, n_times))
    start = keep * rng.standard_normal((n_channels, 1))
    return signal.lfilter([1.0], [1.0, -keep], steps, axis=1, zi=start)[0]


def movement_knots(
    onsets: dict[str, NDArray[np.int64]], sfreq: float, rise_s: tuple[float, float], recovery_s: float
) -> NDArray[np.int64]:
    """Return when a rhythm's loss begins, is full, begins to fade, has faded, rises, is full, ends and is made good.

    Parameters
    ----------
    onsets : dict of str to ndarray of int64, shape (n_trials,)
        Sample of each event.
    sfreq : float
        Sampling rate in Hz.
    rise_s : tuple of float
        When the loss begins and when it is full, in s after the hand starts.
    recovery_s : float
        The loss is made good this long after the hand is back, in s.

    Returns
    -------
    ndarray of int64, shape (n_trials, 8)
        Samples at which the loss is `LOSS_SHARES` of its depth.
    """
    start, lift, replace, release = (onsets[name] for name in ("HandStart", "LiftOff", "Replace", "BothReleased"))
    anchors = np.stack([start, start, lift, lift, replace, replace, release, release], axis=1)
    offsets_s = [*rise_s, *HOLD_BEGIN_S, -HOLD_END_S, 0.0, RETURN_S, RETURN_S + recovery_s]
    return anchors + np.round(np.array(offsets_s) * sfreq).astype(np.int64)


def desynchronise(n_times: int, knots: NDArray[np.int64], depths: Floats) -> Floats:
    """Return the share of a rhythm's power that is left around movements.

    Parameters
    ----------
    n_times : int
        Number of samples.
    knots : ndarray of int64, shape (n_trials, 8)
        From `movement_knots`; the loss changes linearly in between.
    depths : ndarray, shape (n_trials,), float64
        Largest share of the power that is lost in each trial, 0 to 1.

    Returns
    -------
    ndarray, shape (n_times,), float64
        1 at rest, ``1 - depth`` where the loss is full.
    """
    lost = np.zeros(n_times)
    for samples, depth in zip(knots, depths, strict=True):
        first, stop = max(0, samples[0]), min(n_times, samples[-1] + 1)
        course = depth * np.interp(np.arange(first, stop), samples, LOSS_SHARES)
        lost[first:stop] = np.maximum(lost[first:stop], course)
    return 1.0 - lost


def rebound(n_times: int, sfreq: float, ends: NDArray[np.int64], height: float) -> Floats:
    """Return the factor by which beta power exceeds its rest after movements.

    Parameters
    ----------
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    ends : ndarray of int64, shape (n_trials,)
        Samples at which the movements end.
    height : float
        Excess at the top, as a share of the power at rest.

    Returns
    -------
    ndarray, shape (n_times,), float64
    """
    excess = np.zeros(n_times)
    half = round(4 * REBOUND_SD_S * sfreq)
    bump = np.exp(-0.5 * (np.arange(-half, half + 1) / (REBOUND_SD_S * sfreq)) ** 2)
    _add_at(excess, bump * height, ends + round(REBOUND_DELAY_S * sfreq) - half)
    return 1.0 + excess


def evoke(
    n_times: int, sfreq: float, onsets: NDArray[np.int64], knots: Sequence[tuple[float, float]], amplitudes: Floats
) -> Floats:
    """Return one potential a trial, time-locked to its onset.

    Parameters
    ----------
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    onsets : ndarray of int64, shape (n_trials,)
        Samples to which the potential is locked.
    knots : sequence of (float, float)
        Time in s after the onset and potential; in between, a smooth curve without overshoot.
    amplitudes : ndarray, shape (n_trials,), float64
        Factor for each trial.

    Returns
    -------
    ndarray, shape (n_times,), float64
    """
    times, values = np.array(knots).T
    samples = np.arange(round(times[0] * sfreq), round(times[-1] * sfreq) + 1)
    wave = interpolate.PchipInterpolator(times, values)(np.clip(samples / sfreq, times[0], times[-1]))
    course = np.zeros(n_times)
    for onset, amplitude in zip(onsets, amplitudes, strict=True):
        _add_at(course, amplitude * wave, np.array([onset + samples[0]]))
    return course


def make_blinks(rng: np.random.Generator, n_times: int, sfreq: float, rate_per_min: float) -> Floats:
    """Return the course of blinks of varied length, about 1 high each.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    rate_per_min : float
        Mean number of blinks a minute.

    Returns
    -------
    ndarray, shape (n_times,), float64
    """
    course = np.zeros(n_times)
    mean_log = np.log(60.0 / rate_per_min) - 0.5 * BLINK_INTERVAL_SD**2
    start = rng.lognormal(mean_log, BLINK_INTERVAL_SD) * sfreq
    while start < n_times:
        n_blink = round(rng.uniform(*BLINK_DURATION_S) * sfreq)
        _add_at(course, rng.lognormal(0.0, 0.2) * signal.windows.hann(n_blink), np.array([round(start)]))
        start += n_blink + rng.lognormal(mean_log, BLINK_INTERVAL_SD) * sfreq
    return course


def make_muscle(
    rng: np.random.Generator, ch_names: Sequence[str], n_times: int, sfreq: float, rate_per_min: float
) -> Floats:
    """Return bursts of muscle activity at the edge of the cap, about 1 RMS at their centre.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    ch_names : sequence of str
        The electrodes.
    n_times : int
        Number of samples.
    sfreq : float
        Sampling rate in Hz.
    rate_per_min : float
        Mean number of bursts a minute.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
    """
    muscle = np.zeros((len(ch_names), n_times))
    sos = signal.butter(2, MUSCLE_BAND_HZ, "bandpass", fs=sfreq, output="sos")
    gain = np.sqrt(sfreq / 2.0 / (MUSCLE_BAND_HZ[1] - MUSCLE_BAND_HZ[0]))
    for _ in range(rng.poisson(rate_per_min * n_times / sfreq / 60.0)):
        site, start = rng.choice(MUSCLE_SITES), int(rng.integers(n_times))
        n_burst = min(round(rng.uniform(*MUSCLE_DURATION_S) * sfreq), n_times - start)
        burst = gain * signal.sosfilt(sos, rng.standard_normal(n_burst)) * signal.windows.tukey(n_burst, 0.5)
        muscle[:, start : start + n_burst] += np.outer(
            spread(site, ch_names, MUSCLE_ANGLE_DEG), rng.lognormal(0.0, 0.5) * burst
        )
    return muscle


def make_line_noise(rng: np.random.Generator, n_channels: int, n_times: int, sfreq: float) -> Floats:
    """Return the mains' hum, about 1 high, with a strength of its own at each electrode.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_channels, n_times : int
        Shape of the hum.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
    """
    phase = 2.0 * np.pi * LINE_HZ / sfreq * np.arange(n_times) + rng.uniform(0.0, 2.0 * np.pi)
    hum = np.sin(phase) + LINE_THIRD_HARMONIC * np.sin(3.0 * phase)
    return np.outer(rng.lognormal(0.0, 0.5, n_channels), hum)


def _add_at(course: Floats, wave: Floats, starts: NDArray[np.int64]) -> None:
    """Add a wave at each start, in place; what would lie outside the course is left off."""
    for start in starts:
        first, stop = max(0, start), min(len(course), start + len(wave))
        if first < stop:
            course[first:stop] += wave[first - start : stop - start]
