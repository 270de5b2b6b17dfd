"""What ``segment predict`` was asked for, and the job that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from segment.cli.arguments import parse_roi
from segment.serving.blockwise import PredictJob
from segment.serving.mask_file import MaskFile
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.run_folder import RunFolder
from segment.volumes import Volume
from segment.volumes.volume import split_dataset
from streamdetect.cli.console import n_cores
from streamdetect.runtime import CUDA, Device


@dataclass(frozen=True)
class Request:
    """The options of ``segment predict``; its help says what they mean."""

    image: Path
    out: Path
    model: str
    probabilities: Path | None
    device: str
    voxel_size: str | None
    invert: bool
    tile: int | None
    tta: bool
    axes: str
    threshold: float | None
    roi: str | None
    mask: Path | None
    skip_background: bool
    pyramid: bool
    threads: int | None
    workers: int | None
    scheduler: str | None
    shard: int
    n_shards: int
    resume: bool
    dry_run: bool
    json: Path | None

    @property
    def outputs(self) -> dict[str, Path]:
        """Images that are written, by name."""
        named = {"mask": self.out, "probabilities": self.probabilities}
        return {name: path for name, path in named.items() if path is not None}

    @property
    def joins(self) -> bool:
        """Whether a run that is there goes on; shards start together, and the first makes the run."""
        return self.resume or self.n_shards > 1


def count_threads(request: Request) -> int | None:
    """Return the cores of one process; None for all."""
    if request.threads is None and request.workers is not None:
        return max(1, n_cores() // request.workers)
    return request.threads


def make_job(
    request: Request, volume: Volume, model: SegmentationModel, model_path: Path, folder: RunFolder
) -> PredictJob:
    """Plan the work; a run that goes on keeps the intensities that it was begun with."""
    known = folder.read_manifest().settings["intensity"] if folder.exists and request.joins else None
    plan = plan_prediction(
        volume,
        model.metadata,
        axes=request.axes,
        tta=request.tta,
        tile=request.tile,
        invert=request.invert,
        intensity=(min(known), max(known)) if known else None,
    )
    region = parse_roi(request.roi, plan.shape) if request.roi is not None else None
    if request.mask is not None:
        MaskFile.open(request.mask, plan.shape).close()  # refuse it before the work begins
    device = request.device if request.scheduler and request.device != "auto" else _kind(model.provider)
    return PredictJob(
        image=_absolute(request.image),
        voxel_nm=volume.voxel_nm,
        model=str(model_path.resolve()),
        model_sha256=model.sha256,
        device=cast(Device, device),
        threads=count_threads(request) if request.scheduler else model.threads,
        plan=plan,
        threshold=model.metadata.threshold if request.threshold is None else request.threshold,
        folder=folder.path.resolve(),
        probabilities=request.probabilities is not None,
        region=region,
        mask=_absolute(request.mask) if request.mask is not None else None,
        skip_background=request.skip_background,
    )


def _kind(provider: str) -> str:
    return "cuda" if provider == CUDA else "cpu"


def _absolute(path: Path) -> str:
    """Return a path that workers understand, with the dataset in it where there is one."""
    file, dataset = split_dataset(path)
    return f"{file.resolve()}:{dataset}" if dataset is not None else str(file.resolve())
