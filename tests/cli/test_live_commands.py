"""The live commands as a user runs them: processes of their own, signals included."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import mne
import numpy as np
import pytest

from models import make_model
from streamdetect.sinks.journal import read_journal
from streamdetect.sources.lsl import LSLSource

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


def wait_until(is_true, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


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


def test_on_a_terminal_the_status_is_one_line_that_fits(model_path, recording_path):
    leader, follower = pty.openpty()
    player = start("play", recording_path, "--name", "cli-tty")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    monitor = start(
        *("monitor", "--model", model_path, "--stream", "cli-tty", "--duration", "2"), stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    while b"no decision: warm-up" not in shown or b"HandStart 0." not in shown:
        shown += os.read(leader, 4096)
    monitor.communicate(timeout=30)
    player.send_signal(signal.SIGINT)
    player.communicate(timeout=30)
    os.close(leader)
    assert b"Hz" in shown
    assert monitor.returncode == 0


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
