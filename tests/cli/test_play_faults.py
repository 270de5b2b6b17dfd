"""``streamdetect play --faults`` as a user runs it; nobody listens."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest

from streamdetect.sources.fault_plan import read_plan
from streamdetect.sources.random_faults import random_plan

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 250.0
CH_NAMES = ("C3", "Cz", "C4")
PLAN = """\
seed = 3

[[faults]]
kind = "gap"
onset = 1.0
duration = 0.5

[[faults]]
kind = "muscle"
onset = 2
duration = 100
channels = ["Cz"]
amplitude_uv = 50

[[faults]]
kind = "clock-jump"
onset = 35
jump_s = 60
"""


@pytest.fixture(scope="module")
def recording_path(tmp_path_factory):
    data = np.random.default_rng(0).standard_normal((3, int(40 * SFREQ))) * 1e-5
    raw = mne.io.RawArray(data, mne.create_info(list(CH_NAMES), SFREQ, "eeg"), verbose="error")
    path = tmp_path_factory.mktemp("recording") / "rest_raw.fif"
    raw.save(path, verbose="error")
    return path


@pytest.fixture
def plan_path(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def test_it_tells_what_was_done(command, recording_path, plan_path, tmp_path):
    out = tmp_path / "played.json"
    arguments = ("play", recording_path, "--name", "faults-a", "--speed", "inf", "--wait", "0")
    ended = command(*arguments, "--faults", plan_path, "--json", out)
    assert ended.code == 0, ended
    assert ended.out.splitlines() == [
        "9875 samples (40.0 s) and 0 markers sent.",
        "Fault plan, seed 3: 125 samples lost in between, 0 sent twice.",
        "  gap: 1, 125 samples",
        "  muscle: 1, 9500 samples",
        "  clock-jump: 1",
    ]
    figures = json.loads(out.read_text())
    assert (figures["stream"], figures["seed"], figures["complete"]) == ("faults-a", 3, True)
    assert (figures["n_samples"], figures["n_lost"], figures["n_repeated"]) == (9875, 125, 0)
    assert figures["faults"]["muscle"] == {"n_faults": 1, "n_samples": 9500}
    to_stdout = command(*arguments, "--faults", plan_path, "--seed", "4", "--json", "-")
    assert json.loads(to_stdout.out)["seed"] == 4
    assert "125 samples lost" in to_stdout.err


def test_a_random_plan_is_printed_so_that_it_can_be_kept(command, recording_path, tmp_path):
    arguments = ("play", recording_path, "--name", "faults-b", "--speed", "inf", "--wait", "0")
    ended = command(*arguments, "--faults", "random", "--seed", "5")
    assert ended.code == 0, ended
    path = tmp_path / "kept.toml"
    path.write_text(ended.err[ended.err.index("seed = ") : ended.err.index("Stream faults-b")])
    assert read_plan(path) == random_plan(5, 40.0, CH_NAMES)
    assert "seed 5" in ended.out


@pytest.mark.parametrize(
    ("plan", "arguments", "message"),
    [
        ("", ("--seed", "3"), "--seed 3: expected --faults"),
        ("seed = -1", ("--faults", "plan.toml"), "fault plan: plan.toml: seed: "),
        (PLAN.replace("Cz", "Oz"), ("--faults", "plan.toml"), "fault plan: 1 of 1 channels are missing: Oz"),
        ("", ("--faults", "nowhere.toml"), "fault plan: nowhere.toml cannot be read"),
        ("", ("--faults", "plan.toml", "--json", "plan.toml"), "--json plan.toml: would overwrite"),
    ],
)
def test_wrong_input_is_refused_in_one_line(refused, recording_path, plan_path, monkeypatch, plan, arguments, message):
    plan_path.write_text(plan)
    monkeypatch.chdir(plan_path.parent)
    assert message in refused("play", recording_path, "--wait", "0", *arguments)
