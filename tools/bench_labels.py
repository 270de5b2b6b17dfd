"""Numbered objects out of core against those made in memory, voxel by voxel.

    python tools/bench_labels.py [--side 1024] [--folder DIR] [--workers N] [--json FILE]

Makes a mask of rods, balls and specks, slab by slab, which cross every face of every block. Labels it out of core in a
process of its own, in the blocks that are chosen by default and in cubes; then in memory in another, which compares the
two as it reads the first. Takes 7 bytes of memory a voxel, for the comparison.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

SLAB = 64
VOXEL_NM = (5.0, 5.0, 5.0)
MIB = 2**20


def make_mask(path: Path, side: int, seed: int = 0) -> None:
    """Write a mask of which a sixteenth or so is foreground."""
    from segment.volumes import create_volume

    rng = np.random.default_rng(seed)
    share = (side / 1024) ** 3
    starts, ends, radii = [], [], []
    for n, reach, largest in ((6000, 120, 7), (20_000, 0, 9), (100_000, 0, 1)):  # rods, balls, specks
        n = max(1, round(n * share))
        centre = rng.uniform(0, side, (n, 3))
        half = rng.uniform(-reach, reach, (n, 3))
        starts.append(centre - half)
        ends.append(centre + half)
        radii.append(rng.uniform(0.5, largest, n))
    start, end, radius = np.concatenate(starts), np.concatenate(ends), np.concatenate(radii)
    low = np.maximum(np.floor(np.minimum(start, end) - radius[:, None]), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(start, end) + radius[:, None]) + 1, side).astype(int)
    with create_volume(path, (side,) * 3, np.uint8, VOXEL_NM) as writer:
        for first in range(0, side, SLAB):
            stop = min(first + SLAB, side)
            slab = np.zeros((stop - first, side, side), np.uint8)
            for index in np.flatnonzero((low[:, 0] < stop) & (high[:, 0] > first)):
                z0, z1 = max(low[index, 0], first), min(high[index, 0], stop)
                (y0, x0), (y1, x1) = low[index, 1:], high[index, 1:]
                points = np.ogrid[z0:z1, y0:y1, x0:x1]
                inside = _distance_squared(points, start[index], end[index]) <= radius[index] ** 2
                slab[z0 - first : z1 - first, y0:y1, x0:x1][inside] = 255
            writer.append(slab)


def _distance_squared(points: list[np.ndarray], start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the squared distance of voxels to a line from start to end."""
    along = end - start
    length = max(float(along @ along), 1e-9)
    at = sum((p - s) * a for p, s, a in zip(points, start, along, strict=True)) / length
    at = np.clip(at, 0, 1)
    return sum((p - s - at * a) ** 2 for p, s, a in zip(points, start, along, strict=True))


def label_out_of_core(mask: Path, out: Path, block: list[int] | None, workers: int | None) -> dict[str, Any]:
    import scipy.sparse.csgraph  # noqa: F401  # not part of the merge's time

    from segment.cli.engines import choose_engine
    from segment.objects.blocks import Grid, choose_blocks
    from segment.objects.blockwise import label_volume
    from segment.objects.masks import open_numbers

    before = _peak_bytes()
    started = time.perf_counter()
    with open_numbers(mask) as volume:
        shape = volume.shape
        grid = Grid(shape, (block[0], block[1], block[2])) if block else choose_blocks(shape)
        run = label_volume(volume, out, volume.voxel_nm, engine=choose_engine(workers, None), grid=grid)
    return {
        "block": list(grid.block),
        "n_blocks": run.n_blocks,
        "n_faces": run.n_faces,
        "n_objects": run.n_objects,
        "seconds": time.perf_counter() - started,
        "step_seconds": run.seconds,
        "merge_ms_per_face": 1e3 * run.seconds["merge"] / max(1, run.n_faces),
        "peak_bytes": _peak_bytes(),
        "process_itself_bytes": before,
    }


def label_in_memory(mask: Path, outs: list[Path]) -> dict[str, Any]:
    """Label a mask in memory, and count in how many voxels others differ."""
    from segment.objects.instances import label_objects
    from segment.objects.masks import open_numbers, read_mask

    started = time.perf_counter()
    with open_numbers(mask) as volume:
        foreground = read_mask(volume)
    labels, n_objects = label_objects(foreground)
    figures = {
        "n_objects": n_objects,
        "foreground": float(foreground.mean()),
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak_bytes(),
        "n_different_voxels": [],
    }
    del foreground
    for out in outs:
        with open_numbers(out) as others:
            slabs = ((labels[z : z + SLAB], others[z : z + SLAB]) for z in range(0, len(labels), SLAB))
            figures["n_different_voxels"].append(sum(int(np.count_nonzero(a != b)) for a, b in slabs))
    return figures


def _peak_bytes() -> int:
    """Return the most memory that this process, or one that it started and waited for, has held."""
    own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * max(own, others)


def _in_a_process(step: str, **arguments: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", json.dumps({"step": step, **arguments})]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _run_step(step: str, mask: str, **arguments: Any) -> dict[str, Any]:
    if step == "mask":
        make_mask(Path(mask), arguments["side"])
        return {}
    if step == "out of core":
        return label_out_of_core(Path(mask), Path(arguments["out"]), arguments["block"], arguments["workers"])
    return label_in_memory(Path(mask), [Path(out) for out in arguments["outs"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="of the mask, a cube, in voxels")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--workers", type=int, help="label in so many processes; by default in one")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        print(json.dumps(_run_step(**json.loads(arguments.step))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        mask = folder / "mask.ome.zarr"
        _in_a_process(
            "mask", mask=str(mask), side=arguments.side
        )  # this one stays small: what it starts counts from it
        label = partial(_in_a_process, "out of core", mask=str(mask), workers=arguments.workers)
        outs, runs = [], []
        cube = 16 * math.ceil(min(256, arguments.side / 4) / 16)
        for block in (None, [cube, cube, cube]):
            outs.append(str(folder / f"labels{len(outs)}.ome.zarr"))
            runs.append(label(out=outs[-1], block=block))
        whole = _in_a_process("in memory", mask=str(mask), outs=outs)
    table = Table("labels", "blocks", "objects", "peak (MiB)", "seconds", "merge (ms a face)", "voxels that differ")
    for run, n_different in zip(runs, whole["n_different_voxels"], strict=True):
        table.add_row(
            "out of core",
            f"{run['n_blocks']} of {' × '.join(map(str, run['block']))}",
            f"{run['n_objects']:,}",
            f"{run['peak_bytes'] / MIB:.0f}",
            f"{run['seconds']:.0f}",
            f"{run['merge_ms_per_face']:.2f}",
            f"{n_different:,}",
        )
    peak, seconds = f"{whole['peak_bytes'] / MIB:.0f}", f"{whole['seconds']:.0f}"
    table.add_row("in memory", "", f"{whole['n_objects']:,}", peak, seconds, "", "")
    Console().print(table)
    if arguments.json is not None:
        figures = {"side": arguments.side, "out_of_core": runs, "in_memory": whole}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if any(whole["n_different_voxels"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
