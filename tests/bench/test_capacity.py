from __future__ import annotations

import os

import numpy as np
import pytest

from models import make_model
from streamdetect.bench import capacity
from streamdetect.errors import InputError


@pytest.mark.parametrize(("most", "found"), [(0, 0), (1, 1), (5, 5), (64, 64), (100, 96), (150, 144), (10_000, 512)])
def test_the_largest_number_is_found_to_within_15_percent(most, found):
    asked = []

    def holds(n):
        asked.append(n)
        return n <= most

    assert capacity.find_most(holds, 64) == found
    assert len(set(asked)) == len(asked) <= 8
    assert most >= 512 or found <= most <= 1.15 * found


def test_a_decision_is_late_after_a_hop_and_where_it_never_came():
    times = 1.0 + 0.02 * np.arange(1, 7)
    pushed = np.stack([times + 0.001, times], axis=1)
    decided = np.stack([pushed[:, 0] + [0.9, 0.001, 0.002, 0.03, 0.004, 0.005], times], axis=1)
    delays = capacity._delays(pushed, decided, 0.02, 0.02, 0.1)  # the first lies in the time that is left out
    assert delays == pytest.approx([0.001, 0.002, 0.03, 0.004, 0.005])
    delays = capacity._delays(pushed, decided[:4], 0.02, 0.02, 0.1)
    assert delays == pytest.approx([0.001, 0.002, 0.03, np.inf, np.inf])
    assert len(capacity._delays(pushed, decided, 0.02, 0.02, 0.06)) == 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="keeping a process on a core needs Linux")
def test_streams_are_fed_from_one_core_and_decided_on_another(tmp_path, monkeypatch):
    monkeypatch.delenv("LSLAPICFG", raising=False)
    model = make_model(tmp_path / "tiny.onnx")
    cores = sorted(os.sched_getaffinity(0))
    run = capacity.run_streams(model, 3, cores, seconds=1.0, settle_s=0.1, chunk_s=0.02)
    assert run["n_streams"] == 3
    assert run["n_decisions"] == 150
    assert run["n_missing"] == 0
    assert 0.0 < run["median_ms"] <= run["p99_ms"] <= run["max_ms"]
    assert 0.0 < run["load"] <= 1.5


def test_a_number_that_fails_is_tried_twice(monkeypatch, tmp_path):
    late = {64: iter([3, 0]), 128: iter([5, 5]), 96: iter([1, 1]), 80: iter([0]), 88: iter([0])}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def run(path, n_streams, cores, **_):
        figures = {"n_streams": n_streams, "n_late": next(late[n_streams]), "n_decisions": 9}
        return figures | {"p99_ms": 1.0, "load": 0.5}

    monkeypatch.setattr(capacity, "run_streams", run)
    said: list[str] = []
    figures = capacity.measure_capacity(make_model(tmp_path / "tiny.onnx"), say=said.append)
    assert figures["streams"] == 88
    assert len(figures["runs"]) == len(said) == 8
    assert "more than a hop, 20 ms," in figures["late"]


def test_one_core_is_not_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(InputError, match="two cores"):
        capacity.measure_capacity(tmp_path / "tiny.onnx")
