"""The live commands as a user runs them: processes of their own, signals included."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys

import mne
import numpy as np
import pytest

from models import make_model
from streamdetect.chunk import StreamInfo
from streamdetect.sinks.journal import read_journal
from streamdetect.sinks.lsl import SignalOutlet
from streamdetect.sources.lsl import LSLSource
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 250.0
# A process started in the background of a shell inherits that Ctrl-C is ignored; in a terminal it is not.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from streamdetect.cli.main import run
run()
"""


def start(command, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, command, *map(str, arguments)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def n_records(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def recording_path(tmp_path_factory):
    data = np.random.default_rng(0).standard_normal((3, int(60 * SFREQ))) * 1e-5
    raw = mne.io.RawArray(data, mne.create_info(["Cz", "C3", "C4"], SFREQ, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([1.0], [0.0], ["HandStart"]))
    path = tmp_path_factory.mktemp("recording") / "long_raw.fif"
    raw.save(path, verbose="error")
    return path


def test_play_and_monitor_to_the_end_of_the_duration(model_path, recording_path, tmp_path):
    player = start("play", recording_path, "--name", "cli-a", "--speed", "20", "--dtype", "float64")
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "cli-a", "--duration", "20"),
        *("--journal", tmp_path / "j.jsonl", "--json", "-"),
    )
    out, err = monitor.communicate(timeout=60)
    player.send_signal(signal.SIGTERM)
    played, _ = player.communicate(timeout=60)
    assert monitor.returncode == 0, err
    summary = json.loads(out)
    assert (summary["reason"], summary["n_samples"], summary["stream"]) == ("duration", 5000, "cli-a")
    assert "5000 samples, 0 lost" in err
    assert player.returncode in (0, 130)
    assert "markers sent" in played
    assert [record["type"] for record in read_journal(tmp_path / "j.jsonl")][-1] == "end"


def test_ctrl_c_and_sigterm_end_them_at_once_with_a_summary(model_path, recording_path, tmp_path):
    player = start("play", recording_path, "--name", "cli-b")
    journal = tmp_path / "j.jsonl"
    monitor = start("monitor", "--model", model_path, "--stream", "cli-b", "--journal", journal)
    wait_until(lambda: n_records(journal) > 5)
    for process, number in ((monitor, signal.SIGINT), (player, signal.SIGTERM)):
        process.send_signal(number)
        process.wait(timeout=30)
    out, err = monitor.communicate()
    assert monitor.returncode == 130, err
    assert "stopped." in out
    assert "Traceback" not in err
    assert [record["reason"] for record in read_journal(journal) if record["type"] == "end"] == ["stopped"]
    played, player_err = player.communicate()
    assert player.returncode == 130, player_err
    assert "stopped before the end" in played


def test_ctrl_c_while_looking_for_a_stream_ends_at_once_and_leaves_no_journal(model_path, tmp_path):
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "nobody", "--timeout", "60", "--journal", tmp_path / "j.jsonl")
    )
    assert "Looking for stream nobody" in monitor.stderr.readline()
    monitor.send_signal(signal.SIGINT)
    monitor.communicate(timeout=30)
    assert monitor.returncode == 130
    assert not (tmp_path / "j.jsonl").exists()


def test_sigterm_while_looking_for_a_stream_is_as_ctrl_c(model_path, tmp_path):
    monitor = start("monitor", "--model", model_path, "--stream", "nobody", "--journal", tmp_path / "j.jsonl")
    assert "Looking for stream nobody" in monitor.stderr.readline()
    monitor.send_signal(signal.SIGTERM)
    _, err = monitor.communicate(timeout=30)
    assert (monitor.returncode, err.splitlines()[-1]) == (130, "streamdetect: interrupted")
    assert not (tmp_path / "j.jsonl").exists()


def test_ctrl_c_while_connecting_to_many_streams_ends_at_once(model_path, recording_path, tmp_path):
    player = start("play", recording_path, "--name", "cli-found")
    streams = ("--stream", "cli-found", "--stream", "nobody-1", "--stream", "nobody-2")
    monitor = start("monitor", "--model", model_path, *streams, "--timeout", "600", "--journal", tmp_path / "j.jsonl")
    assert "Looking for stream cli-found, nobody-1, nobody-2" in monitor.stderr.readline()
    assert "Stream cli-found" in player.stderr.readline()
    monitor.send_signal(signal.SIGINT)
    monitor.communicate(timeout=60)
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=30)
    assert monitor.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_there_is_a_picture_that_fits(model_path, recording_path):
    leader, follower = pty.openpty()
    player = start("play", recording_path, "--name", "cli-tty")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "cli-tty", "--duration", "2"), stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    while b"no decision: warm-up" not in shown or b"threshold 0.51" not in shown:
        shown += os.read(leader, 4096)
    monitor.communicate(timeout=30)
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=30)
    os.close(leader)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "running  tiny on cli-tty" in text
    assert max(map(len, text.splitlines())) <= 80
    assert monitor.returncode == 0


def test_two_streams_in_one_process_with_files_of_their_own_and_nothing_said(model_path, recording_path, tmp_path):
    players = [start("play", recording_path, "--name", f"cli-two-{side}", "--speed", "20") for side in "ab"]
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "cli-two-a", "--stream", "cli-two-b", "--duration", "20"),
        *("--name", "left", "--name", "right", "--journal", tmp_path / "j.jsonl"),
        *("--json", tmp_path / "m.json", "--log-file", tmp_path / "m.log", "--quiet"),
    )
    out, err = monitor.communicate(timeout=60)
    for player in players:
        player.send_signal(signal.SIGTERM)
        player.communicate(timeout=30)
    assert (monitor.returncode, out, err) == (0, "", "")
    sessions = json.loads((tmp_path / "m.json").read_text())["sessions"]
    assert [(one["name"], one["stream"], one["n_samples"]) for one in sessions] == [
        ("left", "cli-two-a", 5000),
        ("right", "cli-two-b", 5000),
    ]
    for name in ("left", "right"):
        assert [record["type"] for record in read_journal(tmp_path / f"j-{name}.jsonl")][-1] == "end"
    log = (tmp_path / "m.log").read_text().splitlines()
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d \S+ INFO left: session on stream cli-two-a begins", line) for line in log)
    assert log[-1].endswith("session ends: duration")


def push(outlet, n_times, start):
    n_channels = outlet.n_channels
    data = np.random.default_rng(0).standard_normal((n_channels, n_times)) * 1e-5
    outlet.push(data, start + np.arange(n_times) / SFREQ)


class Amplifier(SignalOutlet):
    def __init__(self, name, *ch_names):
        super().__init__(StreamInfo(ch_names, SFREQ, name))
        self.n_channels = len(ch_names)


@pytest.mark.parametrize(("n_changed", "code"), [(1, 3), (2, 2)])
def test_streams_that_come_back_as_others_end_with_code_3_or_2_where_all_have(model_path, tmp_path, n_changed, code):
    names = [f"cli-{code}-{side}" for side in "ab"]
    amplifiers = {name: Amplifier(name, "C3", "Cz", "C4") for name in names}
    monitor = start(
        *("monitor", "--model", model_path, "--duration", "2", "--json", tmp_path / "m.json"),
        *(word for name in names for word in ("--stream", name)),
    )
    wait_until(lambda: "begins" in monitor.stderr.readline())
    for name in names:
        push(amplifiers[name], 100, 50.0)
    for name in names[:n_changed]:
        amplifiers[name].close()
        amplifiers[name] = Amplifier(name, "C3", "Cz", "C4", "AUX")
    for name in names[n_changed:]:
        push(amplifiers[name], 400, 50.4)
    _, err = monitor.communicate(timeout=60)
    for amplifier in amplifiers.values():
        amplifier.close()
    assert monitor.returncode == code, err
    assert err.count("came back as another: channels C3, Cz, C4 before, C3, Cz, C4, AUX now") >= n_changed
    sessions = json.loads((tmp_path / "m.json").read_text())["sessions"]
    assert [one["reason"] for one in sessions] == ["lost"] * n_changed + ["duration"] * (2 - n_changed)


def test_a_session_is_recorded_and_replayed_bit_for_bit_with_the_dashboard_beside_it(
    model_path, recording_path, tmp_path
):
    player = start("play", recording_path, "--name", "cli-rec", "--dtype", "float64")
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "cli-rec", "--record", tmp_path / "r.xdf"),
        *("--journal", tmp_path / "r.jsonl", "--dashboard"),
    )
    address = ""
    while not address.startswith("Dashboard: http://127.0.0.1:"):
        address = monitor.stderr.readline()
        assert address, monitor.communicate()
    port = int(re.search(r":(\d+)", address.removeprefix("Dashboard: http:")).group(1))
    socket.create_connection(("127.0.0.1", port), timeout=10.0).close()
    wait_until(lambda: n_records(tmp_path / "r.jsonl") > 100)
    monitor.send_signal(signal.SIGINT)
    out, err = monitor.communicate(timeout=60)
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=30)
    assert (monitor.returncode, "The dashboard" in err) == (130, False), err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10.0)
    assert f"Recording: {tmp_path / 'r.xdf'}" in out
    replayed = start("replay", tmp_path / "r.xdf", "--model", model_path, "--journal", tmp_path / "r.jsonl")
    out, err = replayed.communicate(timeout=60)
    assert replayed.returncode == 0, err
    assert "live decisions, all equal, bit for bit" in out


def test_streams_and_models_that_cannot_be_matched_are_refused(refused, model_path, tmp_path):
    model = ("--model", model_path)
    line = refused("monitor", *model, *model, *("--stream", "a", "--stream", "b", "--stream", "c"))
    assert "--stream is given 3 times and --model 2 times" in line
    assert "--name is given 1 times for 2 sessions" in refused(
        "monitor", *model, *("--stream", "a", "--stream", "b", "--name", "one")
    )
    assert "name: 'tiny-a' is the name of 2 sessions" in refused("monitor", *model, "--stream", "a", "--stream", "a")
    assert "--log-file" in refused("monitor", *model, "--log-file", tmp_path / "no" / "m.log")


def test_a_simulated_series_can_be_streamed():
    player = start("simulate", "--stream", "cli-sim", "--minutes", "0.25", "--speed", "inf")
    wait_until(lambda: "cli-sim" in player.stderr.readline())
    with LSLSource("cli-sim", timeout_s=20.0) as source:
        wait_until(lambda: any(chunk.n_times for chunk in source.read(1.0)))
        assert source.info.n_channels == 32
        assert source.info.sfreq == 500.0
    player.send_signal(signal.SIGTERM)
    player.communicate(timeout=30)


def test_streams_lists_what_there_is(recording_path):
    player = start("play", recording_path, "--name", "cli-list")
    assert "cli-list" in player.stderr.readline()
    listing = start("streams", "--json", "-")
    out, _ = listing.communicate(timeout=30)
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=30)
    (found,) = [stream for stream in json.loads(out)["streams"] if stream["name"] == "cli-list"]
    assert (found["type"], found["n_channels"], found["sfreq"]) == ("EEG", 3, SFREQ)


def test_importing_streamdetect_does_not_load_lsl():
    code = "import sys, streamdetect, streamdetect.cli.play, streamdetect.cli.monitor; sys.exit('pylsl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
