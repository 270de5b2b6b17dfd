"""``streamdetect bench``: the figures of docs/BENCHMARKS.md, measured on this machine."""

from __future__ import annotations

import platform
import tempfile
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, n_cores, needs_extra, say, table_console, write_json

_PACKAGES = ("streamdetect", "numpy", "scipy", "scikit-learn", "onnxruntime", "pylsl")


class Part(StrEnum):
    """What can be measured alone."""

    CHUNK = "chunk"
    REPLAY = "replay"
    LATENCY = "latency"
    TRAINING = "training"


def bench(
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part; repeat for more. All by default.")] = None,
    literal: Annotated[
        bool, typer.Option("--literal", help="Beside training also the way of 2019: about half an hour.")
    ] = False,
    seconds: Annotated[float, typer.Option(metavar="S", help="How long to measure the latency.", min=1.0)] = 60.0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Measure speed, latency and training.

    Leave the machine alone meanwhile.
    """
    check_outputs(json=json)
    with needs_extra("train"):
        from streamdetect.bench.throughput import make_bench_model, measure_chunk, measure_replay
        from streamdetect.bench.training import measure_literal_2019, measure_training, simulate_2019
    parts = set(only or Part)
    figures: dict[str, Any] = {
        "machine": {"cores": n_cores(), "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if parts & {Part.CHUNK, Part.REPLAY, Part.LATENCY}:
            say("training the model to measure with …")
            model = make_bench_model(folder)
            figures["model_mb"] = model.path.stat().st_size / 1e6
            if Part.CHUNK in parts:
                say("timing chunks of 20 ms …")
                figures["chunk"] = measure_chunk(model)
            if Part.REPLAY in parts:
                say("timing replay …")
                figures["replay"] = measure_replay(model)
            if Part.LATENCY in parts:
                from streamdetect.bench.latency import measure_latency

                say(f"timing push to decision over LSL for {seconds:g} s …")
                figures["latency"] = measure_latency(model.path, seconds=seconds)
        if Part.TRAINING in parts:
            say("simulating 8 series …")
            recordings = simulate_2019(folder)
            say("timing training …")
            figures["training"] = measure_training(recordings, folder)
            if literal:
                say("timing the way of 2019 …")
                figures["literal_2019"] = measure_literal_2019(recordings, folder)
    console = table_console(json)
    console.print(_table(figures))
    versions = ", ".join(f"{package} {number}" for package, number in figures["versions"].items())
    console.print(f"{figures['machine']['cores']} cores; {versions}")
    write_json(json, figures)


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "figure", "target", box=None, pad_edge=False)
    for row in _rows(figures):
        table.add_row(*row)
    return table


def _rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    if "chunk" in figures:
        chunk = figures["chunk"]
        rows += [
            ("detector, 20 ms chunk: median", f"{chunk['median_ms']:.3f} ms", "≤ 0.1 ms"),
            ("detector, 20 ms chunk: 99th percentile", f"{chunk['p99_ms']:.3f} ms", "≤ 0.3 ms"),
            (
                "the same with scikit-learn's predict: median",
                f"{chunk['sklearn_median_ms']:.1f} ms, {chunk['sklearn_median_ms'] / chunk['median_ms']:.0f} times",
                "",
            ),
        ]
    if "latency" in figures:
        latency = figures["latency"]
        rows += [
            ("LSL push to decision: median", f"{latency['median_ms']:.2f} ms", "≤ 0.8 ms"),
            ("LSL push to decision: 99th percentile", f"{latency['p99_ms']:.2f} ms", "≤ 3 ms"),
            ("of it LSL push to pull: median", f"{latency['transport_median_ms']:.2f} ms", ""),
        ]
    if "replay" in figures:
        replay = figures["replay"]
        rows += [
            ("replay from memory", f"{replay['memory']:.0f} times real time", "≥ 800"),
            ("replay from a CSV file", f"{replay['file']:.0f} times real time", ""),
            ("with scikit-learn's predict", _slower(replay, "sklearn"), ""),
            ("literal window-by-window filter, no decisions", _slower(replay, "literal_filter"), ""),
        ]
    if "training" in figures:
        training = figures["training"]
        rows += [
            ("training, 8 series of 5.8 min, CSV to ONNX", f"{training['seconds']:.0f} s", "≤ 60 s"),
            ("training: peak memory", f"{training['peak_gb']:.1f} GB", "≤ 6 GB"),
        ]
    if "literal_2019" in figures:
        literal = figures["literal_2019"]
        ratio = literal["seconds"] / figures["training"]["seconds"]
        rows += [
            ("the literal 2019 way", f"{literal['seconds']:.0f} s, {ratio:.0f} times", ""),
            ("the literal 2019 way: peak memory", f"{literal['peak_gb']:.1f} GB", ""),
        ]
    return rows


def _slower(replay: dict[str, float], way: str) -> str:
    return f"{replay[way]:.0f} times real time, 1/{replay['memory'] / replay[way]:.1f}"
