"""simulate → train → export → inspect → evaluate → replay, and what each refuses."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest

from recordings import CH_NAMES, SFREQ, make_recording


def write_fif(folder, name, *, seed, data=None, events=True, ch_names=CH_NAMES, sfreq=SFREQ, seconds=40.0):
    """Write one of the small recordings as a FIF file."""
    made = make_recording(folder, f"{name}.raw", seed=seed, seconds=seconds)
    if data is None:
        data = np.concatenate([chunk.data for chunk in made.chunks()], axis=1)
    raw = mne.io.RawArray(data, mne.create_info(list(ch_names), sfreq, "eeg"), verbose="error")
    if events:
        notes = [note for note in made.annotations if note.onset + note.duration < data.shape[1] / sfreq]
        raw.set_annotations(
            mne.Annotations([n.onset for n in notes], [n.duration for n in notes], [n.description for n in notes])
        )
    path = folder / f"{name}_raw.fif"
    raw.save(path, verbose="error")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [write_fif(folder, f"r{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    from streamdetect.cli.main import run

    folder = tmp_path_factory.mktemp("model")
    with pytest.raises(SystemExit) as ending:
        run(
            [
                *("train", *map(str, files[:2]), "--event", "move", "--out", str(folder / "m.onnx")),
                *("--keep-sklearn", str(folder / "m.skops"), "--json", str(folder / "m.json")),
                *("--report", str(folder / "m.html")),
            ]
        )
    assert ending.value.code == 0
    return folder / "m.onnx"


def test_train_writes_model_card_estimator_report_and_figures(model):
    made = {path.name for path in model.parent.iterdir()}
    assert made == {"m.onnx", "m.md", "m.skops", "m.json", "m.html"}
    figures = json.loads(model.with_suffix(".json").read_text())
    assert figures["events"]["move"]["auc"] > 0.7
    assert figures["parity"]["max_difference"] < 1e-5
    assert 0 < figures["thresholds"]["move"] < 1
    assert "held-out" in figures["protocol"]


def test_export_gives_the_same_probabilities_again(command, model, tmp_path, files):
    ended = command("export", model.with_suffix(".skops"), tmp_path / "again.onnx")
    assert ended.code == 0, ended.err
    command("replay", files[2], "--model", model, "--out", tmp_path / "a.csv")
    command("replay", files[2], "--model", tmp_path / "again.onnx", "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_replay_writes_every_decision_and_its_figures(command, model, files, tmp_path):
    ended = command("replay", files[2], "--model", model, "--out", tmp_path / "d.csv", "--json", "-")
    assert ended.code == 0
    figures = json.loads(ended.out)
    lines = (tmp_path / "d.csv").read_text().splitlines()
    assert lines[0] == "time,valid,reason,p_move,sample"
    assert figures["n_decisions"] == len(lines) - 1 == 2000
    assert figures["n_invalid"] == sum(",false," in line for line in lines)
    assert not list(tmp_path.glob("*.partial"))


def test_evaluate_scores_the_model_with_its_controls(command, model, files):
    ended = command("evaluate", files[2], "--model", model, "--json", "-")
    scores = json.loads(ended.out)
    assert scores["protocol"] == "held-out"
    assert set(scores) >= {"n_windows", "n_invalid", "seconds", "events", "mean", "controls"}
    move = scores["events"]["move"]
    assert set(move["confusion"]) == {"tn", "fp", "fn", "tp"}
    assert set(move["members"]) == {"lda", "rf", "lr"}
    assert set(move["lag_s"]) == {"median", "p95"}
    assert set(scores["controls"]) == {"clock", "phase_randomised"}
    assert set(scores["luck"]["move"]) == {"auc", "p_value", "interval", "resampled_by"}
    assert scores["luck"]["move"]["auc"] == move["auc"]
    assert scores["luck"]["move"]["resampled_by"] == "trial"
    assert "move: better than luck (AUC" in ended.err  # the table gives way to the JSON


def test_evaluate_says_when_the_model_has_seen_the_recording(command, model, files):
    ended = command("evaluate", files[0], "--model", model, "--no-controls", "--json", "-")
    scores = json.loads(ended.out)
    assert scores["protocol"] == "in-sample"
    assert scores["luck"] == {}
    assert "than luck" not in ended.err
    assert "r0_raw.fif: the model was trained on this" in ended.err


def test_evaluate_cross_validates(command, files):
    ended = command("evaluate", *files, "--cross-validate", "--event", "move", "--no-controls", "--json", "-")
    scores = json.loads(ended.out)
    assert (scores["protocol"], scores["grouped_by"]) == ("held-out", "recording")
    assert scores["events"]["move"]["auc"] > 0.7
    low, high = scores["luck"]["move"]["interval"]
    assert low <= scores["events"]["move"]["auc"] <= high
    assert scores["luck"]["move"]["p_value"] < 0.05
    assert scores["luck"]["move"]["resampled_by"] == "recording"
    assert "move: better than luck (AUC" in " ".join(ended.err.split())


def test_evaluate_says_when_a_model_is_no_better_than_luck(command, tmp_path):
    rng = np.random.default_rng(0)
    noise = [
        write_fif(tmp_path, f"noise{seed}", seed=seed, data=1e-5 * rng.standard_normal((len(CH_NAMES), 8000)))
        for seed in range(2)
    ]
    ended = command("evaluate", *noise, "--cross-validate", "--event", "move", "--no-controls", "--json", "-")
    assert json.loads(ended.out)["luck"]["move"]["p_value"] > 0.05
    assert "! move: no better than luck" in ended.err
    assert "do not use this model" in " ".join(ended.err.split())


def test_random_split_prints_its_warning_and_the_published_table(command, files):
    arguments = ("evaluate", *files[:2], "--protocol", "random-split", "--event", "move", "--features", "2019")
    ended = command(*arguments)
    assert ended.code == 0, ended.err
    assert "measures memory, not detection" in " ".join(ended.out.split())
    assert "456263" in ended.out.replace(",", "").replace(" ", "")
    chosen = command(*arguments, "--false-positive-rate", "0.01")
    assert "chosen on a third of the training windows" in " ".join(chosen.out.split())
    refused = command("evaluate", *files[:2], "--cross-validate", "--event", "move", "--false-positive-rate", "0.01")
    assert refused.code == 2
    assert "--protocol random-split" in refused.err


def test_folders_stand_for_their_recordings(command, files, tmp_path):
    ended = command("evaluate", files[0].parent, "--cross-validate", "--event", "move", "--no-controls", "--json", "-")
    assert json.loads(ended.out)["events"]["move"]["n_events"] > 10


def test_a_recording_given_twice_counts_once(command, files):
    arguments = ("--cross-validate", "--event", "move", "--no-controls", "--json", "-")
    once = command("evaluate", files[0], files[1], *arguments)
    twice = command("evaluate", files[0], files[1], files[0], *arguments)
    assert json.loads(twice.out) == json.loads(once.out)


def test_inspect_shows_what_training_wrote(command, model):
    ended = command("inspect", model)
    assert ended.code == 0
    assert "r1_raw.fif" in ended.out


class TestBadInput:
    """One line, exit code 2, nothing half-written."""

    def train(self, refused, *recordings, event="move", out, extra=()):
        line = refused("train", *recordings, "--event", event, "--out", out, *extra)
        assert not [path for path in out.parent.iterdir() if path.suffix in (".onnx", ".md", ".partial", ".skops")]
        return line

    @pytest.fixture
    def out(self, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        return folder / "m.onnx"

    def test_a_file_that_is_not_there(self, refused, out, tmp_path):
        assert "gone.edf" in self.train(refused, tmp_path / "gone.edf", out=out)

    def test_a_file_that_is_no_recording(self, refused, out, tmp_path):
        path = tmp_path / "notes.edf"
        path.write_text("just some text\n" * 100)
        assert "notes.edf" in self.train(refused, path, out=out)

    def test_an_empty_file(self, refused, out, tmp_path):
        path = tmp_path / "empty_raw.fif"
        path.write_bytes(b"")
        assert "empty" in self.train(refused, path, out=out)

    def test_a_truncated_file(self, refused, out, files, tmp_path):
        path = tmp_path / "cut_raw.fif"
        path.write_bytes(files[0].read_bytes()[:20_000])
        assert "cut_raw.fif" in self.train(refused, path, out=out)

    def test_no_events(self, refused, out, tmp_path):
        assert "no events" in self.train(refused, write_fif(tmp_path, "silent", seed=1, events=False), out=out)

    def test_an_unknown_event(self, refused, out, files):
        line = self.train(refused, files[0], event="wave", out=out)
        assert "wave" in line
        assert "move" in line

    def test_one_class_only(self, refused, out, tmp_path):
        data = np.random.default_rng(0).standard_normal((4, 4000))
        raw = mne.io.RawArray(data, mne.create_info(list(CH_NAMES), SFREQ, "eeg"), verbose="error")
        raw.set_annotations(mne.Annotations([0.0], [40.0], ["move"]))
        raw.save(tmp_path / "always_raw.fif", verbose="error")
        assert "always going on" in self.train(refused, tmp_path / "always_raw.fif", out=out)

    def test_nothing_but_nan(self, refused, out, tmp_path):
        path = write_fif(tmp_path, "nan", seed=1, data=np.full((4, 4000), np.nan))
        assert "nan_raw.fif" in self.train(refused, path, out=out)

    def test_a_flat_channel(self, refused, out, tmp_path):
        data = np.random.default_rng(0).standard_normal((4, 4000))
        data[1] = 0.0
        line = self.train(refused, write_fif(tmp_path, "flat", seed=1, data=data), out=out)
        assert "Cz" in line
        assert "--exclude Cz" in line

    def test_other_sampling_rates(self, refused, out, files, tmp_path):
        assert "200 Hz" in self.train(refused, files[0], write_fif(tmp_path, "fast", seed=5, sfreq=200.0), out=out)

    def test_other_channels(self, refused, out, files, tmp_path):
        other = write_fif(tmp_path, "other", seed=5, ch_names=("C3", "Cz", "C4", "Oz"))
        assert "Pz" in self.train(refused, files[0], other, out=out)

    def test_unknown_features(self, refused, out, files):
        assert "wavelets" in self.train(refused, files[0], out=out, extra=("--features", "wavelets"))

    def test_a_low_pass_beyond_half_the_sampling_rate(self, refused, out, tmp_path):
        path = write_fif(tmp_path, "slow", seed=5, sfreq=50.0)
        assert "half the sampling rate" in self.train(refused, path, out=out)

    def test_a_folder_that_does_not_exist_for_the_model(self, refused, files, tmp_path):
        line = refused("train", *files[:2], "--event", "move", "--out", tmp_path / "no" / "m.onnx")
        assert "m.onnx" in line

    def test_a_model_for_other_channels(self, refused, model, tmp_path):
        other = write_fif(tmp_path, "other", seed=5, ch_names=("C3", "Cz", "C4", "Oz"))
        assert "Pz" in refused("replay", other, "--model", model)

    def test_a_model_for_another_sampling_rate(self, refused, model, tmp_path):
        line = refused("replay", write_fif(tmp_path, "fast", seed=5, sfreq=200.0), "--model", model)
        assert "200 Hz" in line
        assert "100 Hz" in line

    def test_a_file_that_is_no_model(self, refused, files, tmp_path):
        path = tmp_path / "m.onnx"
        path.write_bytes(b"not an ONNX file")
        assert "m.onnx" in refused("replay", files[0], "--model", path)

    def test_a_model_that_is_not_there(self, refused, files):
        assert "gone.onnx" in refused("replay", files[0], "--model", "gone.onnx")

    def test_neither_model_nor_cross_validation(self, refused, files):
        assert "--cross-validate" in refused("evaluate", files[0])

    def test_a_journal_that_is_none(self, refused, files, model, tmp_path):
        path = tmp_path / "j.jsonl"
        path.write_text("{}\n")
        assert "j.jsonl" in refused("replay", files[2], "--model", model, "--journal", path)

    def test_decisions_into_a_folder_that_does_not_exist(self, refused, files, model, tmp_path):
        assert "d.csv" in refused("replay", files[2], "--model", model, "--out", tmp_path / "no" / "d.csv")
