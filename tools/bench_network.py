"""Width and depth of the segmentation network: validation IoU against megavoxels a second, as a table and a figure.

    python tools/bench_network.py IMAGE LABELS --train 0:98 --validate 105:125 --minutes 4 --figure F.png --json F.json

Each network is trained for the same time, exported, and served as `segment predict` serves it. The IoU is that of the
validation slices at the threshold that suits the network best there: a choice between networks, no score of them.
Leave the machine alone meanwhile: all of them share its time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.fit import fit_model, split_slices
from segment.training.train import TrainSettings
from segment.training.unet import NetworkSettings
from segment.volumes import Volume, open_volume, read_labels
from streamdetect.scoring.figures import BLUE

NETWORKS = tuple(
    NetworkSettings(width, depth, stem, offsets)
    for width, depth, stem, offsets in (
        (16, 3, 2, (-2, 0, 2)),
        (32, 3, 2, (-2, 0, 2)),
        (32, 3, 2, (0,)),
        (32, 2, 2, (-2, 0, 2)),
        (16, 4, 2, (-2, 0, 2)),
        (16, 4, 1, (-2, 0, 2)),
    )
)
N_TIMED = 6  # slices


def measure(network: NetworkSettings, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with open_volume(arguments.image) as volume:
        return measure_on(volume, network, arguments, folder)


def measure_on(volume: Volume, network: NetworkSettings, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    labels = read_labels(arguments.labels, shape=volume.shape)
    split = split_slices(volume.shape[0], [parse(arguments.train)], parse(arguments.validate))
    settings = TrainSettings(network=network, minutes=arguments.minutes, validate_every_s=arguments.minutes * 30)
    out = folder / "network.onnx"
    voxel_nm = volume.voxel_nm or (arguments.voxel_nm,) * 3
    fitted = fit_model(volume, labels, Path(arguments.labels), voxel_nm, split, settings, out)
    model = SegmentationModel.load(out)
    slices = volume[:N_TIMED]
    predict_volume(slices[:1], model, voxel_nm=voxel_nm)
    began = time.perf_counter()
    predict_volume(slices, model, voxel_nm=voxel_nm)
    seconds = time.perf_counter() - began
    return {
        "width": network.width,
        "depth": network.depth,
        "stem": network.stem,
        "slices": list(network.slice_offsets),
        "steps": fitted.trained.history.step,
        "iou": fitted.trained.iou,
        "model_mb": fitted.exported.n_bytes / 1e6,
        "megavoxels_per_s": slices.size / 1e6 / seconds,
    }


def parse(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last)


def draw(rows: list[dict[str, Any]], minutes: float) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter([row["megavoxels_per_s"] for row in rows], [row["iou"] for row in rows], color=BLUE)
    middle = sum(axes.get_xlim()) / 2
    for row in rows:
        slices = "1 slice" if len(row["slices"]) == 1 else f"{len(row['slices'])} slices"
        name = f"width {row['width']}, depth {row['depth']}, stem {row['stem']}, {slices}"
        is_left = row["megavoxels_per_s"] < middle
        axes.annotate(
            name,
            (row["megavoxels_per_s"], row["iou"]),
            xytext=(6 if is_left else -6, 4),
            textcoords="offset points",
            ha="left" if is_left else "right",
            size=8,
        )
    axes.margins(y=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel("megavoxels a second, served by ONNX Runtime")
    axes.set_ylabel(f"validation IoU after {minutes:g} min")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("labels")
    parser.add_argument("--train", required=True, metavar="A:B")
    parser.add_argument("--validate", required=True, metavar="A:B")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--voxel-nm", type=float, default=5.0, help="where the file does not say")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(network, arguments, Path(folder)))
        print(json.dumps(rows[-1]), flush=True)
    table = Table("width", "depth", "stem", "slices", "steps", "IoU", "MB", "megavoxels/s", box=None)
    for row in rows:
        shape = (str(row[name]) for name in ("width", "depth", "stem", "slices"))
        table.add_row(
            *shape,
            f"{row['steps']:,}",
            f"{row['iou']:.3f}",
            f"{row['model_mb']:.1f}",
            f"{row['megavoxels_per_s']:.2f}",
        )
    Console().print(table)
    if arguments.figure:
        draw(rows, arguments.minutes).savefig(arguments.figure, dpi=120)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
