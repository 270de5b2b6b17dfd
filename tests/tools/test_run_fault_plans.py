from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fake_recording import FakeRecording
from models import make_model
from streamdetect.bench.rehearsal import rehearse, rehearse_live
from streamdetect.chunk import StreamInfo
from streamdetect.detector import Detector
from streamdetect.scoring.scalp import electrode_directions
from streamdetect.settings import ChannelHealthSettings, HealthSettings
from streamdetect.sources.fault_plan import FaultPlan, Gap
from streamdetect.sources.random_faults import random_plan

SFREQ = 250.0
CH_NAMES = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
SECONDS = 40.0


def _load():
    path = Path(__file__).parents[2] / "tools" / "run_fault_plans.py"
    spec = importlib.util.spec_from_file_location("run_fault_plans", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _load()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    rules = ChannelHealthSettings(block_samples=250, max_repaired=2, positions=electrode_directions(CH_NAMES))
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    health = HealthSettings(max_gap_samples=250, flat_samples=250, channels=rules)
    return Detector.load(make_model(path, ch_names=CH_NAMES, health=health, hop_samples=10))


@pytest.fixture(scope="module")
def recording():
    data = np.random.default_rng(0).standard_normal((len(CH_NAMES), round(SECONDS * SFREQ))) * 1e-5
    return FakeRecording(data, StreamInfo(CH_NAMES, SFREQ, "rec.edf"))


@pytest.mark.parametrize("seed", range(10))
def test_a_session_survives_a_random_plan(recording, detector, tmp_path, seed):
    plan = random_plan(seed, SECONDS, CH_NAMES)
    ended = rehearse(recording, plan, detector, tmp_path / "j.jsonl")
    assert tool.find_problems(ended, recording, plan, detector) == []


@pytest.mark.usefixtures("lsl")
@pytest.mark.parametrize("seed", [4, 7])
def test_a_live_session_survives_a_random_plan(recording, detector, tmp_path, seed):
    plan = random_plan(seed, SECONDS, CH_NAMES)
    ended = rehearse_live(recording, plan, detector, tmp_path / "j.jsonl", f"plan-{seed}")
    assert tool.find_problems(ended, recording, plan, detector) == []


def test_what_a_session_gets_wrong_is_found(recording, detector, tmp_path):
    plan = FaultPlan(faults=(Gap(onset=20.0, duration=0.5),))
    ended = rehearse(recording, plan, detector, tmp_path / "j.jsonl")

    def problems(**changes):
        return tool.find_problems(replace(ended, **changes), recording, plan, detector)

    def records(kind, at, **changes):
        """Return the journal with one record changed."""
        place = ended.records.index(ended.of_type(kind)[at])
        return [*ended.records[:place], ended.records[place] | changes, *ended.records[place + 1 :]]

    assert problems() == []
    assert problems(error=ValueError("gone")) == ["it ended with ValueError('gone')"]
    assert problems(n_lost=124) == ["lost: 124 in truth, 125 counted, 125 in the journal"]
    assert problems(n_sent=9876) == ["sent: 9876 in truth, 9875 counted"]
    assert problems(records=records("reset", 0, n_lost=124)) == ["lost: 125 in truth, 125 counted, 124 in the journal"]
    samples = [record["sample"] for record in ended.of_type("decision")]
    in_gap = next(index for index, sample in enumerate(samples) if sample >= 20.1 * SFREQ)
    too_early, different = problems(records=records("decision", in_gap, valid=True))
    assert too_early == f"1 decisions are valid too early, the first at sample {samples[in_gap]}"
    assert different == "the decisions are not those on what was sent"
    assert problems(records=records("decision", 50, p_HandStart=0.123)) == [different]
    assert problems(records=records("decision", 50, sample=samples[50] + 1)) == [different]
    assert problems(records=records("decision", -1, valid=False, reason="lost")) == [
        "it ends invalid: lost",
        different,
    ]
