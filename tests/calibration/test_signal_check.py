from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from streamdetect.calibration.signal_check import (
    check_signal,
    describe_faults,
    describe_rate,
    measure_power,
    signal_table,
)
from streamdetect.sources.simulate import simulate_series

SFREQ = 250.0
N_TIMES = int(5 * SFREQ)
TIMES = np.arange(N_TIMES) / SFREQ


def noise(uv=10.0, seed=0):
    return uv * 1e-6 * np.random.default_rng(seed).standard_normal(N_TIMES)


def mains(hz, uv):
    return uv * 1e-6 * np.sin(2 * np.pi * hz * TIMES)


def judge(row, sfreq=SFREQ):
    (found,) = check_signal(row[None], ["C3"], sfreq)
    return found.verdict, found.fault


def frozen(seconds):
    row = noise()
    row[: round(seconds * SFREQ)] = row[0]
    return row


def not_finite():
    row = noise()
    row[7] = np.nan
    return row


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (noise(), ("good", "")),
        (noise() + 0.2, ("good", "")),  # 200 mV: an electrode's offset at an amplifier without a high-pass
        (noise() + 1e-3 * TIMES, ("good", "")),  # it drifts
        (np.rint(noise() * 1e6) * 1e-6, ("good", "")),  # whole µV, as in the Grasp-and-Lift files
        (np.zeros(N_TIMES), ("bad", "flat")),
        (np.full(N_TIMES, 12e-6), ("bad", "flat")),
        (frozen(2.1), ("bad", "flat")),
        (frozen(1.5), ("good", "")),
        (np.full(N_TIMES, -0.1875), ("bad", "railed")),
        (np.clip(noise(400), -3e-4, 3e-4), ("bad", "railed")),
        (noise(0.2), ("bad", "silent")),
        (noise() + mains(50, 100), ("bad", "mains")),
        (noise() + mains(60, 100), ("bad", "mains")),
        (noise() + mains(50, 20), ("poor", "mains")),
        (noise() + mains(50, 5), ("good", "")),
        (noise(600), ("bad", "noisy")),
        (noise(200), ("poor", "noisy")),
        (not_finite(), ("bad", "not finite")),
    ],
)
def test_each_fault_has_its_rule(row, expected):
    assert judge(row) == expected


def test_simulated_eeg_is_good():
    series = simulate_series(1, 1, minutes=0.5)
    checks = check_signal(series.data[:, :2500], series.info.ch_names, 500.0)
    assert {one.verdict for one in checks} == {"good"}


def test_real_eeg_is_good(data_dir):
    from streamdetect.sources.recording import read_recording

    recording = read_recording(data_dir / "eeg_motor_S001" / "S001R03.edf")
    first = next(recording.chunks(chunk_samples=800))
    assert {one.verdict for one in check_signal(first.data, recording.info.ch_names, 160.0)} == {"good"}


def test_power_is_measured_in_microvolts_and_shares():
    rows = np.stack([mains(10, 20), mains(10, 20) + mains(50, 20), mains(60, 20)]) * 1e6
    assert measure_power(rows, SFREQ)[1] == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    white = np.stack([noise(seed=seed) for seed in range(20)]) * 1e6
    in_band = 10.0 * np.sqrt(44.0 / (SFREQ / 2))
    assert measure_power(white, SFREQ)[0].mean() == pytest.approx(in_band, rel=0.05)


def test_a_blink_counts_for_little():
    blink = np.zeros(N_TIMES)
    blink[200:300] = 200e-6 * np.hanning(100)
    (calm,), (blinking,) = (check_signal(row[None], ["Fp1"], SFREQ) for row in (noise(), noise() + blink))
    assert blinking.noise_uv == pytest.approx(calm.noise_uv, rel=0.15)


def test_where_the_rate_is_too_low_for_mains_there_is_no_share():
    (found,) = check_signal(noise()[None], ["C3"], 100.0)
    assert np.isnan(found.mains_share)
    assert found.verdict == "good"


def test_less_than_a_second_cannot_be_judged():
    with pytest.raises(ValueError, match="at least 1 s"):
        check_signal(noise()[None, :100], ["C3"], SFREQ)


def test_one_line_names_the_channels_and_what_to_do():
    rows = np.stack([noise(), np.zeros(N_TIMES), noise() + mains(50, 100)])
    text = describe_faults(check_signal(rows, ["Cz", "C3", "C4"], SFREQ))
    assert "2 of 3 channels are bad: C3 (flat), C4 (mains)" in text
    assert "--exclude C3,C4" in text
    assert "--ignore-signal-check" in text
    assert "\n" not in text
    assert describe_faults(check_signal(rows[:1], ["Cz"], SFREQ)) == ""


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_where_all_channels_have_a_wrong_size_the_unit_is_suspected(factor):
    rows = factor * np.stack([noise(seed=1), noise(seed=2)])
    text = describe_faults(check_signal(rows, ["C3", "C4"], SFREQ))
    assert "--unit" in text
    assert "--exclude" not in text


@pytest.mark.parametrize(
    ("n_times", "found", "is_fine"),
    [(1250, 250.4, True), (1250, 240.0, True), (1250, 200.0, False), (100, 250.0, False)],
)
def test_a_rate_that_is_not_the_streams_is_named(n_times, found, is_fine):
    text = describe_rate(n_times, found, SFREQ)
    assert (text == "") == is_fine
    assert is_fine or "expected 250 Hz" in text


def test_the_table_shows_every_channel():
    rows = np.stack([noise(), np.full(N_TIMES, np.nan)])
    console = Console(width=100)
    with console.capture() as shown:
        console.print(signal_table(check_signal(rows, ["Cz", "C3"], SFREQ)))
    lines = shown.get().splitlines()
    assert any("Cz" in line and "good" in line for line in lines)
    assert any("C3" in line and "bad: not finite" in line and "–" in line for line in lines)
