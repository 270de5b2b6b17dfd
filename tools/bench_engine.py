"""What Dask costs over a plain loop: the same blocks through 2 local workers, and in 2 processes that share them.

    python tools/bench_engine.py [--workers 2] [--shape 256,1024,1024] [--model NAME] [--repeats 3] [--json FILE]

A simulated volume, a shipped model, one core a process; each way in turn, the median of some runs. Timed from the
first block that is handed out to the last that is committed: starting processes and loading models is left out, and
told apart for Dask. The plain way is `segment.serving.blockwise.run_here` on every second block, as with --num-shards.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from segment.serving.begin import begin_run, describe_run
from segment.serving.blockwise import PredictJob, check_worker, predict_and_commit, run_here
from segment.serving.distribute import run_on_dask
from segment.serving.metadata import METADATA_KEY
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.run_folder import RunFolder
from segment.synthetic import simulate_volume
from segment.volumes import create_volume, open_volume
from streamdetect.model_file import read_model

VOXEL_NM = (5.0, 5.0, 5.0)
PIECE = (32, 256, 256)  # that is simulated and laid side by side


def make_volume(path: Path, shape: tuple[int, ...]) -> None:
    """Write a volume of one simulated piece again and again."""
    piece = simulate_volume(PIECE, voxel_nm=VOXEL_NM, seed=0).image
    slab = np.tile(piece, (1, -(-shape[1] // PIECE[1]), -(-shape[2] // PIECE[2])))[:, : shape[1], : shape[2]]
    with create_volume(path, shape, np.uint8, VOXEL_NM) as writer:
        for first in range(0, shape[0], PIECE[0]):
            writer.append(slab[: min(PIECE[0], shape[0] - first)])


def make_job(image: Path, name: str, folder: RunFolder) -> PredictJob:
    """Begin a run of one core a process."""
    content, path = read_model(name, METADATA_KEY)
    model = SegmentationModel(content, str(path), device="cpu", threads=1)
    with open_volume(image) as volume:
        job = PredictJob(
            image=str(image),
            voxel_nm=volume.voxel_nm,
            model=str(path),
            model_sha256=model.sha256,
            device="cpu",
            threads=1,
            plan=plan_prediction(volume, model.metadata),
            threshold=model.metadata.threshold,
            folder=folder.path,
        )
        begin_run(folder, describe_run(job, volume, model), job, "image", volume.voxel_nm, joins=False)
    return job


def on_dask(job: PredictJob, workers: int) -> tuple[float, float]:
    """Return the seconds that the blocks took, and those of what came before and after."""
    began = time.perf_counter()
    first, last = 0.0, 0.0

    def indices() -> Iterator[int]:
        nonlocal first
        first = time.perf_counter()
        yield from range(len(job.plan.blocks))

    def done(index: int, record: object) -> None:
        nonlocal last
        last = time.perf_counter()

    failed = run_on_dask(
        partial(predict_and_commit, job), indices(), on_done=done, cancelled=lambda: False, workers=workers,
        probe=partial(check_worker, job),
    )  # fmt: skip
    if failed:
        raise SystemExit(f"bench_engine: blocks failed: {failed}")
    return last - first, time.perf_counter() - began - (last - first)


def loop(job: PredictJob, mine: Iterable[int], ready: object, ended: object) -> None:
    """Do a share of the blocks in this process."""
    check_worker(job)
    ready.wait()  # type: ignore[attr-defined]
    run_here(partial(predict_and_commit, job), mine, on_done=lambda index, record: None, cancelled=lambda: False)
    ended.wait()  # type: ignore[attr-defined]


def in_processes(job: PredictJob, workers: int) -> float:
    """Return the seconds that the blocks took in a plain loop in each of some processes."""
    context = multiprocessing.get_context("spawn")
    ready, ended = context.Barrier(workers + 1), context.Barrier(workers + 1)
    processes = [
        context.Process(target=loop, args=(job, range(i, len(job.plan.blocks), workers), ready, ended))
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    ended.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds


def main() -> None:
    """Time both ways, and print what Dask costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shape", type=lambda text: tuple(map(int, text.split(","))), default=(256, 1024, 1024))
    parser.add_argument("--model", default="mitochondria-epfl-plus")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"dask": [], "processes": [], "around": []}
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "image.ome.zarr"
        make_volume(image, options.shape)
        for i in range(options.repeats):
            for way in ("processes", "dask"):
                job = make_job(image, options.model, RunFolder(Path(name) / f"{way}-{i}.run"))
                if way == "dask":
                    blocks, around = on_dask(job, options.workers)
                    seconds["dask"].append(blocks)
                    seconds["around"].append(around)
                else:
                    seconds["processes"].append(in_processes(job, options.workers))
        n_blocks = len(job.plan.blocks)
    dask, processes = statistics.median(seconds["dask"]), statistics.median(seconds["processes"])
    figures = {
        "shape": options.shape,
        "blocks": n_blocks,
        "workers": options.workers,
        "model": options.model,
        "seconds": seconds,
        "overhead": dask / processes - 1,
        "megavoxels_per_s": float(np.prod(options.shape)) / 1e6 / dask,
    }
    Console(highlight=False).print(
        f"{n_blocks} blocks, {options.workers} workers: Dask {dask:.2f} s, plain loops {processes:.2f} s, "
        f"{100 * figures['overhead']:+.1f} %; to start and end Dask takes {statistics.median(seconds['around']):.1f} s"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
