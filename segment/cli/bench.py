"""``segment bench``: the figures of docs/BENCHMARKS.md, measured on this machine."""

from __future__ import annotations

import os
import platform
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from segment.cli.predict import DEFAULT_MODEL
from streamdetect.cli.console import check_outputs, n_cores, needs_extra, say, table_console, write_json

FAST_MODEL = "mitochondria-epfl-plus-fast"


class Part(StrEnum):
    """What can be measured alone."""

    SPEED = "speed"
    FAST = "fast"
    TILES = "tiles"
    MEMORY = "memory"
    STEPS = "steps"


def bench(
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part; repeat for more. All by default.")] = None,
    model: Annotated[str, typer.Option(metavar="M.onnx", help="The model to serve.")] = DEFAULT_MODEL,
    fast: Annotated[str, typer.Option(metavar="FAST.onnx", help="What `segment quantize` made of it.")] = FAST_MODEL,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the volume and labels that M was trained on are, to score both."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where 2 GB may be written; the system's by default.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Measure serving against Keras, a model in fewer bits, tiles, memory for a 1 GB volume, and training steps.

    Takes about ten minutes. Leave the machine alone meanwhile.
    """
    check_outputs(json=json)
    with needs_extra("segment-train"):
        from segment.bench.fast import measure_accuracy, measure_fast, measure_tiles
        from segment.bench.serving import measure_memory, measure_speed
        from segment.bench.training import measure_steps
        from segment.serving.metadata import METADATA_KEY
        from segment.serving.model import SegmentationModel
        from segment.training.fit import list_versions
        from streamdetect.model_file import find_model
    from streamdetect.errors import InputError

    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"--folder {folder}: is no folder that can be written to; make it, or choose another")
    path = find_model(model, METADATA_KEY)
    SegmentationModel.load(path, device="cpu")  # refuses what cannot be served now, not in some minutes
    parts = set(only or Part)
    fast_path = path
    if parts & {Part.FAST, Part.TILES}:
        fast_path = find_model(fast, METADATA_KEY)
        SegmentationModel.load(fast_path, device="cpu")
    figures: dict[str, Any] = {
        "machine": {"cores": n_cores(), "processor": platform.processor() or platform.machine()},
        "versions": list_versions(),
        "model": path.stem,
    }
    if Part.SPEED in parts:
        say("timing ONNX Runtime and Keras in turn …")
        figures["speed"] = measure_speed(path)
    if Part.FAST in parts:
        figures["fast"] = {"model": fast_path.stem}
        if data is not None:
            say("scoring both on the slices that they were chosen on …")
            figures["fast"]["iou"] = measure_accuracy({"float32": path, "fast": fast_path}, data)
        else:
            say("no IoU: give --data DIR, the folder of the volume and labels that the model was trained on")
        say("timing the fast model, the one it was made from, and Keras in turn …")
        figures["fast"] |= measure_fast(path, fast_path)
    if Part.TILES in parts:
        say("timing tiles of several sizes in turn …")
        figures["tiles"] = {each.stem: measure_tiles(each) for each in (path, fast_path)}
    if Part.MEMORY in parts:
        say("segmenting a volume of 1 GB …")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            figures["memory"] = measure_memory(path, Path(name))
    if Part.STEPS in parts:
        say("timing training steps …")
        figures["steps"] = measure_steps()
    console = table_console(json)
    console.print(_table(figures))
    versions = ", ".join(f"{package} {number}" for package, number in figures["versions"].items())
    console.print(f"model {path.stem}; {figures['machine']['cores']} cores; {versions}")
    write_json(json, figures)


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "figure", "target", box=None, pad_edge=False)
    if "speed" in figures:
        speed = figures["speed"]
        table.add_row("segment predict, megavoxels a second", f"{speed['onnxruntime']:.2f}", "")
        table.add_row("Keras, the same weights and slices", f"{speed['keras']:.2f}", "")
        table.add_row("ratio", f"{speed['ratio']:.2f}", "≥ 1.5")
    if "fast" in figures:
        part = figures["fast"]
        table.add_row(f"{part['model']}, megavoxels a second", f"{part['fast']:.2f}", "≥ 8, aim 16")
        table.add_row("  the model it was made from, in the same run", f"{part['float32']:.2f}", "")
        table.add_row("  Keras, in the same run", f"{part['keras']:.2f}", "")
        table.add_row("  ratio to these", f"{part['ratio']:.2f}, {part['ratio_to_keras']:.2f}", "")
        if "iou" in part:
            iou = part["iou"]
            table.add_row(
                "  IoU on slices {}:{}, and before".format(*iou["slices"]),
                f"{iou['fast']:.4f}, {iou['float32']:.4f}",
                "≤ 0.01 less",
            )
    for name, rates in figures.get("tiles", {}).items():
        for tile, rate in rates.items():
            table.add_row(f"{name}: tiles of {tile} pixels, megavoxels a second", f"{rate:.2f}", "")
    if "memory" in figures:
        memory = figures["memory"]
        table.add_row(f"volume of {memory['volume_gb']:.2f} GB: peak memory", f"{memory['peak_gb']:.2f} GB", "≤ 2 GB")
        table.add_row("the same: megavoxels a second", f"{memory['megavoxels_per_s']:.2f}", "")
    if "steps" in figures:
        for precision, rate in figures["steps"].items():
            table.add_row(f"training steps a second, {precision}", f"{rate:.2f}", "")
    return table
