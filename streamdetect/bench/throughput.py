"""How long the detector takes for a chunk, and how fast it replays; beside it scikit-learn and the literal filter."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from streamdetect.chunk import Chunk
from streamdetect.detector import Detector
from streamdetect.settings import EventSettings, to_samples
from streamdetect.sinks.decisions_csv import DecisionsFile
from streamdetect.sources.recording import read_recording
from streamdetect.sources.simulate import series_paths, simulate_series, write_series
from streamdetect.stages.preprocess import design_filter

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

EVENT = EventSettings("HandStart", ("HandStart",))
CHUNK_S = 0.02
REPLAY_CHUNK_S = 10.0


@dataclass(frozen=True, eq=False)
class BenchModel:
    """A detector of the benchmark's configuration: one low-pass, 32 channels at 500 Hz, a decision every 20 ms.

    Parameters
    ----------
    path : Path
        The model file.
    estimator : BaseEstimator
        What it was exported from.
    recording : Path
        A simulated series that it was not trained on.
    """

    path: Path
    estimator: BaseEstimator
    recording: Path


def make_bench_model(folder: Path, *, n_series: int = 4, minutes: float = 4.0) -> BenchModel:
    """Simulate, train on all series but the last, and export.

    Parameters
    ----------
    folder : Path
        Where the files go.
    n_series : int
        Series to simulate.
    minutes : float
        Length of each.

    Returns
    -------
    BenchModel
    """
    from streamdetect.training.export import export_model
    from streamdetect.training.fit import train
    from streamdetect.training.trainer import TrainingSettings

    for series in range(1, n_series + 1):
        write_series(simulate_series(1, series, minutes=minutes), folder)
    *training, held_out = [series_paths(folder, 1, series)[0] for series in range(1, n_series + 1)]
    settings = TrainingSettings(events=(EVENT,), features="power")
    trained = train([read_recording(path) for path in training], settings, name="bench")
    path = folder / "bench.onnx"
    export_model(trained.estimator, trained.windows, trained.metadata, path)
    return BenchModel(path, trained.estimator, held_out)


def measure_chunk(model: BenchModel, seconds: float = 120.0) -> dict[str, float]:
    """Time the detector on chunks of 20 ms, each with one decision.

    Parameters
    ----------
    model : BenchModel
    seconds : float
        Signal to measure on, in s.

    Returns
    -------
    dict of str to float
        ``median_ms`` and ``p99_ms`` of `Detector.process`; ``settle_median_ms`` of `Detector.settle`, which a session
        calls between two chunks, about once a second something is to be done then; ``sklearn_median_ms`` of the former
        with scikit-learn's own prediction of the row in ONNX Runtime's place; ``n`` chunks.
    """
    detector = Detector.load(model.path)
    chunks = _read_chunks(model.recording, detector.ch_names, CHUNK_S, seconds)
    taken, settling = _time_each(detector, chunks)
    slow = Detector(_sklearn_model(detector, model.estimator))
    slow_taken, _ = _time_each(slow, chunks[: max(100, len(chunks) // 20)])
    return {
        "median_ms": float(np.median(taken)),
        "p99_ms": float(np.percentile(taken, 99)),
        "settle_median_ms": float(np.median(settling)),
        "sklearn_median_ms": float(np.median(slow_taken)),
        "n": len(taken),
    }


def measure_replay(model: BenchModel, n_repeats: int = 3) -> dict[str, float]:
    """Replay a recording, and do the same work in two slower ways.

    Parameters
    ----------
    model : BenchModel
    n_repeats : int
        The fastest of so many runs counts, for each way.

    Returns
    -------
    dict of str to float
        Seconds of signal a second: ``file`` reads the CSV, decides, and writes the decisions; ``memory`` leaves out the
        reading; ``sklearn`` is ``memory`` with scikit-learn's predict_proba; ``literal_filter`` filters each window
        anew, squares and averages it, and makes no decision.
    """
    detector = Detector.load(model.path)
    chunks = _read_chunks(model.recording, detector.ch_names, REPLAY_CHUNK_S)
    seconds = sum(chunk.n_times for chunk in chunks) / detector.model.metadata.sfreq
    slow = Detector(_sklearn_model(detector, model.estimator))
    return {
        "file": seconds / min(_time_file(detector, model.recording) for _ in range(n_repeats)),
        "memory": seconds / min(_time_memory(detector, chunks) for _ in range(n_repeats)),
        "sklearn": seconds / min(_time_memory(slow, chunks) for _ in range(n_repeats)),
        "literal_filter": seconds / _time_literal_filter(detector, chunks),
    }


def _read_chunks(path: Path, ch_names: Sequence[str], chunk_s: float, seconds: float | None = None) -> list[Chunk]:
    recording = read_recording(path)
    samples = to_samples(chunk_s, recording.info.sfreq)
    chunks = []
    for chunk in recording.chunks(picks=ch_names, chunk_samples=samples):
        if seconds is not None and chunk.times[0] >= seconds:
            break
        chunks.append(Chunk(np.ascontiguousarray(chunk.data), chunk.times.copy()))
    return chunks


def _time_each(detector: Detector, chunks: Sequence[Chunk]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the time in ms of each chunk that gave a valid decision, and of each judging of channels between chunks.

    All chunks come in one buffer, as live.
    """
    detector.reset()
    taken, settling = [], []
    buffer = np.empty_like(chunks[0].data)
    for whole in chunks:
        chunk = replace(whole, data=buffer[:, : whole.n_times])
        chunk.data[:] = whole.data
        started = time.perf_counter()
        decisions = detector.process(chunk)
        stopped = time.perf_counter()
        if decisions.valid.any():
            taken.append(1000 * (stopped - started))
        started = time.perf_counter()
        if detector.settle():
            settling.append(1000 * (time.perf_counter() - started))
    return np.array(taken), np.array(settling)


def _time_file(detector: Detector, path: Path) -> float:
    from streamdetect.offline import replay

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with DecisionsFile(Path(folder) / "decisions.csv", detector.event_names) as file:
            for decisions in replay(read_recording(path), detector):
                file.write(decisions)
        return time.perf_counter() - started


def _time_memory(detector: Detector, chunks: Sequence[Chunk]) -> float:
    detector.reset()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with DecisionsFile(Path(folder) / "decisions.csv", detector.event_names) as file:
            for chunk in chunks:
                file.write(detector.process(chunk))
        return time.perf_counter() - started


def _time_literal_filter(detector: Detector, chunks: Sequence[Chunk]) -> float:
    metadata = detector.model.metadata
    window, hop = metadata.features.window_samples, metadata.features.hop_samples
    sos = design_filter(metadata.features.filters[0], metadata.sfreq)
    zi = signal.sosfilt_zi(sos)[:, None, :]
    data = np.concatenate([chunk.data for chunk in chunks], axis=1)
    started = time.perf_counter()
    for end in range(window, data.shape[1] + 1, hop):
        part = data[:, end - window : end]
        filtered, _ = signal.sosfilt(sos, part, axis=-1, zi=zi * part[:, 0][None, :, None])
        np.log10(np.mean((filtered * 1e6) ** 2, axis=1))
    return time.perf_counter() - started


def _sklearn_model(detector: Detector, estimator: BaseEstimator) -> Any:
    """Return a stand-in for the model that asks scikit-learn."""

    def predict(features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if len(features) == 0:
            return {"probability": np.empty((0, 1), np.float32)}
        return {"probability": estimator.predict_proba(features)[:, 1:].astype(np.float32)}

    return SimpleNamespace(metadata=detector.model.metadata, predict=predict)
