from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from scipy import signal

from streamdetect.calibration.cues import REST, draw_cues
from streamdetect.calibration.subject import SimulatedSubject
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS
from streamdetect.sources.simulate import SimulationSettings, draw_subject, simulate_rest, simulate_series

SFREQ = 500
START_S = 4.0  # of the first cue
CUES = draw_cues("movement", n_trials=16, movement_s=3.0, rest_s=(3.0, 5.0), seed=2)


def simulate(cues, seed=0, seconds=None):
    """Return the signal in µV of a subject who hears each cue at its time, within 20 ms."""
    due, n_made = deque(cues), 0

    def hear():
        heard = []
        while due and due[0].onset + START_S <= n_made / SFREQ:
            heard.append(due.popleft().name)
        return heard

    seconds = seconds or CUES[-1].end + START_S
    subject = SimulatedSubject("s", hear, seed=seed, minutes=seconds / 60)
    blocks = []
    for chunk in subject.chunks(chunk_samples=SFREQ):
        assert chunk.n_times <= 10
        assert chunk.times[0] == n_made / SFREQ
        blocks.append(chunk.data * 1e6)
        n_made += chunk.n_times
    assert n_made == subject.n_times
    return np.concatenate(blocks, axis=1), subject.info.ch_names


@pytest.fixture(scope="module")
def answered():
    return simulate(CUES)


@pytest.fixture(scope="module")
def unmoved():
    return simulate(())


def cut(course, name, start_s, stop_s):
    """Return the pieces of a course around the cues of a name, shape (n_cues, n_times)."""
    starts = [round((START_S + cue.onset + start_s) * SFREQ) for cue in CUES[1:] if cue.name == name]
    n = round((stop_s - start_s) * SFREQ)
    return np.stack([course[at : at + n] for at in starts if at + n <= len(course)])


def band(data, low, high):
    sos = signal.butter(4, (low, high), "bandpass", fs=SFREQ, output="sos")
    return signal.sosfiltfilt(sos, data)


def test_a_still_subject_has_no_motor_rhythm_but_all_the_rest():
    traits, settings = draw_subject(1, seed=0, settings=SimulationSettings()), SimulationSettings()
    still = simulate_rest(np.random.default_rng(0), traits, settings, 60 * SFREQ)
    whole = simulate_series(1, 1, minutes=1.0).microvolts.astype(float)
    names = GRASP_AND_LIFT_CHANNELS
    assert still.shape == (32, 60 * SFREQ)
    for site, low, high in (("C3", 0.0, 0.5), ("Oz", 0.5, 2.0)):
        at = names.index(site)
        ratio = (band(still[at], 9, 13) ** 2).mean() / (band(whole[at], 9, 13) ** 2).mean()
        assert low < ratio < high


def test_without_cues_nothing_moves_and_a_seed_makes_the_signal(answered, unmoved):
    first = round((START_S + CUES[1].onset) * SFREQ)
    before = round((START_S - 0.1) * SFREQ)
    np.testing.assert_array_equal(answered[0][:, :before], unmoved[0][:, :before])
    assert not np.allclose(answered[0][:, first:], unmoved[0][:, first:])
    assert not np.allclose(simulate((), seed=1, seconds=2.0)[0], unmoved[0][:, : 2 * SFREQ])


@pytest.mark.parametrize(("low", "high"), [(9, 13), (16, 24)])
def test_rhythms_fall_during_movement_and_come_back(answered, low, high):
    data, ch_names = answered
    ratio = {}
    for site in ("C3", "C4", "Oz"):
        power = band(data[ch_names.index(site)], low, high) ** 2
        moving, resting = cut(power, "movement", 0.8, 3.0).mean(), cut(power, "movement", -1.2, 0.0).mean()
        ratio[site] = moving / resting
    assert ratio["C3"] < 0.7
    assert ratio["C4"] < 0.85
    assert ratio["Oz"] > 0.75  # no motor cortex there


def test_beta_overshoots_after_movement(answered):
    data, ch_names = answered
    power = band(data[ch_names.index("C3")], 16, 24) ** 2
    assert cut(power, REST, 1.1, 1.9).mean() > 1.2 * cut(power, REST, 2.5, 3.0).mean()


def test_the_potential_comes_with_the_movement_only(answered, unmoved):
    change = answered[0][answered[1].index("Cz")] - unmoved[0][answered[1].index("Cz")]
    slow = signal.sosfiltfilt(signal.butter(4, 4.0, fs=SFREQ, output="sos"), change)
    movement, rest = (cut(slow, name, 0.0, 1.0).mean(axis=0) for name in ("movement", REST))
    assert movement.min() < -4.0
    assert 0.2 < movement.argmin() / SFREQ < 0.7  # within a reaction
    assert rest.min() > -2.5


def test_every_cue_is_seen_alike(answered, unmoved):
    change = answered[0][answered[1].index("Pz")] - unmoved[0][answered[1].index("Pz")]
    slow = signal.sosfiltfilt(signal.butter(4, 6.0, fs=SFREQ, output="sos"), change)
    for name in ("movement", REST):
        p3 = cut(slow, name, 0.0, 0.8).mean(axis=0)
        assert 0.25 < p3.argmax() / SFREQ < 0.5
        assert p3.max() > 3.0


def test_nothing_is_answered_before_it_is_heard(answered, unmoved):
    first = CUES[0].onset + START_S
    at = round(first * SFREQ)
    np.testing.assert_array_equal(answered[0][:, : at - 1], unmoved[0][:, : at - 1])


def test_a_cue_that_asks_for_what_is_done_already_changes_nothing_but_what_is_seen():
    start, again = CUES[1], CUES[2]
    twice = [start, type(again)("movement", again.onset, again.duration)]
    data, _ = simulate(twice, seconds=30.0)
    once, _ = simulate([start], seconds=30.0)
    late = round((START_S + again.onset + 1.0) * SFREQ)  # when the evoked potentials have passed
    np.testing.assert_allclose(data[:, late:], once[:, late:])
