"""A simulated subject: EEG that shows a movement of the right hand whenever a cue asks for one.

What it is made of comes from `streamdetect.sources.ingredients` and its sources; assumed here is that the preparation,
which takes seconds before a movement of one's own choice, is pressed into the reaction time after a cue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdetect.calibration.cues import REST
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.events import Annotation
from streamdetect.settings import to_samples
from streamdetect.sources import ingredients as make
from streamdetect.sources.grasp_and_lift import SFREQ
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS
from streamdetect.sources.simulate import SimulationSettings, draw_subject, simulate_rest

BLOCK_S = 0.02  # how long a cue waits for an answer to begin
SHORTEST_REACTION_S = 0.2
SITES = ("C3", "C4", "Cz", "Oz", "Pz")
_VOLTS_PER_MICROVOLT = 1e-6
_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


class SimulatedSubject:
    """A stream of simulated EEG that answers cues while it is played; what `streamdetect.player.play` needs.

    Parameters
    ----------
    name : str
        Name of the stream.
    hear : callable
        Returns the cues heard since the last call; asked every 20 ms of signal.
    seed : int
        Seed of the subject, and of all noise and reactions.
    minutes : float
        How long the signal lasts.
    settings : SimulationSettings or None
        Strength of the ingredients.

    Notes
    -----
    32 channels at 500 Hz. Any cue but ``rest`` starts a movement after a reaction time: mu and beta power fall over
    both motor cortices, deeper over C3, and a movement-related potential appears over Cz and C3. ``rest`` ends it: the
    rhythms come back, beta overshoots. Every cue evokes the same N1 and P3, which therefore tell nothing.
    """

    def __init__(
        self,
        name: str,
        hear: Callable[[], Sequence[str]],
        *,
        seed: int = 0,
        minutes: float = 10.0,
        settings: SimulationSettings | None = None,
    ) -> None:
        self.info = StreamInfo(GRASP_AND_LIFT_CHANNELS, SFREQ, name)
        self.n_times = to_samples(60.0 * minutes, SFREQ)
        self.annotations: tuple[Annotation, ...] = ()
        self._hear = hear
        self._seed = seed
        self._settings = settings or SimulationSettings()
        self._traits = draw_subject(1, seed=seed, settings=self._settings)
        # Made before the first sample is due, for it takes seconds.
        self._still = simulate_rest(np.random.default_rng(seed), self._traits, self._settings, self.n_times)

    def chunks(self, picks: None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        """Yield the signal in blocks of 20 ms at most, each made as late as possible so that cues are answered soon."""
        rng = np.random.default_rng([self._seed, 1])
        peaks_hz = (self._traits.mu_hz, self._traits.beta_hz)
        answers = _Answers(rng, self.n_times, self._settings, self._traits.depth, peaks_hz)
        n_block = min(to_samples(BLOCK_S, SFREQ), chunk_samples or self.n_times)
        for start in range(0, self.n_times, n_block):
            stop = min(start + n_block, self.n_times)
            for cue in self._hear():
                answers.hear(cue, start)
            microvolts = self._still[:, start:stop] + answers.between(start, stop)
            yield Chunk(microvolts * _VOLTS_PER_MICROVOLT, np.arange(start, stop) / SFREQ)


class _Answers:
    """The motor rhythms and the evoked potentials, of which the future changes with every cue."""

    def __init__(
        self,
        rng: np.random.Generator,
        n_times: int,
        settings: SimulationSettings,
        depth: float,
        peaks_hz: tuple[float, float],
    ) -> None:
        self._rng = rng
        self._settings = settings
        self._maps = np.stack([make.spread(site, GRASP_AND_LIFT_CHANNELS) for site in SITES], axis=1)
        self._evoked = np.zeros((len(SITES), n_times))
        self._moving = False
        mu_hz, beta_hz = peaks_hz
        self._rhythms = [
            _Rhythm(
                settings_uv * make.make_rhythm(rng, n_times, SFREQ, peak_hz, width_hz),
                SITES.index(site),
                share * depth * settings_depth,
                recovery_s,
                share * rebound,
            )
            for settings_uv, peak_hz, width_hz, settings_depth, recovery_s, rebound in (
                (settings.mu_uv, mu_hz, make.MU_WIDTH_HZ, settings.mu_depth, make.MU_RECOVERY_S, 0.0),
                (
                    *(settings.beta_uv, beta_hz, make.BETA_WIDTH_HZ, settings.beta_depth, make.BETA_RECOVERY_S),
                    settings.beta_rebound,
                ),
            )
            for site, share in (("C3", 1.0), ("C4", make.IPSILATERAL_SHARE))
        ]

    def hear(self, cue: str, now: int) -> None:
        """Change what comes from sample ``now`` on."""
        settings, rng = self._settings, self._rng
        peak = settings.cue_uv * self._vary()
        self._add("Oz", now, make.CUE_N1, peak)
        self._add("Pz", now, make.CUE_P3, peak)
        moves = cue != REST
        if moves == self._moving:
            return
        self._moving = moves
        reaction_s = max(SHORTEST_REACTION_S, rng.normal(make.CUE_LEAD_S["HandStart"], make.CUE_JITTER_S))
        onset = now + round(reaction_s * SFREQ)
        if moves:
            scale = self._vary()
            self._add("Cz", onset, _hurry(make.MRCP_EARLY, reaction_s), settings.mrcp_early_uv * scale)
            self._add("C3", onset, _hurry(make.MRCP_LATE, reaction_s), settings.mrcp_late_uv * scale)
        for rhythm in self._rhythms:
            if moves:
                rhythm.lose(now, onset, rng.normal(1.0, make.DEPTH_SD))
            else:
                rhythm.recover(onset)

    def between(self, start: int, stop: int) -> Floats:
        """Return samples start to stop in µV, shape (n_channels, stop - start)."""
        sources = self._evoked[:, start:stop].copy()
        for rhythm in self._rhythms:
            sources[rhythm.site] += rhythm.between(start, stop)
        return self._maps @ sources

    def _vary(self) -> float:
        return float(self._rng.normal(1.0, make.EVOKED_SD))

    def _add(self, site: str, onset: int, knots: Sequence[tuple[float, float]], peak: float) -> None:
        lead = round(-min(0.0, knots[0][0]) * SFREQ)
        n_times = lead + round(knots[-1][0] * SFREQ) + 1
        wave = make.evoke(n_times, SFREQ, np.array([lead]), knots, np.array([peak]))
        course = self._evoked[SITES.index(site), onset - lead : onset - lead + n_times]
        course += wave[: len(course)]


class _Rhythm:
    """One rhythm over one site, whose power is lost, comes back and overshoots.

    Parameters
    ----------
    course : ndarray, shape (n_times,)
        The rhythm at rest in µV.
    site : int
        Index of the site.
    depth : float
        Share of the power that a movement costs, 0 to 1.
    recovery_s : float
        How long it takes to come back, in s.
    rebound : float
        Excess of power afterwards, as a share of the power at rest.
    """

    def __init__(self, course: Floats, site: int, depth: float, recovery_s: float, rebound: float) -> None:
        self.site = site
        self._course = course
        self._depth = depth
        self._recovery_s = recovery_s
        self._rebound = rebound
        self._left = np.ones(len(course))  # share of the power
        self._excess = np.ones(len(course))

    def lose(self, now: int, onset: int, relative_depth: float) -> None:
        """Lose power from now on, all of it at the onset of the movement."""
        self._go_to(1.0 - float(np.clip(self._depth * relative_depth, 0.0, 0.95)), now, onset)

    def recover(self, end: int) -> None:
        """Come back from the end of the movement on."""
        self._go_to(1.0, end, end + round(self._recovery_s * SFREQ))
        self._excess[end:] *= make.rebound(len(self._excess[end:]), SFREQ, np.array([0]), self._rebound)

    def between(self, start: int, stop: int) -> Floats:
        """Return samples start to stop in µV."""
        return self._course[start:stop] * np.sqrt(self._left[start:stop] * self._excess[start:stop])

    def _go_to(self, level: float, start: int, stop: int) -> None:
        if start < len(self._left):
            span = self._left[start:stop]
            span[:] = np.linspace(span[0], level, stop - start)[: len(span)]
            self._left[stop:] = level


def _hurry(knots: Sequence[tuple[float, float]], reaction_s: float) -> list[tuple[float, float]]:
    """Press what comes before the onset into the reaction time."""
    squeeze = min(1.0, reaction_s / -knots[0][0])
    return [(time * squeeze if time < 0 else time, value) for time, value in knots]


class CueListener:
    """Hears the cues of an LSL marker stream, once there is one; a context manager.

    Parameters
    ----------
    predicate : str
        LSL predicate of the stream.
    connect_s : float
        How long connecting to a stream that has answered may take, in s.
    """

    def __init__(self, predicate: str, connect_s: float = 2.0) -> None:
        self._predicate = predicate
        self._connect_s = connect_s
        self._resolver: Any = None
        self._inlet: Any = None

    def __enter__(self) -> Self:
        import pylsl

        from streamdetect.errors import InputError

        try:
            self._resolver = pylsl.ContinuousResolver(pred=self._predicate)
        except RuntimeError as error:
            raise InputError(f"--answer: {self._predicate!r} is no predicate that LSL understands") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inlet is not None:
            self._inlet.close_stream()
        self._inlet = self._resolver = None

    def hear(self) -> list[str]:
        """Return the cues since the last call; waits only while it connects."""
        import pylsl
        from pylsl.util import LostError, TimeoutError

        if self._inlet is None:
            found = self._resolver.results()
            if not found:
                return []
            inlet = pylsl.StreamInlet(found[0], recover=True)
            try:
                inlet.open_stream(self._connect_s)
            except (LostError, TimeoutError) as error:
                _log.warning("cue stream %s answered but did not connect: %s", found[0].name(), error)
                return []
            self._inlet = inlet
        try:
            samples, _ = self._inlet.pull_chunk(0.0)
        except LostError:
            self._inlet = None
            return []
        return [str(sample[0]) for sample in samples]
