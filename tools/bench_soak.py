"""Hours of simulated signal through a whole session at full speed: is every sample counted, and does memory grow?

    python tools/bench_soak.py [--hours 24] [--read-s 0.1] [--json F]

A minute of simulated EEG (32 channels, 500 Hz) goes round and round with time stamps that go on. Every five minutes
some samples are lost, every fifteen a few channels go bad, every three hours the clock jumps. A model trained for the
purpose decides 50 times a second, with journal, outlets and health as in `streamdetect monitor`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streamdetect.bench.rehearsal import RehearsedSource
from streamdetect.bench.throughput import make_bench_model
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.detector import Detector
from streamdetect.monitor import monitor
from streamdetect.settings import to_samples
from streamdetect.sinks.journal import Journal, read_journal
from streamdetect.sinks.lsl import HealthOutlet, MarkerOutlet, ProbabilityOutlet
from streamdetect.sources.fault_plan import ClockJump, FaultPlan, Flat, Gap, LineNoise, Railed
from streamdetect.sources.simulate import simulate_series

LIMIT_MB = 5.0
BASE_S = 600.0  # growth counts from here
SAMPLE_S = 600.0  # of signal, between two looks at the memory


@dataclass(frozen=True, eq=False)
class Loop:
    """A recording that goes round and round."""

    info: StreamInfo
    data: np.ndarray
    n_times: int
    annotations: tuple = ()

    def chunks(self, picks: None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        assert chunk_samples is not None
        assert self.data.shape[1] % chunk_samples == 0
        for start in range(0, self.n_times, chunk_samples):
            stop = min(start + chunk_samples, self.n_times)
            first = start % self.data.shape[1]
            yield Chunk(self.data[:, first : first + stop - start], np.arange(start, stop) / self.info.sfreq)


def make_plan(seconds: float, ch_names: Sequence[str], seed: int = 0) -> FaultPlan:
    """Make a plan of trouble that goes on for ever."""
    rng = np.random.default_rng(seed)
    faults: list[Any] = [
        Gap(onset=onset, duration=float(rng.choice([0.2, 0.5, 2.0, 30.0])))
        for onset in np.arange(200.0, seconds, 300.0).tolist()
    ]
    faults += [
        ClockJump(onset=onset, jump_s=float(rng.choice([-3600.0, 5000.0])))
        for onset in np.arange(7000.0, seconds, 10_800.0).tolist()
    ]
    for onset in np.arange(450.0, seconds, 900.0).tolist():
        channels = tuple(rng.choice(ch_names, int(rng.integers(1, min(6, len(ch_names)))), replace=False).tolist())
        common = {"onset": onset, "duration": 30.0, "channels": channels}
        makers = (Flat(**common), Railed(**common), LineNoise(**common, amplitude_uv=500.0))
        faults.append(makers[rng.integers(len(makers))])
    return FaultPlan(seed=seed, faults=tuple(faults))


class WatchedSource(RehearsedSource):
    """Looks at the memory every ten minutes of signal, and tells how far it is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.curve: list[tuple[float, float]] = []  # s of signal, MB
        self.bar = Console(stderr=True)

    def read(self, timeout_s: float) -> list[Chunk]:
        seconds = (self.n_sent + self.n_lost) / self.info.sfreq
        if seconds >= SAMPLE_S * len(self.curve):
            self.curve.append((seconds, resident_bytes() / 1e6))
            if self.bar.is_terminal:
                self.bar.print(f"{seconds / 3600:.1f} h of signal, {self.curve[-1][1]:.1f} MB", end="\r")
        return super().read(timeout_s)


def resident_bytes() -> int:
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])


def prepare(folder: Path) -> None:
    """Train the model and simulate the minute, in a process of its own: what they need must not count."""
    make_bench_model(folder, n_series=3, minutes=1.0)
    np.save(folder / "minute.npy", simulate_series(1, 9, minutes=1.0).data)


def run(detector: Detector, minute: np.ndarray, hours: float, read_s: float, folder: Path) -> dict[str, Any]:
    """Run a session on the minute, shape (n_channels, n_times) in V, for so many hours of signal."""
    sfreq = detector.model.metadata.sfreq
    seconds = 3600.0 * hours
    info = StreamInfo(detector.ch_names, sfreq, "soak")
    loop = Loop(info, minute, round(seconds * sfreq))
    source = WatchedSource(loop, make_plan(seconds, info.ch_names), read_samples=to_samples(read_s, sfreq))
    path = folder / "soak.jsonl"
    rate = sfreq / detector.model.metadata.features.hop_samples
    outlets = (ProbabilityOutlet("soak-probabilities", detector.event_names, rate), MarkerOutlet("soak-detections"))
    health = HealthOutlet("soak-health", stream="soak", source_id="")
    began = time.perf_counter()
    with closing(Journal(path)) as journal:
        summary = monitor(
            source, detector, outlets, health=health, journal=journal, clock=source.clock, idle_timeout_s=1.0
        )
    taken_s = time.perf_counter() - began
    source.curve.append((summary.seconds, resident_bytes() / 1e6))
    n_journal = sum(record["n_lost"] for record in read_journal(path) if record["type"] == "reset")
    base, *later = [mb for at, mb in source.curve if at >= min(BASE_S, seconds / 2)]
    return {
        "hours": hours,
        "read_s": read_s,
        "taken_s": taken_s,
        "times_real_time": summary.seconds / taken_s,
        "n_samples": {"sent": source.n_sent, "summary": summary.n_samples},
        "n_lost": {"truth": source.n_lost, "summary": summary.n_lost, "journal": n_journal},
        "n_decisions": summary.n_decisions,
        "n_invalid": summary.n_invalid,
        "n_gaps": summary.n_gaps,
        "n_restarts": summary.n_restarts,
        "all_counted": source.n_sent == summary.n_samples and source.n_lost == summary.n_lost == n_journal,
        "base_mb": base,
        "growth_mb": max(later) - base,
        "curve": [{"seconds": at, "mb": mb} for at, mb in source.curve],
    }


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("signal (h)", "resident memory (MB)", "since the first 10 min (MB)", box=None)
    for point in figures["curve"]:
        table.add_row(
            f"{point['seconds'] / 3600:.1f}", f"{point['mb']:.1f}", f"{point['mb'] - figures['base_mb']:+.1f}"
        )
    console.print(table)
    console.print(
        f"{figures['hours']:g} h of signal in {figures['taken_s']:.0f} s ({figures['times_real_time']:.0f} times real "
        f"time); {figures['n_decisions']} decisions, {figures['n_invalid']} of them invalid"
    )
    lost = figures["n_lost"]
    console.print(f"samples lost: {lost['truth']}; counted: {lost['summary']}; in the journal: {lost['journal']}")
    console.print(f"memory after the first 10 min: {figures['growth_mb']:+.1f} MB at most (limit {LIMIT_MB:g} MB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--read-s", type=float, default=0.1, help="signal a read, in s")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(prepare, folder).result()
        detector, minute = Detector.load(folder / "bench.onnx"), np.load(folder / "minute.npy")
        figures = run(detector, minute, arguments.hours, arguments.read_s, folder)
    show(figures, Console(highlight=False, soft_wrap=True))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if not figures["all_counted"] or figures["growth_mb"] > LIMIT_MB:
        sys.exit(1)


if __name__ == "__main__":
    main()
