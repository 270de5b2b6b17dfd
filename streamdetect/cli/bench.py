"""``streamdetect bench``: the figures of docs/BENCHMARKS.md, measured on this machine."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, n_cores, needs_extra, say, table_console, write_json

_WAYS = {
    "mne_lsl": "mne-lsl's filter, no model",
    "monitor": "monitor",
    "dashboard": "with dashboard",
    "recording": "recording, with dashboard",
    "dashboard_realtime": "--realtime, with dashboard",
    "recording_realtime": "--realtime, recording, with dashboard",
}
_PACKAGES = ("streamdetect", "numpy", "scipy", "scikit-learn", "onnxruntime", "pylsl")


class Part(StrEnum):
    """What can be measured alone."""

    CHUNK = "chunk"
    REPLAY = "replay"
    LATENCY = "latency"
    STREAMS = "streams"
    TRAINING = "training"


def bench(
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part; repeat for more. All by default.")] = None,
    literal: Annotated[
        bool, typer.Option("--literal", help="Beside training also the way of 2019: about half an hour.")
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(metavar="S", help="How long to measure each latency; half of it each number of streams.", min=1.0),
    ] = 20.0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Measure speed, latency, many streams, and training.

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
        if parts - {Part.TRAINING}:
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
                figures["latency"] = _measure_latency(model.path, seconds)
            if Part.STREAMS in parts:
                from streamdetect.bench.capacity import measure_capacity

                say("counting the live streams that one core holds, for some minutes …")
                figures["streams"] = measure_capacity(model.path, seconds=seconds / 2, say=say)
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


def _measure_latency(model: Path, seconds: float) -> dict[str, Any]:
    """Measure mne-lsl and the monitor one after the other, and put the ratios beside."""
    from streamdetect.bench.latency import LatencyBench
    from streamdetect.errors import InputError, MissingExtraError

    bench = LatencyBench(model, seconds=seconds)
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "mne_lsl": bench.measure_mne_lsl,
        "monitor": bench.measure_monitor,
        "dashboard": lambda: bench.measure_monitor(dashboard=True),
        "recording": lambda: bench.measure_monitor(dashboard=True, record=True),
        "dashboard_realtime": lambda: bench.measure_monitor(dashboard=True, realtime=True),
        "recording_realtime": lambda: bench.measure_monitor(dashboard=True, record=True, realtime=True),
    }
    figures: dict[str, Any] = {}
    for way, measure in ways.items():
        say(f"timing push to decision over LSL, {_WAYS[way]}, for {seconds:g} s …")
        try:
            figures[way] = measure()
        except (MissingExtraError, InputError) as error:
            say(f"not measured: {error}")
            figures[way] = {"missing": str(error)}
    if "missing" not in figures["mne_lsl"]:
        for way in set(ways) - {"mne_lsl"}:
            figures[way]["ratio_to_mne_lsl"] = {
                name: figures[way][name] / figures["mne_lsl"][name.removeprefix("arrival_")]
                for name in ("median_ms", "p99_ms", "arrival_median_ms", "arrival_p99_ms")
                if name in figures[way]
            }
    return figures


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
            ("between chunks, once a second: median", f"{chunk['settle_median_ms']:.3f} ms", ""),
            (
                "the same with scikit-learn's predict: median",
                f"{chunk['sklearn_median_ms']:.1f} ms, {chunk['sklearn_median_ms'] / chunk['median_ms']:.0f} times",
                "",
            ),
        ]
    rows += [row for way, each in figures.get("latency", {}).items() for row in _latency_rows(way, each)]
    if "streams" in figures:
        rows.append(("live streams on one core, no late decision", str(figures["streams"]["streams"]), "≥ 64"))
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


def _latency_rows(way: str, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a row of median and 99th percentile, each with its ratio to mne-lsl where both were measured."""
    label = f"LSL push to {'callback' if way == 'mne_lsl' else 'decision'}, {_WAYS[way]}"
    if "missing" in figures:
        return [(label, "not measured", "")]
    ratios = figures.get("ratio_to_mne_lsl", {})

    def show(what: str) -> str:
        parts = (
            f"{figures[name]:.2f} ms" + (f" ({ratios[name]:.2f} ×)" if name in ratios else "")
            for name in (f"{what}median_ms", f"{what}p99_ms")
        )
        return ", 99 % ".join(parts)

    rows = [(label, show(""), "≤ 1 × mne-lsl" if ratios and way != "monitor" else "")]
    if "arrival_median_ms" in figures:
        rows.append(("- until another program has it", show("arrival_"), ""))
        rows.append(("- until the samples are in the monitor", show("transport_"), ""))
    return rows


def _slower(replay: dict[str, float], way: str) -> str:
    return f"{replay[way]:.0f} times real time, 1/{replay['memory'] / replay[way]:.1f}"
