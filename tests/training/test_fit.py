from __future__ import annotations

import numpy as np
import pytest

import contract
from recordings import CH_NAMES, SFREQ, make_recording, recording_of
from streamdetect.detector import Detector
from streamdetect.errors import EventError, InputError
from streamdetect.events import Annotation, check_events
from streamdetect.offline import replay
from streamdetect.scoring.evaluate import auc_by_event, evaluate, trained_on
from streamdetect.settings import EventSettings
from streamdetect.training.clock import clock_auc
from streamdetect.training.ensemble import member_probabilities
from streamdetect.training.export import export_model
from streamdetect.training.fit import clear_threshold, train
from streamdetect.training.folds import make_folds
from streamdetect.training.protocols import controls, cross_validate, random_split
from streamdetect.training.trainer import Trainer, TrainingSettings

MOVE = EventSettings("move", ("move",))
TAP = EventSettings("tap", ("tap",))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    return [make_recording(folder, f"r{seed}", seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def trained(recordings):
    return train(recordings[:3], TrainingSettings(events=(MOVE, TAP)), name="test", command="a test")


def label(recordings, **settings):
    trainer = Trainer(CH_NAMES, SFREQ, TrainingSettings(**({"events": (MOVE,)} | settings)))
    return trainer, trainer.label(recordings)


def test_an_event_that_shows_in_the_signal_is_learnt(trained):
    auc = auc_by_event(trained.outcomes)
    assert auc["move"] > 0.8
    assert trained.metadata.scores["events"]["move"]["auc"] == auc["move"]


def test_metadata_say_what_was_done(trained, recordings):
    metadata = trained.metadata
    assert metadata.ch_names == CH_NAMES
    assert metadata.training.command == "a test"
    assert [each.name for each in metadata.training.recordings] == ["r0", "r1", "r2"]
    assert metadata.training.stride_samples == 10
    assert metadata.scores["protocol"].startswith("held-out, by recording")
    assert set(metadata.patterns) == {"lda", "rf", "lr"}
    assert set(metadata.clock.rates) == {"move", "tap"}
    assert metadata.training.versions["scikit-learn"]
    first = metadata.training.recordings[0]
    n_seconds = sum(note.duration for note in recordings[0].annotations)
    assert first.n_positive["move"] == pytest.approx(n_seconds * 10, rel=0.15)


def test_the_threshold_keeps_to_the_false_alarms_asked_for(trained):
    for name in ("move", "tap"):
        assert trained.metadata.scores["events"][name]["false_alarms_per_min"] <= 1.0


def test_the_exported_model_decides_as_the_estimator_on_the_same_features(trained, recordings, tmp_path):
    export_model(trained.estimator, trained.windows, trained.metadata, tmp_path / "m.onnx")
    detector = Detector.load(tmp_path / "m.onnx")
    _, (windows,) = label([recordings[3]], events=(MOVE, TAP))
    decisions = contract.join(list(replay(recordings[3], detector)))
    expected = member_probabilities(trained.estimator, windows.features.values[windows.valid])["probability"]
    valid = decisions["quality"] == 0
    np.testing.assert_array_equal(valid, windows.valid)
    np.testing.assert_allclose(decisions["probability"][valid], expected, atol=1e-5)
    assert np.isnan(decisions["probability"][~valid]).all()


def test_a_model_is_scored_on_a_recording_it_has_not_seen(trained, recordings, tmp_path):
    export_model(trained.estimator, trained.windows, trained.metadata, tmp_path / "m.onnx")
    detector = Detector.load(tmp_path / "m.onnx")
    scores, _, control_scores = evaluate([recordings[3]], detector)
    assert scores["events"]["move"]["auc"] > 0.8
    assert scores["events"]["move"]["event_recall"] > 0.3
    assert set(control_scores) == {"clock", "phase_randomised"}
    assert trained_on(trained.metadata, recordings) == ["r0", "r1", "r2"]


def test_training_twice_gives_the_same_model(recordings):
    one, two = (train(recordings[:2], TrainingSettings(events=(MOVE,)), name="test") for _ in range(2))
    assert one.metadata.scores == two.metadata.scores
    np.testing.assert_array_equal(
        member_probabilities(one.estimator, one.windows)["probability"],
        member_probabilities(two.estimator, one.windows)["probability"],
    )


def test_one_recording_is_cut_into_blocks_that_lie_apart(recordings):
    trainer, windows = label(recordings[:1])
    folds, grouped_by = trainer.folds(windows)
    assert grouped_by == "block of one recording"
    tested = np.concatenate([fold.test[0] for fold in folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(windows[0].features)))
    window = trainer.features.window_samples // trainer.features.hop_samples
    for fold in folds:
        distance = np.abs(fold.train[0][:, None] - fold.test[0][None, [0, -1]]).min()
        assert distance > window  # no sample is in a training window and in a test window
        assert not set(fold.train[0]) & set(fold.test[0])


def test_folds_keep_recordings_together(recordings):
    _, windows = label(recordings)
    folds, grouped_by = make_folds(windows, 3, margin=10)
    assert grouped_by == "recording"
    assert len(folds) == 3
    for fold in folds:
        for train_part, test_part in zip(fold.train, fold.test, strict=True):
            assert (len(train_part) == 0) != (len(test_part) == 0)


def test_held_out_scores_chance_where_a_random_split_finds_memory(tmp_path):
    """Labels that have nothing to do with a slowly drifting signal: only a leak can find them."""
    rng = np.random.default_rng(0)
    recordings = []
    for i in range(4):
        drift = np.exp(np.repeat(rng.normal(0, 0.3, (4, 60)).cumsum(axis=1), 100, axis=1))
        data = 1e-5 * drift * rng.standard_normal((4, 6000))
        onsets = np.cumsum(rng.uniform(2, 6, 12))
        notes = [Annotation(float(onset), 1.5, "move") for onset in onsets if onset < 57]
        recordings.append(recording_of(tmp_path, f"d{i}", data, notes))
    trainer, windows = label(recordings, stride_s=0.02)
    held_out = auc_by_event(cross_validate(trainer, windows)[0])["move"]
    split = random_split(trainer, windows)["events"]["move"]
    assert abs(held_out - 0.5) < 0.1
    assert split["auc"] > 0.8
    assert split["event_recall"] is None
    assert split["lag_s"] == {"median": None, "p95": None}


def test_random_split_scores_a_third_of_all_windows_at_one_half(recordings):
    trainer, windows = label(recordings[:2], features="2019", stride_s=0.0)
    scores = random_split(trainer, windows)
    n_valid = sum(int(one.valid.sum()) for one in windows)
    assert scores["n_windows"] == pytest.approx(0.33 * n_valid, abs=1)
    assert sum(scores["mean"]["confusion"].values()) == scores["n_windows"]
    assert scores["thresholds"] == {"move": 0.5}


def test_random_split_chooses_thresholds_inside_the_training_windows(recordings):
    trainer, windows = label(recordings[:2], features="2019", stride_s=0.0)
    found = [random_split(trainer, windows, rate) for rate in (0.02, 0.2)]
    rates = [scores["events"]["move"]["false_positive_rate"] for scores in found]
    assert rates == pytest.approx([0.02, 0.2], rel=0.5)  # on windows that had no part in the choice
    assert found[0]["thresholds"]["move"] > found[1]["thresholds"]["move"]
    assert found[0]["mean"]["recall"] < found[1]["mean"]["recall"]


def test_controls_score_chance_on_irregular_events(recordings):
    trainer, windows = label(recordings)
    found = controls([trainer], recordings, windows)
    assert abs(found["phase_randomised"]["move"] - 0.5) < 0.15  # four minutes of signal
    assert abs(found["clock"]["move"] - 0.5) < 0.15


def test_the_clock_control_sees_a_fixed_schedule(tmp_path):
    notes = [Annotation(float(onset), 2.0, "move") for onset in range(2, 56, 4)]
    data = np.random.default_rng(0).standard_normal((4, 6000))
    trainer, windows = label([recording_of(tmp_path, f"c{i}", data + i, notes) for i in range(3)])
    assert clock_auc(windows, trainer.folds(windows)[0], ("move",))["move"] > 0.99


def test_an_event_in_one_recording_only_is_refused(tmp_path, recordings):
    lonely = make_recording(tmp_path, "lonely", seed=9)
    notes = [Annotation(5.0, 0.0, "tap")]
    others = [recording_of(tmp_path, "q", np.random.default_rng(1).standard_normal((4, 3000)), notes)]
    with pytest.raises(EventError, match=r"never going on in the .* windows of q"):
        train([lonely, *others], TrainingSettings(events=(MOVE,)), name="x")


def test_an_event_that_is_always_going_on_is_refused(tmp_path):
    data = np.random.default_rng(1).standard_normal((4, 3000))
    both = [recording_of(tmp_path, f"w{i}", data + i, [Annotation(0.0, 40.0, "move")]) for i in range(2)]
    with pytest.raises(EventError, match="always going on"):
        train(both, TrainingSettings(events=(MOVE,)), name="x")


def test_a_copied_recording_goes_with_its_original(recordings):
    _, windows = label([*recordings[:3], recordings[0]])
    folds, _ = make_folds(windows, 5, margin=10)
    assert len(folds) == 3
    for fold in folds:
        assert (len(fold.test[0]) == 0) == (len(fold.test[3]) == 0)
    with pytest.raises(InputError, match="the same file 2 times"):
        make_folds([windows[0], windows[3]], 5, margin=10)


def test_evaluation_asks_for_one_annotation_of_an_event(recordings):
    wide = EventSettings("any", ("move", "T9"))
    check_events(recordings, [wide], all_descriptions=False)
    with pytest.raises(EventError, match="event any: T9 is in no recording"):
        check_events(recordings, [wide])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.999999, 1.0])
def test_a_threshold_is_moved_off_the_windows_probabilities(threshold):
    rng = np.random.default_rng(0)
    probability = np.concatenate([rng.random(2000), 1 - 1e-7 * rng.random(500), [0.3, 1.0]])
    moved = clear_threshold(threshold, probability)
    assert 0 <= moved <= 1
    assert np.abs(probability - moved).min() > 1e-6
    assert abs(moved - threshold) < 0.01
