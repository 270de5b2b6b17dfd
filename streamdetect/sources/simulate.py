"""Simulated grasp-and-lift EEG, in the layout of the Grasp-and-Lift challenge or as a stream.

A series is a sum of the ingredients in `ingredients.py`, scaled by `SimulationSettings`, by the traits of the subject
and by the day of the series. The same seed, subject and series give the same samples, whichever others are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import POINT_HALF_WIDTH_S, Annotation
from streamdetect.files import whole_file
from streamdetect.sources import ingredients as make
from streamdetect.sources.grasp_and_lift import SFREQ, VOLTS_PER_COUNT
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS
from streamdetect.sources.recording import Recording

N_TRIALS = 34  # a series of the released data, Luciw et al. 2014
SHORTEST_MINUTES = 0.25  # room for one trial
ALPHA_SITES = (("Oz", 1.0), ("PO9", 0.6), ("PO10", 0.6), ("Pz", 0.5))  # share of the occipital strength
ALPHA_WIDTH_HZ = 0.8
_DATA_SUFFIX, _EVENTS_SUFFIX = "_data.csv", "_events.csv"
_ROWS_AT_ONCE = 10_000  # written; bounds the memory, and the time that Python spends on collecting garbage


@dataclass(frozen=True)
class SimulationSettings:
    """How strong each ingredient is, for the average subject.

    Parameters
    ----------
    background_uv : float
        RMS of the 1/f background in µV.
    background_exponent : float
        Its power falls as ``1 / f ** exponent``; 0.8 to 1.6 at rest (Donoghue et al. 2020).
    alpha_uv, mu_uv, beta_uv : float
        RMS of the rhythms at rest in µV, above their source. In subjects 1 to 3 of WAY-EEG-GAL, around the events, the
        density is 230 to 1,000 µV²/Hz at O1 around 10 Hz, 50 to 300 at C3 around 10 Hz and 13 to 40 around 20 Hz,
        which makes 27 to 55, 12 to 30 and 9 to 17 µV over the rhythms' widths, muscles and background included.
    mu_depth, beta_depth : float
        Share of the power that the contralateral motor cortex loses around a movement; 0.3 to 0.8 (Pfurtscheller and
        Lopes da Silva 1999).
    beta_rebound : float
        Excess of beta power after a movement as a share of its power at rest; 0.3 to 2.5 (Pfurtscheller et al. 1997).
    mrcp_early_uv, mrcp_late_uv : float
        Peaks of the early (Cz) and the late (C3) movement-related cortical potential in µV, which add up to 5 to 15 at
        either electrode (Shibasaki and Hallett 2006).
    cue_uv : float
        Peak of the P3 that the LED evokes in µV; 5 to 15 (Polich 2007).
    contact_uv : float
        Peak of the potential evoked when the fingers make or break contact in µV; a few (Kekoni et al. 1997).
    blink_uv, blinks_per_min : float
        Peak in µV above the eyes, 50 to 200, and number a minute; 4.5 reading to 17 at rest (Bentivoglio et al. 1997).
    muscle_uv, muscle_bursts_per_min : float
        RMS of a burst in µV and number a minute.
    drift_uv, drift_time_constant_s : float
        Standard deviation of each electrode's slow potential in µV, and its memory in s. Within a series of subjects 1
        to 3 of WAY-EEG-GAL, around the events, it is 5 to 255, depending on the electrode.
    line_uv : float
        Amplitude of the mains at the median electrode in µV.
    subject_sd, series_sd : float
        Spread (SD of the logarithm) of the amplitudes between subjects, and between the series of one.
    """

    background_uv: float = 7.0
    background_exponent: float = 1.0
    alpha_uv: float = 12.0
    mu_uv: float = 12.0
    beta_uv: float = 6.0
    mu_depth: float = 0.75
    beta_depth: float = 0.65
    beta_rebound: float = 0.8
    mrcp_early_uv: float = 7.0
    mrcp_late_uv: float = 10.0
    cue_uv: float = 9.0
    contact_uv: float = 5.0
    blink_uv: float = 120.0
    blinks_per_min: float = 12.0
    muscle_uv: float = 12.0
    muscle_bursts_per_min: float = 3.0
    drift_uv: float = 7.0
    drift_time_constant_s: float = make.AMPLIFIER_TIME_CONSTANT_S
    line_uv: float = 2.0
    subject_sd: float = 0.2
    series_sd: float = 0.1


@dataclass(frozen=True, slots=True)
class SubjectTraits:
    """What stays the same in all series of a subject.

    Parameters
    ----------
    alpha_hz, mu_hz, beta_hz : float
        Peak frequencies of the rhythms in Hz.
    exponent : float
        Exponent of the 1/f background.
    strength : dict of str to float
        Factor for the amplitude of each ingredient.
    depth : float
        Factor for the depth of the desynchronisation.
    medians_s : dict of str to float
        The subject's median interval in s from the event before.
    """

    alpha_hz: float
    mu_hz: float
    beta_hz: float
    exponent: float
    strength: dict[str, float]
    depth: float
    medians_s: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSeries:
    """One series in memory, with what a `Recording` offers.

    Parameters
    ----------
    path : Path
        Name of the data file that the series would have.
    info : StreamInfo
        Channels and sampling rate.
    microvolts : ndarray, shape (n_channels, n_times), int32
        The signal as the files hold it.
    onsets : dict of str to ndarray of int64
        Sample of each event, in the order of a trial.
    """

    path: Path
    info: StreamInfo
    microvolts: NDArray[np.int32]
    onsets: dict[str, NDArray[np.int64]]

    @property
    def n_times(self) -> int:
        """Number of samples."""
        return self.microvolts.shape[1]

    @property
    def data(self) -> NDArray[np.float64]:
        """Signal in volts, shape (n_channels, n_times), float64."""
        return np.multiply(self.microvolts, VOLTS_PER_COUNT, dtype=np.float64)

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """All events as point events, by onset."""
        notes = (
            Annotation(float(sample) / self.info.sfreq, 0.0, name)
            for name, samples in self.onsets.items()
            for sample in samples
        )
        return tuple(sorted(notes, key=lambda note: note.onset))

    @property
    def labels(self) -> NDArray[np.bool_]:
        """The events file's columns, shape (n_events, n_times): True within 150 ms (75 samples) of an event."""
        half = round(POINT_HALF_WIDTH_S * self.info.sfreq)
        labels = np.zeros((len(self.onsets), self.n_times), dtype=bool)
        for row, samples in zip(labels, self.onsets.values(), strict=True):
            for sample in samples:
                row[max(0, sample - half) : sample + half + 1] = True
        return labels

    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        """Yield the signal piece by piece, see `Recording.chunks`."""
        return self.recording().chunks(picks, chunk_samples)

    def recording(self) -> Recording:
        """Return the series as the recording that reading its files would give, without writing them."""
        return Recording(self.path, self.info, self.n_times, self.annotations, self._read)

    def _read(self, rows: list[int], chunk_samples: int) -> Iterator[Chunk]:
        for start in range(0, self.n_times, chunk_samples):
            counts = self.microvolts[rows, start : start + chunk_samples]
            data = np.multiply(counts, VOLTS_PER_COUNT, dtype=np.float64)
            yield Chunk(data, np.arange(start, start + data.shape[1]) / self.info.sfreq)


def draw_subject(subject: int, *, seed: int, settings: SimulationSettings) -> SubjectTraits:
    """Draw what distinguishes a subject.

    Parameters
    ----------
    subject : int
        Number of the subject, from 1.
    seed : int
        Seed of the whole data set.
    settings : SimulationSettings
        The average subject.

    Returns
    -------
    SubjectTraits
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(subject,)))
    parts = ("background", "alpha", "mu", "beta", "mrcp", "cue", "contact", "blink", "muscle", "drift", "line")
    return SubjectTraits(
        alpha_hz=float(np.clip(rng.normal(10.0, 0.8), 8.5, 12.0)),  # Klimesch 1999, doi:10.1016/S0165-0173(98)00056-3
        mu_hz=float(np.clip(rng.normal(10.8, 0.8), 9.0, 12.5)),
        beta_hz=float(np.clip(rng.normal(20.0, 2.0), 16.0, 24.0)),
        exponent=settings.background_exponent + rng.uniform(-0.15, 0.15),
        strength=dict(zip(parts, rng.lognormal(0.0, settings.subject_sd, len(parts)).tolist(), strict=True)),
        depth=float(rng.uniform(0.85, 1.15)),
        medians_s={
            name: median * rng.lognormal(0.0, between_sd) for name, (median, _, between_sd) in make.INTERVALS_S.items()
        },
    )


def simulate_series(
    subject: int,
    series: int,
    *,
    seed: int = 0,
    settings: SimulationSettings | None = None,
    n_trials: int = N_TRIALS,
    minutes: float | None = None,
) -> SimulatedSeries:
    """Simulate one series of grasp-and-lift trials of the right hand.

    Parameters
    ----------
    subject, series : int
        Numbers from 1.
    seed : int
        Seed of the whole data set; a series depends on it, its subject and its own number alone.
    settings : SimulationSettings, optional
        Strength of the ingredients.
    n_trials : int
        Number of trials, unless `minutes` is given.
    minutes : float, optional
        Length in minutes; as many trials as fit.

    Returns
    -------
    SimulatedSeries

    Raises
    ------
    InputError
        The series would be too short for a trial.

    Examples
    --------
    >>> series = simulate_series(1, 1, n_trials=1)
    >>> series.info.n_channels, list(series.onsets)[0], series.labels[0].sum()
    (32, 'HandStart', np.int64(151))
    """
    settings = settings or SimulationSettings()
    if n_trials < 1:
        raise InputError(f"n_trials: expected at least 1, found {n_trials}")
    if minutes is not None and minutes < SHORTEST_MINUTES:
        raise InputError(f"minutes: expected at least {SHORTEST_MINUTES:g} (one trial), found {minutes:g}")
    traits = draw_subject(subject, seed=seed, settings=settings)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(subject, series)))
    trial_rng, signal_rng = rng.spawn(2)

    if minutes is None:
        onsets = _draw_onsets(trial_rng, traits, n_trials)
        n_times = int(onsets[make.EVENT_NAMES[-1]][-1] + 2.0 * SFREQ)  # the hand goes back to its rest
    else:
        n_times = round(minutes * 60.0 * SFREQ)
        drawn = _draw_onsets(trial_rng, traits, int(minutes * 60.0 / 4.0) + 1)  # no trial is shorter than 4 s
        n_fit = int(np.sum(drawn[make.EVENT_NAMES[-1]] + SFREQ < n_times))
        onsets = {name: samples[:n_fit] for name, samples in drawn.items()}

    microvolts = _mix(signal_rng, traits, settings, onsets, n_times)
    path, _ = series_paths(Path(), subject, series)
    info = StreamInfo(GRASP_AND_LIFT_CHANNELS, SFREQ, path.name)
    return SimulatedSeries(path, info, np.rint(microvolts).astype(np.int32), onsets)


def simulate_rest(
    rng: np.random.Generator, traits: SubjectTraits, settings: SimulationSettings, n_times: int
) -> NDArray[np.float64]:
    """Simulate a subject who sits still, without the rhythms of the motor cortex.

    Those, mu and beta, are for the caller to add: they are what a movement changes.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    traits : SubjectTraits
        The subject.
    settings : SimulationSettings
        Strength of the ingredients.
    n_times : int
        Number of samples, at 500 Hz.

    Returns
    -------
    ndarray, shape (n_channels, n_times), float64
        The 32 channels of Grasp-and-Lift, in µV.
    """
    nothing = {name: np.empty(0, dtype=np.int64) for name in make.EVENT_NAMES}
    return _mix(rng, traits, replace(settings, mu_uv=0.0, beta_uv=0.0), nothing, n_times)


def _draw_onsets(rng: np.random.Generator, traits: SubjectTraits, n_trials: int) -> dict[str, NDArray[np.int64]]:
    return make.draw_trials(rng, traits.medians_s, make.REST_S[0], n_trials, SFREQ)


def _mix(
    rng: np.random.Generator,
    traits: SubjectTraits,
    settings: SimulationSettings,
    onsets: dict[str, NDArray[np.int64]],
    n_times: int,
) -> NDArray[np.float64]:
    """Add all ingredients up: shape (n_channels, n_times), µV."""
    names = GRASP_AND_LIFT_CHANNELS
    day = {part: strength * rng.lognormal(0.0, settings.series_sd) for part, strength in traits.strength.items()}
    # Each ingredient has its own generator, so that changing one leaves the others as they were.
    rngs = dict(zip(day, rng.spawn(len(day)), strict=True))

    mixed = make.make_background(rngs["background"], names, n_times, SFREQ, traits.exponent)
    mixed *= settings.background_uv * day["background"]
    for site, share in ALPHA_SITES:
        alpha = make.make_rhythm(rngs["alpha"], n_times, SFREQ, traits.alpha_hz, ALPHA_WIDTH_HZ)
        mixed += np.outer(make.spread(site, names) * share * settings.alpha_uv * day["alpha"], alpha)
    _add_motor_rhythms(mixed, rngs, traits, settings, day, onsets)
    _add_evoked_potentials(mixed, rngs, settings, day, onsets)

    blinks = make.make_blinks(rngs["blink"], n_times, SFREQ, settings.blinks_per_min)
    eyes = np.maximum(*(make.spread(site, names, make.BLINK_ANGLE_DEG) for site in ("Fp1", "Fp2")))
    mixed += np.outer(eyes * settings.blink_uv * day["blink"], blinks)
    muscle = make.make_muscle(rngs["muscle"], names, n_times, SFREQ, settings.muscle_bursts_per_min)
    mixed += settings.muscle_uv * day["muscle"] * muscle
    drift = make.make_drift(rngs["drift"], len(names), n_times, SFREQ, settings.drift_time_constant_s)
    mixed += settings.drift_uv * day["drift"] * drift
    mixed += settings.line_uv * day["line"] * make.make_line_noise(rngs["line"], len(names), n_times, SFREQ)
    return mixed


def _add_motor_rhythms(
    mixed: NDArray[np.float64],
    rngs: dict[str, np.random.Generator],
    traits: SubjectTraits,
    settings: SimulationSettings,
    day: dict[str, float],
    onsets: dict[str, NDArray[np.int64]],
) -> None:
    """Add mu and beta over both motor cortices, which a right hand's movement desynchronises."""
    n_times, n_trials = mixed.shape[1], len(onsets["HandStart"])
    hand_stops = onsets["BothReleased"] + round(make.RETURN_S * SFREQ)
    mu = (settings.mu_uv, settings.mu_depth, traits.mu_hz, make.MU_WIDTH_HZ, make.MU_RISE_S, make.MU_RECOVERY_S)
    beta = (
        *(settings.beta_uv, settings.beta_depth, traits.beta_hz),
        *(make.BETA_WIDTH_HZ, make.BETA_RISE_S, make.BETA_RECOVERY_S),
    )
    for part, (rms, depth, peak_hz, width_hz, contralateral_rise_s, recovery_s) in (("mu", mu), ("beta", beta)):
        for site, share, rise_s in (
            ("C3", 1.0, contralateral_rise_s),
            ("C4", make.IPSILATERAL_SHARE, make.IPSILATERAL_RISE_S),
        ):
            depths = share * depth * traits.depth * rngs[part].normal(1.0, make.DEPTH_SD, n_trials)
            knots = make.movement_knots(onsets, SFREQ, rise_s, recovery_s)
            power = make.desynchronise(n_times, knots, np.clip(depths, 0.0, 0.95))
            if part == "beta":
                power = power * make.rebound(n_times, SFREQ, hand_stops, share * settings.beta_rebound)
            rhythm = make.make_rhythm(rngs[part], n_times, SFREQ, peak_hz, width_hz) * np.sqrt(power)
            mixed += np.outer(make.spread(site, GRASP_AND_LIFT_CHANNELS) * rms * day[part], rhythm)


def _add_evoked_potentials(
    mixed: NDArray[np.float64],
    rngs: dict[str, np.random.Generator],
    settings: SimulationSettings,
    day: dict[str, float],
    onsets: dict[str, NDArray[np.int64]],
) -> None:
    """Add what is time-locked: movement-related potentials, and the answers to the LED and to contact."""
    n_trials = len(onsets["HandStart"])

    def add(
        site: str, samples: NDArray[np.int64], knots: Sequence[tuple[float, float]], peaks: NDArray[np.float64]
    ) -> None:
        potential = make.evoke(mixed.shape[1], SFREQ, samples, knots, peaks)
        np.add(mixed, np.outer(make.spread(site, GRASP_AND_LIFT_CHANNELS), potential), out=mixed)

    jitter = np.round(rngs["mrcp"].normal(0.0, make.MRCP_JITTER_S * SFREQ, n_trials)).astype(np.int64)
    peaks = day["mrcp"] * rngs["mrcp"].normal(1.0, make.EVOKED_SD, n_trials)
    add("Cz", onsets["HandStart"] + jitter, make.MRCP_EARLY, settings.mrcp_early_uv * peaks)
    add("C3", onsets["HandStart"] + jitter, make.MRCP_LATE, settings.mrcp_late_uv * peaks)

    for event, lead_s in make.CUE_LEAD_S.items():
        leads = np.round(rngs["cue"].normal(lead_s, make.CUE_JITTER_S, n_trials) * SFREQ).astype(np.int64)
        peaks = settings.cue_uv * day["cue"] * rngs["cue"].normal(1.0, make.EVOKED_SD, n_trials)
        add("Oz", onsets[event] - leads, make.CUE_N1, peaks)
        add("Pz", onsets[event] - leads, make.CUE_P3, peaks)

    for event in make.CONTACT_EVENTS:
        peaks = settings.contact_uv * day["contact"] * rngs["contact"].normal(1.0, make.EVOKED_SD, n_trials)
        add("CP5", onsets[event], make.CONTACT_POTENTIAL, peaks)


def series_paths(directory: Path, subject: int, series: int) -> tuple[Path, Path]:
    """Return where the data and the events of a series lie in the Grasp-and-Lift layout.

    Examples
    --------
    >>> series_paths(Path("gal"), 1, 2)[0].name
    'subj1_series2_data.csv'
    """
    stem = f"subj{subject}_series{series}"
    return directory / f"{stem}{_DATA_SUFFIX}", directory / f"{stem}{_EVENTS_SUFFIX}"


def write_series(series: SimulatedSeries, directory: Path) -> tuple[Path, Path]:
    """Write a series as ``…_data.csv`` (integer µV) and ``…_events.csv`` (0 or 1).

    A file appears under its name only when it is complete; a file that was there is replaced.

    Parameters
    ----------
    series : SimulatedSeries
        What to write.
    directory : Path
        An existing folder.

    Returns
    -------
    tuple of Path
        The data file and the events file.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """
    stem = series.path.name.removesuffix(_DATA_SUFFIX)
    data_path, events_path = directory / f"{stem}{_DATA_SUFFIX}", directory / f"{stem}{_EVENTS_SUFFIX}"
    # The events first: data without events would be taken for a series of which they are not known.
    _write_csv(events_path, stem, tuple(series.onsets), series.labels.astype(np.int32))
    _write_csv(data_path, stem, series.info.ch_names, series.microvolts)
    return data_path, events_path


def _write_csv(path: Path, stem: str, columns: Sequence[str], values: NDArray[np.int32]) -> None:
    """Write integers of shape (n_columns, n_rows) under an id column, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", encoding="ascii", newline="") as file:
        file.write(f"id,{','.join(columns)}\n")
        for start in range(0, values.shape[1], _ROWS_AT_ONCE):
            rows = values[:, start : start + _ROWS_AT_ONCE].T.tolist()  # plain integers: much faster than np.savetxt
            file.writelines(f"{stem}_{index},{','.join(map(str, row))}\n" for index, row in enumerate(rows, start))
