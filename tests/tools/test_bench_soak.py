from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from models import make_model
from streamdetect.detector import Detector

pytestmark = pytest.mark.usefixtures("lsl")


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[2] / "tools" / "bench_soak.py"
    spec = importlib.util.spec_from_file_location("bench_soak", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bench_soak", module)  # its dataclass looks for its own module
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", sfreq=100.0, hop_samples=20))


def test_it_counts_what_is_lost_and_watches_the_memory(tool, detector, tmp_path, monkeypatch):
    megabytes = itertools.count(100)
    monkeypatch.setattr(tool, "resident_bytes", lambda: 1e6 * next(megabytes))
    minute = np.random.default_rng(0).standard_normal((3, 6000)) * 1e-5
    figures = tool.run(detector, minute, 0.45, 1.0, tmp_path)
    assert figures["all_counted"]
    assert figures["n_samples"]["summary"] + figures["n_lost"]["summary"] == 0.45 * 360_000
    assert figures["n_lost"]["journal"] >= 5 * 20
    assert [round(point["seconds"], -1) for point in figures["curve"]] == [0, 600, 1200, 1620]
    assert [point["mb"] for point in figures["curve"]] == [100.0, 101.0, 102.0, 103.0]
    assert (figures["base_mb"], figures["growth_mb"]) == (101.0, 2.0)


def test_the_memory_of_this_process_is_measured(tool):
    before = tool.resident_bytes()
    held = np.ones(20_000_000)
    assert tool.resident_bytes() - before == pytest.approx(held.nbytes, rel=0.1)
