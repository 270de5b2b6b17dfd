"""The main job: train, play over LSL, monitor, and find in the journal what a replay decides, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import mne
import pytest

from streamdetect.sinks.journal import read_journal

pytestmark = pytest.mark.usefixtures("lsl")


def streamdetect(*arguments, check=True):
    ended = subprocess.run(
        [sys.executable, "-m", "streamdetect.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not check or ended.returncode == 0, ended.stderr
    return ended


def play_into_monitor(recording, model, journal, *, name, speed, duration):
    player = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamdetect.cli.main", "play", str(recording)),
            *("--name", name, "--speed", str(speed), "--dtype", "float64"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        streamdetect(
            *("monitor", "--model", model, "--stream", name, "--journal", journal),
            *("--duration", duration, "--idle-timeout", 20),
        )
        player.communicate(timeout=60)
        assert player.returncode == 0
    finally:
        player.kill()


def test_simulated_series_from_files_to_live_decisions(tmp_path):
    folder = tmp_path / "gal"
    streamdetect("simulate", folder, "--series", 3, "--minutes", 0.5, "--seed", 3)
    data = sorted(folder.glob("*_data.csv"))
    assert [path.name for path in data] == [f"subj1_series{k}_data.csv" for k in (1, 2, 3)]
    model, journal = tmp_path / "m.onnx", tmp_path / "live.jsonl"
    streamdetect("train", *data[:2], "--event", "HandStart", "--out", model)
    play_into_monitor(data[2], model, journal, name="e2e-sim", speed=10, duration=30)
    compared = streamdetect("replay", data[2], "--model", model, "--journal", journal)
    assert "1500 live decisions, all equal, bit for bit" in compared.stdout


def test_live_equals_replay_for_every_block_and_the_normaliser(tmp_path):
    folder = tmp_path / "gal"
    streamdetect("simulate", folder, "--series", 2, "--minutes", 0.5)
    one, two = sorted(folder.glob("*_data.csv"))
    model, journal = tmp_path / "m.onnx", tmp_path / "live.jsonl"
    features = "power+bands+lowpass+mrcp+erd+wide+adaptive"
    streamdetect("train", one, two, "--event", "HandStart", "--features", features, "--out", model)
    play_into_monitor(one, model, journal, name="e2e-blocks", speed=4, duration=30)
    compared = streamdetect("replay", one, "--model", model, "--journal", journal, "--json", "-")
    found = json.loads(compared.stdout)["journal"]
    assert found["n_decisions"] == found["n_replayed"] > 1000
    assert found["n_different"] == 0


def test_live_equals_replay_while_channels_die(tmp_path):
    folder = tmp_path / "gal"
    streamdetect("simulate", folder, "--series", 3, "--minutes", 0.25)
    *training, dying = sorted(folder.glob("*_data.csv"))
    header, *rows = dying.read_text().splitlines()
    values = [row.split(",") for row in rows]
    flat, railed = header.split(",").index("C3"), header.split(",").index("Oz")
    for row in values[2500:]:
        row[flat] = values[2500][flat]
    for row in values[5000:]:
        row[railed] = "32767"
    dying.write_text("\n".join([header, *map(",".join, values)]) + "\n")
    model, journal = tmp_path / "m.onnx", tmp_path / "live.jsonl"
    streamdetect("train", *training, "--event", "HandStart", "--features", "erd", "--out", model)
    play_into_monitor(dying, model, journal, name="e2e-dying", speed=10, duration=15)
    compared = streamdetect("replay", dying, "--model", model, "--journal", journal)
    assert "750 live decisions, all equal, bit for bit" in compared.stdout
    changes = [["start", 0]]
    for record in read_journal(journal):
        if record["type"] == "decision" and record["reason"] != changes[-1][0]:
            changes.append([record["reason"], record["sample"]])
    assert [reason for reason, _ in changes] == ["start", "warm-up", "", "warm-up", "", "warm-up", ""]
    assert [sample for reason, sample in changes if reason == "warm-up"] == [
        9,
        3259,
        5759,
    ]  # a block of 500 and a lag of 250 later


def test_a_journal_of_another_recording_is_told_apart(tmp_path):
    folder = tmp_path / "gal"
    streamdetect("simulate", folder, "--series", 2, "--minutes", 0.25)
    one, two = sorted(folder.glob("*_data.csv"))
    model, journal = tmp_path / "m.onnx", tmp_path / "live.jsonl"
    streamdetect("train", one, two, "--event", "HandStart", "--out", model)
    play_into_monitor(one, model, journal, name="e2e-other", speed=10, duration=10)
    compared = streamdetect("replay", two, "--model", model, "--journal", journal, check=False)
    assert compared.returncode == 1
    assert re.search(r"\d+ differ: sample \d+: live", compared.stdout)


def test_real_recordings_live_equals_replay(tmp_path, data_dir):
    runs = {run: data_dir / "eeg_motor_S001" / f"S001R{run:02d}.edf" for run in (3, 5, 7, 9)}
    model, journal = tmp_path / "m.onnx", tmp_path / "live.jsonl"
    streamdetect("train", runs[3], runs[5], runs[7], "--event", "movement=T1,T2", "--out", model)
    play_into_monitor(runs[9], model, journal, name="e2e-real", speed=20, duration=125)
    compared = streamdetect("replay", runs[9], "--model", model, "--journal", journal, "--json", "-")
    assert json.loads(compared.stdout)["journal"] == {
        **{"n_decisions": 6666, "n_replayed": 6666, "n_compared": 6666, "n_different": 0}
    }
    assert sum(record["type"] == "decision" for record in read_journal(journal)) == 6666


@pytest.mark.parametrize("suffix", [".edf", ".vhdr", "_raw.fif"])
def test_formats_that_mne_writes_go_through_replay(tmp_path, suffix):
    from recordings import make_recording

    made = make_recording(tmp_path, "a", seed=1, seconds=30)
    (chunk,) = made.chunks(chunk_samples=made.n_times)
    raw = mne.io.RawArray(
        chunk.data, mne.create_info(list(made.info.ch_names), made.info.sfreq, "eeg"), verbose="error"
    )
    notes = [note for note in made.annotations if note.onset + note.duration < 29]
    raw.set_annotations(mne.Annotations(*zip(*[(n.onset, n.duration, n.description) for n in notes], strict=True)))
    path = tmp_path / f"written{suffix}"
    if suffix == "_raw.fif":
        raw.save(path, verbose="error")
    else:
        mne.export.export_raw(path, raw, verbose="error")
    event = "move=Comment/move" if suffix == ".vhdr" else "move"
    streamdetect("train", path, "--event", event, "--out", tmp_path / "m.onnx")
    ended = streamdetect("replay", path, "--model", tmp_path / "m.onnx", "--json", "-")
    assert json.loads(ended.stdout)["n_decisions"] == 1500


def test_an_xdf_with_clock_resets_goes_through_replay(tmp_path, data_dir):
    path = data_dir / "eeg_formats" / "clock_resets.xdf"
    streamdetect("train", path, "--out", tmp_path / "m.onnx")
    ended = streamdetect("replay", path, "--model", tmp_path / "m.onnx", "--json", "-")
    figures = json.loads(ended.stdout)
    assert figures["n_decisions"] == pytest.approx(27815 / 2, abs=2)
    assert 0 < figures["n_invalid"] < 500


def test_the_demo_runs_from_start_to_finish(tmp_path):
    ended = streamdetect("demo", "--quick", "--out", tmp_path / "demo", "--json", "-")
    figures = json.loads(ended.stdout)
    assert figures["n_different_from_replay"] == 0
    assert figures["live"]["n_lost"] == 0
    assert figures["protocol"] == "held-out"
    assert set(figures["controls"]) == {"clock", "phase_randomised"}
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "<img" in report
    assert not re.search(r'(?:src|href)="https?://(?!mne\.tools)', report)
    assert "next, on your own data" in ended.stderr
