"""What ``segment predict`` does with its options: plan, compute what is not done yet, finish, report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import typer

from segment.cli.arguments import check_files
from segment.cli.predict_report import block_progress, report_estimate
from segment.cli.predict_request import Request, count_threads, make_job
from segment.errors import InputError
from segment.serving.begin import begin_run, describe_run, refuse_unfinished
from segment.serving.blocks import BlocksWithin
from segment.serving.blockwise import PredictJob, check_worker, kept_open, predict_and_commit, run_here
from segment.serving.finish import finish_run
from segment.serving.metadata import METADATA_KEY
from segment.serving.model import SegmentationModel
from segment.serving.predict import Cancelled
from segment.serving.record import Tally, describe_result, record_path
from segment.serving.run_folder import BlockRecord, Manifest, RunFolder, RunLocked
from segment.volumes import Volume, create_volume, open_volume, parse_voxel_size
from segment.volumes.create import is_zarr_name
from segment.volumes.ome_zarr import image_name
from streamdetect.cli.console import n_cores, needs_extra, say, write_json
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, StopRequest, stop_on_signal
from streamdetect.model_file import read_model
from streamdetect.runtime import Device

EXIT_IN_PART = 3
N_LISTED = 5  # blocks that failed
WORTH_WORKERS = 256  # files of a level of the pyramid: fewer are done before workers have started

R = TypeVar("R")


def run_request(request: Request) -> int:
    """Do what was asked for, and return the exit code."""
    began = time.perf_counter()
    folder = RunFolder.of(request.out)
    check_files(
        (request.image, request.model, request.mask),
        {"OUT": request.out},
        probabilities=request.probabilities,
        json=request.json,
    )
    if request.pyramid and not any(map(is_zarr_name, request.outputs.values())):
        raise InputError(f"--pyramid: goes with an output in .ome.zarr, found {request.out}")
    if not (request.joins or request.dry_run):
        refuse_unfinished(folder)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        voxel_nm = parse_voxel_size(request.voxel_size) if request.voxel_size is not None else None
        volume = stack.enter_context(open_volume(request.image, voxel_nm=voxel_nm))
        for path in request.outputs.values():  # refuse a name that cannot be written before the work begins
            create_volume(path, volume.shape, np.uint8, volume.voxel_nm)
        content, model_path = read_model(request.model, METADATA_KEY)
        model = SegmentationModel(
            content,
            str(model_path),
            device="cpu" if request.scheduler else cast(Device, request.device),
            threads=count_threads(request),
        )
        job = make_job(request, volume, model, model_path, folder)
        for remark in job.plan.remarks:
            say(remark)
        if request.device == "auto":
            say(f"--device auto took {model.provider}")
        if request.dry_run:
            report_estimate(job, volume, model, request.workers or 1, request.json)
            return 0
        manifest = describe_run(job, volume, model)
        n_damaged = manifest.input["samples"].count(None)
        if n_damaged and not folder.exists:
            say(
                f"{n_damaged} of {len(manifest.input['samples'])} slices that were looked at cannot be read: the range "
                "of intensities is measured without such slices, and stays so if this run goes on after a repair"
            )
        if request.joins and not folder.exists and _is_finished(request.out, manifest):
            say(f"{request.out} is there already, from the same model, settings and input: nothing to do")
            return 0
        manifest = begin_run(folder, manifest, job, image_name(request.out), volume.voxel_nm, joins=request.joins)
        run = _Run(request, job, folder, manifest, stop, began)
        with folder.lock_shard(request.shard, request.n_shards):
            return run.execute(volume, model)


class _Run:
    """A run that was begun, in this process."""

    def __init__(
        self, request: Request, job: PredictJob, folder: RunFolder, manifest: Manifest, stop: StopRequest, began: float
    ) -> None:
        self._request, self._job, self._folder, self._manifest = request, job, folder, manifest
        self._stop, self._began = stop, began
        self._retried: set[int] = set()
        self._n_here = 0
        self._region = job.region or job.plan.blocks.everywhere
        self._n_voxels = math.prod(stop - start for start, stop in self._region)

    def execute(self, volume: Volume, model: SegmentationModel) -> int:
        """Compute what is not done yet and finish; return the exit code."""
        request, folder, job = self._request, self._folder, self._job
        within = job.plan.blocks.within(self._region)
        done = folder.committed()
        if done:
            say(f"{folder.path}: {len(done):,} of {len(within):,} blocks are done already")
        try:
            failed = self._compute(within, done, volume, model)
            if self._stop.is_set():
                raise Cancelled("cancelled")
            n_left = len(within) - len(folder.committed())
            if failed:
                return self._report_failed(failed, within)
            if n_left:
                say(
                    f"shard {request.shard} of {request.n_shards} is done; {n_left:,} blocks of others are not yet: "
                    f"{request.out} appears once all are"
                )
                if request.json is not None:
                    write_json(request.json, self._figures())
                return 0
            return self._finish(volume)
        except Cancelled:
            say(f"stopped; what is done is kept in {folder.path}: the same command with --resume goes on from there")
            return EXIT_INTERRUPTED
        except InputError as error:
            if not folder.exists or not folder.committed():
                raise
            raise InputError(f"{error}; what is done is kept in {folder.path}: --resume goes on from there") from error

    def _compute(
        self, within: BlocksWithin, done: set[int], volume: Volume, model: SegmentationModel
    ) -> dict[int, str]:
        """Compute the blocks of this process's share that are not done; return what those said that failed."""
        request, job = self._request, self._job
        mine = list(within.part(request.shard, request.n_shards))
        todo = [index for index in mine if index not in done]
        if not todo:  # and perhaps the images are outputs already
            return {}
        with block_progress(len(mine), len(mine) - len(todo), self._n_voxels * len(mine) // len(within)) as shown:

            def on_done(index: int, record: BlockRecord) -> None:
                self._n_here += record.n_voxels
                shown.on_done(index)

            if request.workers or request.scheduler:
                return self._on_cluster(partial(predict_and_commit, job), todo, on_done, partial(check_worker, job))
            function = partial(predict_and_commit, job, on_part=shown.on_part, cancelled=self._stop.is_set)
            with kept_open(job, volume, model):
                return run_here(function, todo, on_done=on_done, cancelled=self._stop.is_set, on_retry=self._note_retry)

    def _on_cluster(
        self,
        function: Callable[[int], R],
        indices: Iterable[int],
        on_done: Callable[[int, R], None],
        probe: Callable[[], None] | None,
    ) -> dict[int, str]:
        with needs_extra("cluster"):
            from segment.serving.distribute import run_on_dask

        return run_on_dask(
            function,
            indices,
            on_done=on_done,
            cancelled=self._stop.is_set,
            workers=self._request.workers,
            scheduler=self._request.scheduler,
            on_retry=self._note_retry,
            on_remark=say,
            probe=probe,
        )

    def _note_retry(self, index: int, message: str) -> None:
        self._retried.add(index)

    def _run_any(self, function: Callable[[int], Any], indices: range) -> dict[int, str]:
        """Run what is no block, with the workers where it is worth it."""

        def ignore(index: int, result: object) -> None:
            """Nothing is told of files of the pyramid."""

        if (self._request.workers or self._request.scheduler) and len(indices) >= WORTH_WORKERS:
            return self._on_cluster(function, indices, ignore, None)
        return run_here(function, indices, on_done=ignore, cancelled=self._stop.is_set, n_threads=n_cores())

    def _report_failed(self, failed: dict[int, str], within: BlocksWithin) -> int:
        folder = self._folder
        for index, message in failed.items():
            if not folder.count_failures(index):  # a worker that died says nothing
                folder.note_failure(index, message)
        listed = sorted(failed.items())[:N_LISTED]
        for index, message in listed:
            z, y, x = (f"{cut.start}:{cut.stop}" for cut in self._job.plan.blocks.block(index))
            say(f"block {index} ({z},{y},{x}) failed: {message}")
        more = f", and {len(failed) - len(listed):,} more" if len(failed) > len(listed) else ""
        say(
            f"{len(failed):,} of {len(within):,} blocks failed{more} (listed in {folder.path / 'failed'}); "
            f"{self._request.out} is not written; the same command with --resume tries them again"
        )
        figures = self._figures()
        write_json(folder.path / "run.json", figures)
        write_json(self._request.json, figures)
        return EXIT_IN_PART

    def _finish(self, volume: Volume) -> int:
        request, folder = self._request, self._folder
        try:
            with folder.lock("finish", "writing the output of this run"):
                figures = self._figures()
                finish_run(
                    folder,
                    request.outputs,
                    volume.voxel_nm,
                    pyramid=request.pyramid,
                    run=self._run_any,
                    cancelled=self._stop.is_set,
                )
                figures["seconds"] = time.perf_counter() - self._began
                figures["megavoxels_per_s"] = self._n_here / 1e6 / figures["seconds"]
                write_json(record_path(request.out), figures)
                folder.remove()
        except RunLocked:
            say(f"another shard is writing {request.out}")
            return 0
        typer.echo(
            f"foreground: {100 * figures['foreground']:.2f} % of {self._n_voxels / 1e6:,.1f} megavoxels, in "
            f"{figures['seconds']:.1f} s ({figures['megavoxels_per_s']:.2f} megavoxels a second, "
            f"{figures['provider'] or 'no block computed'})",
            err=request.json is not None and str(request.json) == "-",
        )
        say("wrote " + " and ".join(map(str, request.outputs.values())))
        write_json(request.json, figures)
        return 0

    def _figures(self) -> dict[str, Any]:
        request, folder = self._request, self._folder
        tally = Tally().add(folder.records())
        failed = folder.failures()
        figures = describe_result(
            self._job,
            self._manifest,
            tally,
            n_region=self._n_voxels,
            n_here=self._n_here,
            seconds=time.perf_counter() - self._began,
        )
        figures["blocks"] |= {"retried": max(tally.n_retried, len(self._retried)), "failed": failed}
        return {
            **figures,
            "mask": str(request.out),
            "probabilities": str(request.probabilities) if request.probabilities is not None else None,
            "pyramid": request.pyramid,
            "workers": request.workers,
            "scheduler": request.scheduler,
            "num_shards": request.n_shards,
            "resumed": request.resume,
        }


def _is_finished(out: Path, manifest: Manifest) -> bool:
    """Tell whether an output is that of the same manifest."""
    import json

    try:
        return out.exists() and json.loads(record_path(out).read_text(encoding="utf-8"))["key"] == manifest.key
    except (OSError, ValueError, LookupError, TypeError):
        return False
