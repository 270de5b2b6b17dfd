"""The record that is written beside every result: what was computed, with what, where, and how fast."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segment.serving.blockwise import PredictJob
from segment.serving.run_folder import BlockRecord, Manifest

ENDING = ".run.json"


def record_path(out: Path) -> Path:
    """Return where the record of a result lies.

    Examples
    --------
    >>> record_path(Path("mask.ome.zarr")).name
    'mask.ome.zarr.run.json'
    """
    return out.with_name(out.name + ENDING)


@dataclass
class Tally:
    """What the blocks of a run add up to.

    Parameters
    ----------
    n_done, n_background, n_unmarked, n_retried : int
        Blocks: done in all, skipped as background, skipped outside of the mask, tried more than once.
    n_voxels, n_foreground : int
        That were computed, and those at or above the threshold.
    seconds : float
        Of all blocks, waits included.
    providers : set of str
        ONNX Runtime's names of what ran the network.
    """

    n_done: int = 0
    n_background: int = 0
    n_unmarked: int = 0
    n_retried: int = 0
    n_voxels: int = 0
    n_foreground: int = 0
    seconds: float = 0.0
    providers: set[str] = field(default_factory=set)

    def add(self, records: Iterable[BlockRecord]) -> Tally:
        """Count some blocks."""
        for record in records:
            self.n_done += 1
            self.n_background += record.skipped == "background"
            self.n_unmarked += record.skipped == "mask"
            self.n_retried += record.attempts > 1
            self.n_voxels += record.n_voxels
            self.n_foreground += record.n_foreground
            self.seconds += record.seconds
            if record.provider and not record.skipped:
                self.providers.add(record.provider)
        return self


def describe_result(
    job: PredictJob, manifest: Manifest, tally: Tally, *, n_region: int, n_here: int, seconds: float
) -> dict[str, Any]:
    """Return what is known of a result.

    Parameters
    ----------
    job : PredictJob
    manifest : Manifest
        Of the run.
    tally : Tally
        Of all its blocks.
    n_region : int
        Voxels of the volume that were to be segmented.
    n_here : int
        Voxels that this process computed, or had computed by its workers.
    seconds : float
        That it took, from its start.
    """
    plan = job.plan
    return {
        "image": job.image,
        "model": manifest.model,
        "provider": ", ".join(sorted(tally.providers)) or None,
        "threads": job.threads,
        "shape": list(plan.shape),
        "voxel_nm": manifest.input["voxel_nm"],
        "resampled_shape": list(plan.grid_shape),
        "intensity": list(plan.intensity),
        "axes": plan.axes,
        "tta": plan.tta,
        "tile": plan.tile,
        "threshold": job.threshold,
        "roi": manifest.settings["roi"],
        "region_mask": job.mask,
        "skip_background": job.skip_background,
        "foreground": tally.n_foreground / n_region,
        "block_shape": list(plan.blocks.shape),
        "blocks": {
            "total": len(plan.blocks),
            "done": tally.n_done,
            "background": tally.n_background,
            "outside_mask": tally.n_unmarked,
            "retried": tally.n_retried,
        },
        "block_seconds": round(tally.seconds, 3),
        "seconds": round(seconds, 3),
        "megavoxels_per_s": n_here / 1e6 / seconds,
        "versions": manifest.versions,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "key": manifest.key,
        "remarks": list(plan.remarks),
    }
