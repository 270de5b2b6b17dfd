from __future__ import annotations

import numpy as np
import pytest
from scipy import signal
from typer.testing import CliRunner

from streamdetect.cli.main import make_app, run
from streamdetect.errors import ChannelError, InputError
from streamdetect.events import Annotation, label_times
from streamdetect.sources.ingredients import EVENT_NAMES, INTERVALS_S
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS, scalp_angles
from streamdetect.sources.recording import read_recording
from streamdetect.sources.simulate import SimulationSettings, series_paths, simulate_series, write_series

SFREQ = 500


@pytest.fixture(scope="module")
def full():
    """A series of the default length."""
    return simulate_series(1, 1)


@pytest.fixture(scope="module")
def short():
    return simulate_series(2, 3, minutes=0.5)


def rows(series, *names):
    return series.microvolts[[series.info.ch_names.index(name) for name in names]].astype(float)


def around_hand_start(signals, series, before_s, after_s):
    """Cut trials: shape (n_channels, n_trials, n_times)."""
    before, after = round(before_s * SFREQ), round(after_s * SFREQ)
    starts = [at for at in series.onsets["HandStart"] if at >= before and at + after <= series.n_times]
    return np.stack([signals[:, at - before : at + after] for at in starts], axis=1)


def mean_spectrum(series, name):
    freqs, density = signal.welch(rows(series, name)[0], SFREQ, nperseg=2 * SFREQ)
    return freqs, density


def test_same_seed_same_samples(short):
    again = simulate_series(2, 3, minutes=0.5)
    np.testing.assert_array_equal(again.microvolts, short.microvolts)
    for name in EVENT_NAMES:
        np.testing.assert_array_equal(again.onsets[name], short.onsets[name])


def test_series_does_not_depend_on_those_made_before(short):
    simulate_series(2, 2, minutes=0.25)
    np.random.default_rng().normal(size=10)
    np.testing.assert_array_equal(simulate_series(2, 3, minutes=0.5).microvolts, short.microvolts)


@pytest.mark.parametrize("other", [{"subject": 1}, {"series": 4}, {"seed": 1}])
def test_subjects_series_and_seeds_differ(short, other):
    arguments = {"subject": 2, "series": 3, "seed": 0} | other
    series = simulate_series(arguments["subject"], arguments["series"], seed=arguments["seed"], minutes=0.5)
    similarity = np.corrcoef(series.microvolts.ravel(), short.microvolts.ravel())[0, 1]
    assert abs(similarity) < 0.2
    assert list(series.onsets["HandStart"][1:]) != list(short.onsets["HandStart"][1:])


def test_shape_and_units(full):
    assert full.info.ch_names == GRASP_AND_LIFT_CHANNELS
    assert (full.info.n_channels, full.info.sfreq) == (32, 500.0)
    assert 5.0 < full.n_times / SFREQ / 60 < 7.5
    assert full.data.dtype == np.float64
    np.testing.assert_array_equal(full.data, full.microvolts * 1e-6)
    assert 5e-6 < full.data.std() < 50e-6


@pytest.mark.parametrize("minutes", [0.25, 1.0])
def test_minutes_are_kept_and_hold_whole_trials(minutes):
    series = simulate_series(1, 1, minutes=minutes)
    assert series.n_times == minutes * 60 * SFREQ
    counts = {len(samples) for samples in series.onsets.values()}
    assert len(counts) == 1
    assert counts.pop() >= 1
    assert series.onsets["BothReleased"][-1] + 75 < series.n_times


def test_six_events_a_trial_in_the_paper_s_order_and_pace(full):
    assert tuple(full.onsets) == EVENT_NAMES
    times = np.array(list(full.onsets.values()))
    assert times.shape == (6, 34)
    assert (np.diff(times.T.ravel()) >= 0).all()
    gaps = np.median(np.diff(times, axis=0), axis=1) / SFREQ
    for gap, (median, _, between_sd) in zip(gaps, INTERVALS_S.values(), strict=True):
        assert abs(np.log(gap / median)) < 3 * between_sd + 0.2
    assert 8 < np.mean(np.diff(times[0])) / SFREQ < 13  # 10.3 to 13.2 s in subjects 1 to 3


def test_labels_are_75_samples_to_each_side(full):
    for row, samples in zip(full.labels, full.onsets.values(), strict=True):
        expected = np.min(np.abs(np.arange(full.n_times)[:, None] - samples), axis=1) <= 75
        np.testing.assert_array_equal(row, expected)
        by_rule = label_times(np.arange(full.n_times) / SFREQ, [Annotation(at / SFREQ, 0.0, "") for at in samples])
        np.testing.assert_array_equal(row, by_rule)


def test_files_round_trip(short, tmp_path):
    data_path, events_path = write_series(short, tmp_path)
    assert (data_path, events_path) == series_paths(tmp_path, 2, 3)
    lines = data_path.read_text().splitlines()
    assert lines[0] == "id," + ",".join(GRASP_AND_LIFT_CHANNELS)
    assert lines[1].startswith("subj2_series3_0,")
    assert lines[-1].startswith(f"subj2_series3_{short.n_times - 1},")
    cells = [line.split(",")[1:] for line in lines[1:]]
    np.testing.assert_array_equal(np.array(cells, dtype=np.int64).T, short.microvolts)  # integers: no decimal point
    marks = [line.split(",") for line in events_path.read_text().splitlines()]
    assert marks[0] == ["id", *EVENT_NAMES]
    np.testing.assert_array_equal(np.array([row[1:] for row in marks[1:]], dtype=int).T, short.labels)
    assert sorted(tmp_path.iterdir()) == sorted([data_path, events_path])


def test_streams_as_the_recording_that_its_files_are(short, tmp_path):
    read, made = read_recording(write_series(short, tmp_path)[0]), short.recording()
    assert (made.info, made.n_times, made.annotations) == (read.info, read.n_times, read.annotations)
    for picks in (None, ["C3", "Fp1"]):
        for ours, theirs in zip(made.chunks(picks, 700), read.chunks(picks, 700), strict=True):
            np.testing.assert_array_equal(ours.data, theirs.data)
            np.testing.assert_array_equal(ours.times, theirs.times)
    np.testing.assert_array_equal(np.hstack([chunk.data for chunk in short.chunks()]), short.data)
    with pytest.raises(ChannelError, match="Cx"):
        next(short.chunks(["Cx"]))


def test_background_falls_as_one_over_f(full):
    freqs, density = mean_spectrum(full, "F4")
    far_from_rhythms = ((freqs >= 30) & (freqs <= 45)) | ((freqs >= 60) & (freqs <= 90))
    slope = np.polyfit(np.log(freqs[far_from_rhythms]), np.log(density[far_from_rhythms]), 1)[0]
    assert -1.4 < slope < -0.6


def test_neighbours_share_more_than_distant_electrodes(full):
    sos = signal.butter(4, (2, 7), "bandpass", fs=SFREQ, output="sos")
    slow = signal.sosfiltfilt(sos, rows(full, "P7", "P3", "F8"), axis=1)
    near, far = np.corrcoef(slow)[0, 1:]
    assert near > 0.4 > 0.2 > abs(far)
    assert scalp_angles(["P7"], ["P3"]) < scalp_angles(["P7"], ["F8"])


def test_alpha_is_occipital(full):
    def peak(name):
        freqs, density = mean_spectrum(full, name)
        beside = (np.abs(freqs - 6) <= 0.5) | (np.abs(freqs - 15) <= 0.5)
        return density[(freqs >= 8) & (freqs <= 13)].max() / density[beside].mean()

    assert peak("Oz") > 10
    assert peak("Oz") > 4 * peak("Fz")


def test_line_noise_is_at_50_hz(full):
    freqs, density = signal.welch(rows(full, *GRASP_AND_LIFT_CHANNELS), SFREQ, nperseg=2 * SFREQ)
    at_50_hz, beside = density[:, freqs == 50][:, 0], density[:, (freqs > 45) & (freqs < 48)].mean(axis=1)
    assert (at_50_hz > 2 * beside).all()
    assert np.median(at_50_hz / beside) > 5


def test_blinks_are_frontal(full):
    high = np.quantile(np.abs(rows(full, "Fp1", "Pz", "Oz")), 0.995, axis=1)
    assert high[0] > 1.5 * high[1:].max()


@pytest.mark.parametrize(("band", "loss"), [((8, 13), 0.35), ((16, 28), 0.2)])
def test_rhythms_desynchronise_over_the_motor_cortex(full, band, loss):
    sos = signal.butter(4, band, "bandpass", fs=SFREQ, output="sos")
    power = signal.sosfiltfilt(sos, rows(full, "C3", "C4"), axis=1) ** 2
    trials = around_hand_start(power, full, 3.0, 1.0).mean(axis=1)
    rest = trials[:, : round(0.9 * SFREQ)].mean(axis=1)
    before = trials[:, round(2.4 * SFREQ) : round(2.8 * SFREQ)].mean(axis=1) / rest
    during = trials[:, round(3.1 * SFREQ) : round(3.9 * SFREQ)].mean(axis=1) / rest
    assert during[0] < 1 - loss  # contralateral to the right hand
    assert during[1] < 0.9
    assert before[0] < before[1]  # contralateral first


def test_cortical_potential_is_negative_before_the_movement(full):
    trials = around_hand_start(rows(full, "Cz", "C3", "Fp1"), full, 2.4, 1.0)
    average = trials.mean(axis=1) - trials[:, :, : round(0.6 * SFREQ)].mean(axis=(1, 2))[:, None]
    onset = slice(round(2.3 * SFREQ), round(2.45 * SFREQ))
    early = slice(round(1.2 * SFREQ), round(1.6 * SFREQ))
    assert (average[:2, onset].mean(axis=1) < -4).all()
    assert average[0, onset].mean() < average[0, early].mean() < 1
    assert (average[:2, onset].mean(axis=1) > -20).all()


def test_nothing_time_locked_is_left_without_it():
    silent = SimulationSettings(mrcp_early_uv=0, mrcp_late_uv=0, cue_uv=0, contact_uv=0, mu_depth=0, beta_depth=0)
    series = simulate_series(1, 1, settings=silent)
    trials = around_hand_start(rows(series, "Cz", "C3"), series, 2.4, 1.0)
    average = trials.mean(axis=1) - trials[:, :, : round(0.6 * SFREQ)].mean(axis=(1, 2))[:, None]
    assert (np.abs(average[:, round(2.3 * SFREQ) : round(2.45 * SFREQ)].mean(axis=1)) < 4).all()


@pytest.mark.parametrize("arguments", [{"minutes": 0.1}, {"n_trials": 0}])
def test_too_short_is_refused(arguments):
    with pytest.raises(InputError, match="expected at least"):
        simulate_series(1, 1, **arguments)


def test_command_writes_all_series_and_refuses_to_overwrite(tmp_path, capsys):
    folder = tmp_path / "new" / "gal"
    arguments = ["simulate", str(folder), "--subjects", "2", "--series", "2", "--minutes", "0.25", "--seed", "5"]
    assert CliRunner().invoke(make_app(), arguments).exit_code == 0
    assert len(list(folder.iterdir())) == 8
    path, _ = series_paths(folder, 2, 1)
    expected = simulate_series(2, 1, seed=5, minutes=0.25)
    np.testing.assert_array_equal(next(read_recording(path).chunks(chunk_samples=7500)).data, expected.data)

    path.write_text("precious")
    with pytest.raises(SystemExit) as stopped:
        run(arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--force" in message
    assert path.read_text() == "precious"
    assert CliRunner().invoke(make_app(), [*arguments, "--force"]).exit_code == 0
    assert path.read_text() != "precious"


def test_command_names_a_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        run(["simulate", str(tmp_path / "file"), "--minutes", "0.25"])
    assert stopped.value.code == 2
    assert "DIR" in capsys.readouterr().err
