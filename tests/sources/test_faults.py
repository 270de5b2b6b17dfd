from __future__ import annotations

import itertools

import numpy as np
import pytest

from fake_recording import FakeRecording
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import ChannelError
from streamdetect.sources.fault_plan import (
    ClockJump,
    Drift,
    Duplicates,
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
from streamdetect.sources.faults import Delivery, FaultCount, Reopening, apply_faults, count_faults
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.random_faults import random_plan

SFREQ = 250.0
INFO = StreamInfo(("C3", "Cz", "C4"), SFREQ, "rec.edf")


def make_recording(n_times=5000, gaps=None):
    return FakeRecording(np.random.default_rng(0).standard_normal((3, n_times)) * 1e-5, INFO, gaps or {})


def play(recording, *faults, seed=0, chunk_samples=250):
    return list(apply_faults(FaultPlan(seed=seed, faults=faults), recording.chunks(chunk_samples=chunk_samples), INFO))


def join(deliveries):
    """Return samples, stamps and the marks at the samples before which they stand."""
    data = np.concatenate([each.chunk.data for each in deliveries], axis=1)
    stamps = np.concatenate([each.stamps for each in deliveries])
    starts = np.cumsum([0, *(each.chunk.n_times for each in deliveries)])
    marks = {
        int(start): (each.chunk.n_lost, each.chunk.restart)
        for start, each in zip(starts, deliveries, strict=False)
        if each.chunk.n_lost or each.chunk.restart
    }
    return data, stamps, marks


def test_without_faults_all_comes_through_as_it_is():
    recording = make_recording(1000, {400: (50, False), 700: (0, True)})
    data, stamps, marks = join(play(recording))
    assert np.array_equal(data, recording.data)
    grid = np.arange(1050)
    assert np.array_equal(stamps[:700], np.delete(grid, np.s_[400:450])[:700] / SFREQ)
    assert np.array_equal(stamps[700:], grid[750:] / SFREQ + 601.0)
    assert marks == {400: (50, False), 700: (0, True)}


def test_a_gap_leaves_samples_out_and_says_how_many():
    recording = make_recording()
    data, stamps, marks = join(play(recording, Gap(onset=4.0, duration=2.0)))
    kept = np.delete(np.arange(5000), np.s_[1000:1500])
    assert np.array_equal(data, recording.data[:, kept])
    assert np.array_equal(stamps, kept / SFREQ)
    assert marks == {1000: (500, False)}


def test_a_gap_adds_to_what_the_recording_has_lost_itself():
    recording = make_recording(2000, {600: (100, False)})
    _, stamps, marks = join(play(recording, Gap(onset=2.0, duration=1.0)))  # samples 500 to 749, 600 to 699 not there
    assert marks == {500: (250, False)}
    assert stamps[500] == 750 / SFREQ


def test_nobody_can_count_what_is_missing_before_the_first_sample_or_after_the_last():
    deliveries = play(make_recording(1000), Gap(onset=0.0, duration=1.0), Gap(onset=3.0, duration=9.0))
    _, stamps, marks = join(deliveries)
    assert (stamps[0], stamps[-1], marks) == (1.0, 749 / SFREQ, {})
    assert deliveries[-1].n_next == 750


def test_duplicates_are_sent_again_right_after_with_the_same_stamps():
    recording = make_recording(1000)
    deliveries = play(recording, Duplicates(onset=1.0, duration=1.5), chunk_samples=100)
    data, stamps, marks = join(deliveries)
    order = np.concatenate((np.arange(625), np.arange(250, 1000)))
    assert np.array_equal(data, recording.data[:, order])
    assert np.array_equal(stamps, order / SFREQ)
    assert marks == {}
    assert sum(each.chunk.n_times for each in deliveries if each.repeated) == 375
    assert [each.due for each in deliveries] == [(each.n_next - 1) / SFREQ for each in deliveries]


def test_duplicates_at_the_end_are_sent_again_too():
    deliveries = play(make_recording(300), Duplicates(onset=1.0, duration=9.0))
    assert [each.stamps[-1] for each in deliveries] == [249 / SFREQ, 299 / SFREQ, 299 / SFREQ]


@pytest.mark.parametrize("jump_s", [3600.0, -5.0])
def test_a_clock_jump_moves_the_stamps_and_not_the_schedule(jump_s):
    deliveries = play(make_recording(1000), ClockJump(onset=2.0, jump_s=jump_s))
    _, stamps, marks = join(deliveries)
    assert np.array_equal(stamps[:500], np.arange(500) / SFREQ)
    assert np.array_equal(stamps[500:], np.arange(500, 1000) / SFREQ + jump_s)
    assert marks == {500: (0, True)}
    assert [each.due for each in deliveries] == [249 / SFREQ, 499 / SFREQ, 749 / SFREQ, 999 / SFREQ]


def test_a_drift_changes_the_rate_while_it_lasts():
    deliveries = play(make_recording(1000), Drift(onset=1.0, duration=2.0, ppm=10_000.0))
    _, stamps, marks = join(deliveries)
    steps = np.diff(stamps) * SFREQ
    assert steps[:250] == pytest.approx(1.0, abs=1e-9)
    assert steps[250:750] == pytest.approx(1.0 / 1.01, abs=1e-9)
    assert steps[750:] == pytest.approx(1.0, abs=1e-9)
    assert marks == {}
    assert deliveries[-1].due == stamps[-1]


def test_a_restart_loses_what_was_due_meanwhile():
    first, reopening, *rest = play(make_recording(1000), Restart(onset=1.0, duration=1.0, source_id="new"))
    assert first.chunk.n_times == 250
    assert reopening == Reopening(due=2.0, new_source_id=True, ch_names=INFO.ch_names)
    assert join(rest)[2] == {0: (250, False)}


def test_a_restart_with_other_channels_changes_the_rows_for_good():
    recording = make_recording(1000)
    _, reopening, *rest = play(recording, Restart(onset=1.0, duration=1.0, ch_names=("C4", "C3")))
    assert reopening == Reopening(due=2.0, new_source_id=False, ch_names=("C4", "C3"))
    assert np.array_equal(join(rest)[0], recording.data[[2, 0], 500:])


def channel_fault(fault):
    """Return what a fault of the first and third channel does from 2 s to 6 s, in µV, and check the rest."""
    recording = make_recording()
    data, stamps, marks = join(play(recording, fault))
    changed = np.flatnonzero(~np.isclose(data[2], recording.data[2], rtol=0.0, equal_nan=True))
    assert 500 <= changed[0] < 520
    assert 1480 < changed[-1] < 1500
    for part in (np.s_[:, :500], np.s_[:, 1500:], np.s_[1]):
        assert np.array_equal(data[part], recording.data[part])
    assert np.array_equal(stamps, np.arange(5000) / SFREQ)
    assert marks == {}
    return data[::2, 500:1500] * 1e6, recording.data[::2, 500:1500] * 1e6


WHEN = {"onset": 2.0, "duration": 4.0, "channels": ("C3", "C4")}


def test_nan_flat_and_railed_channels():
    assert np.isnan(channel_fault(NotANumber(**WHEN))[0]).all()
    assert channel_fault(Flat(**WHEN, level_uv=12.0))[0] == pytest.approx(12.0)
    assert channel_fault(Railed(**WHEN))[0] == pytest.approx(3276.7)


def test_line_noise_is_a_sine_of_its_frequency_and_amplitude():
    after, before = channel_fault(LineNoise(**WHEN, amplitude_uv=80.0, frequency=60.0))
    spectrum = 2.0 * np.abs(np.fft.rfft(after - before)) / 1000
    assert spectrum[:, 240] == pytest.approx(80.0)
    assert np.delete(spectrum, 240, axis=1).max() < 1e-6


def test_muscle_noise_is_broad_above_20_hz_and_different_in_each_channel():
    after, before = channel_fault(Muscle(**WHEN, amplitude_uv=40.0))
    noise = after - before
    assert noise.std(axis=1) == pytest.approx(40.0, rel=0.1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.1
    power = np.abs(np.fft.rfft(noise)) ** 2
    freqs = np.fft.rfftfreq(1000, 1.0 / SFREQ)
    assert power[:, freqs < 15].mean() < 0.05 * power[:, freqs > 25].mean()


def test_steps_go_up_and_down_in_turn():
    after, before = channel_fault(Steps(**WHEN, amplitude_uv=300.0, interval_s=1.5))
    step = (after - before)[0]
    assert step[:375] == pytest.approx(300.0)
    assert step[375:750] == pytest.approx(0.0, abs=1e-6)
    assert step[750:] == pytest.approx(300.0)


def test_several_faults_befall_a_channel_in_the_order_of_the_plan():
    noise = LineNoise(onset=0.0, duration=4.0, amplitude_uv=80.0)
    flat = Flat(onset=0.0, duration=4.0, level_uv=5.0)
    assert join(play(make_recording(1000), noise, flat))[0] == pytest.approx(5e-6)
    assert np.ptp(join(play(make_recording(1000), flat, noise))[0]) > 1.5e-4


@pytest.mark.parametrize(
    "fault", [Flat(**WHEN | {"channels": ("C9",)}), Restart(onset=1, duration=1, ch_names=("C9",))]
)
def test_a_channel_that_is_not_there_is_refused_before_the_first_sample(fault):
    with pytest.raises(ChannelError, match=r"fault plan.*C9"):
        apply_faults(FaultPlan(faults=(fault,)), iter(()), INFO)


@pytest.mark.parametrize("seed", range(12))
def test_the_cut_of_the_recording_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    recording = make_recording(9000, {4000: (77, False), 6000: (0, True)})
    plan = random_plan(seed, 36.0, INFO.ch_names)
    whole = list(apply_faults(plan, recording.chunks(chunk_samples=9000), INFO))

    def cut():
        for chunk in recording.chunks(chunk_samples=9000):
            edges = [0, *np.sort(rng.integers(0, chunk.n_times + 1, 40)), chunk.n_times]
            for number, (start, stop) in enumerate(itertools.pairwise(edges)):
                marks = {"n_lost": chunk.n_lost, "restart": chunk.restart} if number == 0 else {}
                yield Chunk(chunk.data[:, start:stop], chunk.times[start:stop], **marks)

    pieces = list(apply_faults(plan, cut(), INFO))
    for kind in (True, False):
        expected, found = (
            join([each for each in steps if isinstance(each, Delivery) and each.repeated == kind] or [EMPTY])
            for steps in (whole, pieces)
        )
        assert np.array_equal(found[0], expected[0], equal_nan=True)
        assert np.array_equal(found[1], expected[1])
        assert found[2] == expected[2]
    assert [each for each in pieces if isinstance(each, Reopening)] == [
        each for each in whole if isinstance(each, Reopening)
    ]


EMPTY = Delivery(Chunk(np.empty((3, 0)), np.empty(0)), np.empty(0), 0.0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_of_a_random_plan_the_stamps_tell_each_lost_sample(seed):
    plan = random_plan(seed, 36.0, INFO.ch_names)
    gaps = GapMarker(SFREQ)
    truth, counted = [], []
    for each in apply_faults(plan, make_recording(9000).chunks(chunk_samples=100), INFO):
        if isinstance(each, Delivery) and not each.repeated:
            truth.append(each.chunk.n_lost)
            counted += [chunk.n_lost for chunk in gaps.mark(each.chunk.data, 1e5 + each.stamps)]
    assert sum(counted) == sum(truth)
    assert sum(truth) == sum(
        count.n_samples for kind, count in count_faults(plan, SFREQ, 9000).items() if kind in ("gap", "restart")
    )


def test_the_noise_depends_on_the_seed_alone():
    noise = Muscle(onset=0.0, duration=4.0, amplitude_uv=40.0)
    first, again, other = (join(play(make_recording(500), noise, seed=seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not (first == other).any()


def test_what_was_performed_is_counted_by_kind():
    plan = FaultPlan(
        faults=(
            Gap(onset=1.0, duration=1.0),
            Flat(onset=3.0, duration=1.0),
            Gap(onset=5.0, duration=2.0),
            ClockJump(onset=8.0, jump_s=9.0),
        )
    )
    assert count_faults(plan, SFREQ, 1500) == {
        "gap": FaultCount(2, 500),
        "flat": FaultCount(1, 250),
        "clock-jump": FaultCount(0, 0),
    }
