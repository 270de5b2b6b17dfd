from __future__ import annotations

import numpy as np
import pytest

from recordings import CH_NAMES, SFREQ, make_recording, recording_of
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.scoring.controls import PhaseRandomised
from streamdetect.scoring.evaluate import auc_by_event
from streamdetect.settings import EventSettings
from streamdetect.training.ablation import measure_needs
from streamdetect.training.choose import choose_features, make_trainers, score_features
from streamdetect.training.fit import train
from streamdetect.training.protocols import cross_validate_choice
from streamdetect.training.trainer import Trainer, TrainingSettings

MOVE = EventSettings("move", ("move",))
AUTO = TrainingSettings(events=(MOVE,), features="auto")


def slow_recording(folder, name, *, seed):
    """The move shows in the level of the signal and in no power that is not its own."""
    rng = np.random.default_rng(seed)
    data = 1e-5 * rng.standard_normal((len(CH_NAMES), 6000))
    notes = [Annotation(float(onset), 2.0, "move") for onset in np.cumsum(rng.uniform(4, 6, 10))]
    for note in notes:
        start = round(note.onset * SFREQ)
        data[1, start : start + 200] -= 1e-5
    return recording_of(folder, name, data, notes)


@pytest.fixture(scope="module")
def powers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("powers")
    return [make_recording(folder, f"p{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def slows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slows")
    return [slow_recording(folder, f"s{seed}", seed=seed) for seed in range(3)]


def labels_of(recordings):
    return lambda trainer: trainer.label(recordings)


def test_auto_takes_what_the_signal_holds_and_the_model_says_why(powers, slows):
    by_power = train(powers, AUTO, name="power").metadata
    by_level = train(slows, AUTO, name="level").metadata
    assert by_power.features.name in ("power", "bands")
    assert by_level.features.name == "lowpass"
    for metadata in (by_power, by_level):
        assert metadata.training.features == "auto"
        tried = metadata.training.features_tried
        assert max(tried, key=tried.get) == metadata.features.name
        assert set(tried) == {"power", "bands", "lowpass"}  # four channels: no Laplacian


def test_each_fold_chooses_by_itself(slows):
    trainers = make_trainers(CH_NAMES, SFREQ, AUTO)
    outcomes, grouped_by, thresholds, chosen = cross_validate_choice(trainers, labels_of(slows))
    assert 0 < thresholds["move"] < 1
    assert grouped_by == "recording"
    assert chosen == ["lowpass"] * 3
    assert [each.name for each in outcomes] == ["s0", "s1", "s2"]
    assert auc_by_event(outcomes)["move"] > 0.8


def test_a_named_set_is_no_choice(powers):
    trainers = make_trainers(CH_NAMES, SFREQ, TrainingSettings(events=(MOVE,), features="bands"))
    trainer, windows, tried = choose_features(trainers, labels_of(powers))
    assert (trainer.features.name, len(windows), tried) == ("bands", 3, {})
    with pytest.raises(InputError, match="2019 stands alone"):
        make_trainers(CH_NAMES, SFREQ, TrainingSettings(events=(MOVE,), features="2019+bands"))


def test_the_normaliser_takes_off_what_differs_between_recordings(tmp_path):
    """Each channel of each recording has another gain, larger than what the move changes."""
    scaled = []
    for seed, gain in enumerate(np.exp(np.random.default_rng(3).normal(0, 2, (4, len(CH_NAMES), 1)))):
        one = make_recording(tmp_path, f"g{seed}", seed=seed, seconds=120)
        data = np.concatenate([chunk.data for chunk in one.chunks()], axis=1)
        scaled.append(recording_of(tmp_path, f"h{seed}", gain * data, one.annotations))

    def auc_of(features):
        trainer = Trainer(CH_NAMES, SFREQ, TrainingSettings(events=(MOVE,), features=features))
        return score_features(trainer, trainer.label(scaled))

    assert auc_of("power+adaptive") > auc_of("power") + 0.05


@pytest.mark.parametrize("leak", ["shuffled labels", "random phases"])
def test_what_cannot_be_learnt_scores_chance_in_the_nested_protocol(tmp_path, leak):
    """Choice of features, calibration, normaliser and decision rule included."""
    recordings = [make_recording(tmp_path, f"r{seed}", seed=seed, seconds=240) for seed in range(5)]
    if leak == "random phases":
        recordings = [PhaseRandomised(one, seed=1) for one in recordings]
    else:
        rng = np.random.default_rng(0)
        for i, one in enumerate(recordings):
            data = np.concatenate([chunk.data for chunk in one.chunks()], axis=1)
            onsets = np.cumsum(rng.uniform(3, 8, 40))
            notes = [Annotation(float(onset), 2.0, "move") for onset in onsets if onset < 235]
            recordings[i] = recording_of(tmp_path, f"l{i}", data, notes)
    settings = TrainingSettings(events=(MOVE,), features="auto", stride_s=0.2)
    trainers = make_trainers(CH_NAMES, SFREQ, settings)
    trainers += [Trainer(CH_NAMES, SFREQ, TrainingSettings(events=(MOVE,), features="bands+adaptive", stride_s=0.2))]
    outcomes = cross_validate_choice(trainers, labels_of(recordings)).outcomes
    assert abs(auc_by_event(outcomes)["move"] - 0.5) < 0.05


def test_what_a_training_needs(powers):
    trainer = Trainer(CH_NAMES, SFREQ, TrainingSettings(events=(MOVE,), features="power+lowpass"))
    needs = measure_needs(trainer, labels_of(powers))
    assert list(needs.minutes) == sorted(needs.minutes)
    assert needs.minutes[-1] == pytest.approx(2, abs=0.25)  # of three recordings of a minute one is held out
    assert needs.by_minutes[-1]["move"].auc > needs.by_minutes[0]["move"].auc - 0.1
    assert [name for name, _ in needs.left_out] == [
        "without lda", "without rf", "without lr", "without power", "without lowpass",
    ]  # fmt: skip
    left_out = {name: auc["move"] for name, auc in needs.left_out}
    assert left_out["without power"] < left_out["without lowpass"] - 0.02
