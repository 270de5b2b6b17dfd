"""Peak memory of `segment predict` from a 1 GB to a 32 GB volume: does a worker take more where there is more to do?

    python tools/bench_worker_memory.py [--gb 1 4 32] [--workers 2] [--folder DIR] [--json F]

Each volume is of 1-byte voxels in a Zarr, of which only the first slices are on the disk; the others read as 0. Its
sides along y and x are multiples of 1,600: all are cut into blocks of one shape, which is what memory goes with.
The network is next to none (a line, cut off at 0 and 1), but says of itself what the shipped ones say, so that blocks
and tiles are cut as for them; nothing is skipped. Memory is each process's own high-water mark, as the kernel keeps it
(VmHWM), read again and again until the process ends. A worker has three blocks in hand, and its mark is set when they
happen to need most at once: so smaller volumes are segmented again and again, by new workers, until as many blocks are
done as in the largest one. Linux only. The results take 1/100 of the volumes' size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import zarr
from onnx import TensorProto, helper

from segment.serving.metadata import METADATA_KEY, ModelMetadata
from segment.serving.model import SegmentationModel

CHUNK = (16, 512, 512)
SIDE = 1600  # two of the blocks of 800 × 800 that such sides are cut into
LOOK_S = 0.2
FLAT = 0.10  # how far the peaks may lie apart, as a part of the first


def make_volume(folder: Path, gb: float) -> tuple[Path, tuple[int, int, int]]:
    """Write a volume of which only the first slices are not 0: enough for its percentiles to differ."""
    side = SIDE * max(1, round((gb * 1e9) ** (1 / 3) / SIDE))
    shape = (round(gb * 1e9 / side**2), side, side)
    path = folder / f"image-{gb:g}.zarr"
    array = zarr.create_array(str(path), shape=shape, dtype="uint8", chunks=CHUNK, fill_value=0)
    row = np.resize(np.arange(256, dtype=np.uint8), side)
    array[: CHUNK[0]] = np.broadcast_to(row, (CHUNK[0], side, side))
    return path, shape


def make_model(path: Path) -> Path:
    """Write a network of one operator, cut as the shipped one: dark is foreground."""
    shipped = SegmentationModel.load("mitochondria-epfl-plus", device="cpu").metadata
    metadata = ModelMetadata(**{**shipped.model_dump(), "name": "line", "slice_offsets": (0,), "scores": {}})
    graph = helper.make_graph(
        [helper.make_node("HardSigmoid", ["image"], ["probability"], alpha=-1 / 255, beta=1.0)],
        "line",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, "h", "w"]),
            helper.make_tensor_value_info("intensity", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.save(model, path)
    return path


def run_watched(command: Sequence[str]) -> tuple[float, dict[int, int]]:
    """Run a command; return its seconds and the peak memory of each of its processes in bytes, its own first."""
    import psutil

    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks = {process.pid: 0}
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            for pid in (process.pid, *(child.pid for child in children)):
                peaks[pid] = max(peaks.get(pid, 0), high_water(pid))
        time.sleep(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"segment predict ended with code {process.returncode}")
    return time.monotonic() - started, peaks


def high_water(pid: int) -> int:
    """Return the most memory that a process has had so far, in bytes; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def measure(folder: Path, model: Path, gb: float, workers: int, repeats: int) -> dict[str, Any]:
    """Segment a volume of a size some times."""
    volume, shape = make_volume(folder, gb)
    out = folder / f"mask-{gb:g}.ome.zarr"
    command = [sys.executable, "-m", "segment.cli.main", "predict", str(volume), str(out), "--model", str(model)]
    command += ["--device", "cpu", "--voxel-size", "5,5,5", *(("--workers", str(workers)) if workers else ())]
    seconds, of_workers, of_program = 0.0, [], []
    for _ in range(repeats):
        shutil.rmtree(out, ignore_errors=True)
        taken, peaks = run_watched(command)
        own, *others = peaks.values()
        seconds += taken
        of_workers.append(round(max(others or [own]) / 1e9, 3))
        of_program.append(round(own / 1e9, 3))
    n_voxels = repeats * int(np.prod(shape))
    run = json.loads(out.with_name(out.name + ".run.json").read_text(encoding="utf-8"))
    return {
        "gb": n_voxels / repeats / 1e9,
        "repeats": repeats,
        "shape": list(shape),
        "block_shape": run["block_shape"],
        "seconds": round(seconds, 1),
        "megavoxels_per_s": round(n_voxels / 1e6 / seconds, 1),
        "peak_gb_of_a_worker": max(of_workers),
        "least_peak_gb_of_a_worker": min(of_workers),
        "peak_gb_of_the_program": max(of_program),
        "run": run,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code says whether memory was flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, nargs="+", default=[1.0, 4.0, 32.0], help="sizes, the smallest first")
    parser.add_argument("--workers", type=int, default=2, help="0 runs in one process")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        model = make_model(Path(name) / "line.onnx")
        found = []
        for gb in options.gb:
            repeats = max(1, round(max(options.gb) / gb))
            found.append(measure(Path(name), model, gb, options.workers, repeats))
            print({key: value for key, value in found[-1].items() if key != "run"}, flush=True)
    peaks = [each["peak_gb_of_a_worker"] for each in found]
    figures = {"workers": options.workers, "ratios": [round(peak / peaks[0], 3) for peak in peaks], "runs": found}
    has_one_shape = len({tuple(each["block_shape"]) for each in found}) == 1
    figures["is_flat"] = has_one_shape and max(abs(peak / peaks[0] - 1) for peak in peaks) <= FLAT
    print(json.dumps({name: value for name, value in figures.items() if name != "runs"}))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0 if figures["is_flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
