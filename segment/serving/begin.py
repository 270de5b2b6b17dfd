"""How a run begins, or goes on where it stood: never with another model, other settings or another input."""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime
import zarr

from segment.errors import InputError, VolumeError
from segment.intensity import sample_slices
from segment.serving.blockwise import PredictJob
from segment.serving.model import SegmentationModel
from segment.serving.run_folder import Manifest, RunFolder, find_differences
from segment.volumes import Volume, VoxelSize
from segment.volumes.sharded import create_sharded
from segment.volumes.volume import split_dataset
from streamdetect.files import file_sha256

N_SAMPLES = 16  # slices of which a part tells whether the input is still the same
SAMPLE_SIDE = 64  # pixels


def describe_run(job: PredictJob, volume: Volume, model: SegmentationModel) -> Manifest:
    """Return the manifest of a job: all that decides its result.

    Parameters
    ----------
    job : PredictJob
    volume : Volume
        That it reads.
    model : SegmentationModel
        That it runs.

    Notes
    -----
    The input is known by its shape, type and voxel size, and by a hash of the middle of up to 16 slices: hashing
    terabytes would take longer than it helps. A slice that cannot be read now is not compared, so that a run can go on
    once a damaged file is repaired. Neither the number of threads nor of workers changes a bit, nor does where a file
    lies; the version of ONNX Runtime may, and so may that of this package.
    """
    plan = job.plan
    versions = {
        "streamdetect": version("streamdetect"),
        "onnxruntime": onnxruntime.__version__,  # the distribution may have another name
        "numpy": np.__version__,
        "zarr": zarr.__version__,
    }
    settings: dict[str, Any] = {
        "axes": plan.axes,
        "tta": plan.tta,
        "tile": plan.tile,
        "threshold": job.threshold,
        "intensity": list(plan.intensity),
        "ratios": list(plan.ratios),
        "probabilities": job.probabilities,
        "roi": [list(span) for span in job.region] if job.region is not None else None,
        "mask": file_sha256(split_dataset(job.mask)[0]) if job.mask is not None else None,
        "skip_background": job.skip_background,
        "device": job.device,
        **{name: versions[name] for name in ("streamdetect", "onnxruntime")},
    }
    return Manifest(
        model={"name": model.metadata.name, "sha256": model.sha256},
        settings=settings,
        input={
            "shape": list(volume.shape),
            "dtype": str(volume.dtype),
            "voxel_nm": list(volume.voxel_nm) if volume.voxel_nm is not None else None,
            "samples": _sample(volume),
        },
        blocks={"block_shape": list(plan.blocks.shape), "n_blocks": len(plan.blocks)},
        versions=versions,
    )


def _sample(volume: Volume) -> list[str | None]:
    """Return hashes of a part of some slices; None where one cannot be read."""
    hashes: list[str | None] = []
    middle = [slice(max(0, (n - SAMPLE_SIDE) // 2), (n + SAMPLE_SIDE) // 2) for n in volume.shape[1:]]
    for z in sample_slices(volume.shape[0], N_SAMPLES):
        try:
            values = volume[z : z + 1, middle[0], middle[1]]
        except VolumeError:
            hashes.append(None)
        else:
            hashes.append(hashlib.sha256(values.tobytes()).hexdigest()[:16])
    return hashes


def begin_run(
    folder: RunFolder, manifest: Manifest, job: PredictJob, name: str, voxel_nm: VoxelSize | None, *, joins: bool
) -> Manifest:
    """Make the folder of a run, or check that the one that is there is of the same.

    Parameters
    ----------
    folder : RunFolder
    manifest : Manifest
        Of the job.
    job : PredictJob
    name : str
        Of the image, for viewers.
    voxel_nm : tuple of float or None
    joins : bool
        Whether a run that is there goes on; otherwise it is refused, unless nothing of it is done.

    Returns
    -------
    Manifest
        That the run was begun with.

    Raises
    ------
    InputError
        An unfinished run is there and should not go on, or is of another model, other settings, or another input; or
        the folder cannot be written to.
    """
    if folder.exists and not joins:
        refuse_unfinished(folder)
        with folder.lock_shard(0, 1):  # unless another process is about to
            folder.remove()
    folder.check_free()
    with folder.being_created():
        if folder.exists:
            found = folder.read_manifest()
            differences = find_differences(found, manifest)
            if differences:
                raise InputError(
                    f"--resume: {folder.path} was begun with {'; '.join(differences)}; give what it was begun with, or "
                    "remove it to start anew"
                )
            return found
        for output in job.outputs:
            shutil.rmtree(folder.image(output), ignore_errors=True)  # that a crash left
            plan = job.plan
            create_sharded(folder.image(output), name, plan.shape, "uint8", plan.blocks.shape, voxel_nm)
        folder.create(manifest)
    return manifest


def refuse_unfinished(folder: RunFolder) -> None:
    """Refuse a folder whose run did not end, unless no block of it is done: then nothing is lost.

    Raises
    ------
    InputError
        Blocks are done.
    """
    if folder.exists and folder.committed():
        raise InputError(f"{folder.path}: an unfinished run is there; add --resume to go on with it, or remove it")
