"""What networks lose in IoU for their speed, in float32 and in 8-bit integers, as a table and a figure.

    python tools/bench_pareto.py IMAGE LABELS MODEL... --calibrate 0:98 --validate 105:125 --figure F.png --json F.json

The models are files of `segment train`, or names of shipped ones; each is quantised as `segment quantize` does it, but
for the gate. The IoU is that of the validation slices at each model's threshold, which was chosen there: a choice
between networks, no score of them. All are timed in turn on the same slices. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from segment.bench.fast import block_runner
from segment.bench.serving import simulate_planes, time_in_turn
from segment.intensity import intensity_range
from segment.serving.metadata import METADATA_KEY
from segment.serving.model import SegmentationModel
from segment.training.fit import score_slices
from segment.training.precision import draw_tiles, to_int8
from segment.volumes import open_volume, read_labels
from streamdetect.model_file import read_model
from streamdetect.scoring.figures import BLUE

N_SLICES = 4
GREY = "0.5"
LOSS, SPEED = 0.01, 16.0  # what the fast model may lose against the best, and the megavoxels a second that it aims at


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows, runs = [], {}
    planes = simulate_planes(N_SLICES)
    labels = read_labels(arguments.labels)
    with open_volume(arguments.image, voxel_nm=(arguments.voxel_nm,) * 3) as volume:
        for source in arguments.models:
            content, path = read_model(source, METADATA_KEY)
            metadata = SegmentationModel(content, device="cpu").metadata
            intensity = intensity_range(volume, metadata.percentiles)
            tiles = draw_tiles(volume, (parse(arguments.calibrate),), metadata, np.random.default_rng(0))
            for precision, each in (("float32", content), ("int8", to_int8(content, tiles, intensity))):
                model = SegmentationModel(each, device="cpu")
                counts = score_slices(model, volume, labels, intensity, parse(arguments.validate), "z")
                rows.append(
                    {
                        "model": path.stem,
                        "width": metadata.network.width,
                        "depth": metadata.network.depth,
                        "stem": metadata.network.stem,
                        "slices": list(metadata.slice_offsets),
                        "steps": metadata.training.steps,
                        "precision": precision,
                        "iou": counts.iou,
                        "model_mb": len(each) / 1e6,
                    }
                )
                runs[f"{path.stem} {precision}"] = block_runner(planes, model)
    for row, seconds in zip(rows, time_in_turn(runs, arguments.rounds).values(), strict=True):
        row["megavoxels_per_s"] = planes.size / 1e6 / seconds
    return rows


def parse(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last)


def draw(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    best = max(row["iou"] for row in rows)
    axes.axhline(best - LOSS, color=GREY, linestyle=":", linewidth=1)
    axes.axvline(SPEED, color=GREY, linestyle=":", linewidth=1)
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        speeds, ious = [(before[name], after[name]) for name in ("megavoxels_per_s", "iou")]
        axes.plot(speeds, ious, color=BLUE, linewidth=1)
        axes.scatter(speeds[:1], ious[:1], color="white", edgecolor=BLUE, zorder=3)
        axes.scatter(speeds[1:], ious[1:], color=BLUE, zorder=3)
        is_crowded = any(0 < row["iou"] - before["iou"] < LOSS for row in rows)  # another lies just above
        axes.annotate(
            f"width {before['width']}, depth {before['depth']}, stem {before['stem']}, {before['steps']:,} steps",
            (sum(speeds) / 2, ious[0]),
            xytext=(0, -7 if is_crowded else 7),
            textcoords="offset points",
            ha="center",
            va="top" if is_crowded else "bottom",
            size=8,
        )
    for color, name in (("white", "float32"), (BLUE, "int8")):
        axes.scatter([], [], color=color, edgecolor=BLUE, label=name)
    axes.plot([], [], color=GREY, linestyle=":", label=f"{SPEED:g} megavoxels a second; {LOSS:g} below the best IoU")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    axes.margins(x=0.1, y=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel("megavoxels a second, served by ONNX Runtime")
    axes.set_ylabel("validation IoU")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--calibrate", required=True, metavar="A:B")
    parser.add_argument("--validate", required=True, metavar="A:B")
    parser.add_argument("--voxel-nm", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=10, help="runs of each, of which the quickest counts")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments)
    table = Table("width", "depth", "stem", "slices", "steps", "precision", "IoU", "MB", "megavoxels/s", box=None)
    for row in rows:
        shape = (str(row[name]) for name in ("width", "depth", "stem", "slices"))
        figures = (f"{row['iou']:.4f}", f"{row['model_mb']:.1f}", f"{row['megavoxels_per_s']:.1f}")
        table.add_row(*shape, f"{row['steps']:,}", row["precision"], *figures)
    Console(width=120).print(table)
    if arguments.figure:
        draw(rows).savefig(arguments.figure, dpi=120)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
