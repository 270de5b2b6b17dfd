"""How a run ends: its images become the outputs, and the folder goes."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from segment.errors import InputError
from segment.serving.predict import Cancelled
from segment.serving.run_folder import RunFolder
from segment.volumes import VoxelSize, create_volume
from segment.volumes.create import is_zarr_name
from segment.volumes.ome_zarr import image_name
from segment.volumes.pyramid import Kind, create_levels, describe_levels, plan_pyramid, write_level_block
from segment.volumes.sharded import LEVEL
from segment.volumes.write_zarr import replace_folder, whole_folder

MAX_READ = 2**27  # bytes that are held when slices are written to a TIFF

Engine = Callable[[Callable[[int], Any], range], dict[int, str]]


def write_pyramid(
    image: Path, kind: Kind, name: str, voxel_nm: VoxelSize | None, run: Engine, cancelled: Callable[[], bool]
) -> None:
    """Write the coarser levels of an image, a file at a time.

    Parameters
    ----------
    image : Path
        Its folder.
    kind : {"mask", "mean"}
        How voxels are joined.
    name : str
    voxel_nm : tuple of float or None
    run : callable
        Calls a function for each index, in any order, and returns what those said that failed.
    cancelled : callable
        Whether it was told to stop.

    Raises
    ------
    InputError
        A part could not be written.
    Cancelled
        It was told to stop.
    """
    shape = zarr.open_array(str(image / LEVEL), mode="r").shape
    levels = plan_pyramid(image, (shape[0], shape[1], shape[2]), voxel_nm, kind)
    create_levels(levels)
    for level in levels:
        failed = run(partial(write_level_block, level), range(len(level)))
        if cancelled():
            raise Cancelled("cancelled")
        if failed:
            index, message = next(iter(failed.items()))
            raise InputError(f"{image}: level {level.index} of the pyramid cannot be written: file {index}: {message}")
    describe_levels(levels, name, voxel_nm)


def publish(image: Path, out: Path, voxel_nm: VoxelSize | None, cancelled: Callable[[], bool]) -> None:
    """Make an image of a run the output: an OME-Zarr by renaming it, a TIFF slice by slice.

    Parameters
    ----------
    image : Path
        Where it is not there any more, it was renamed before a crash.
    out : Path
    voxel_nm : tuple of float or None
    cancelled : callable
        Asked before each slab of a TIFF whether to give up.

    Raises
    ------
    InputError
        The output cannot be written; the run can go on from here.
    Cancelled
        It was asked to.
    """
    if not image.exists() and out.exists():
        return
    if not is_zarr_name(out):
        _copy_to_tiff(image, out, voxel_nm, cancelled)
        return
    for left in image.rglob("*.partial"):  # of blocks that a crash cut off
        left.unlink()
    try:
        replace_folder(out, image)
    except InputError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EXDEV:
            raise
        with whole_folder(out) as copy:  # on another disk
            shutil.copytree(image, copy)


def _copy_to_tiff(image: Path, out: Path, voxel_nm: VoxelSize | None, cancelled: Callable[[], bool]) -> None:
    array = zarr.open_array(str(image / LEVEL), mode="r")
    n_slices, height, width = array.shape
    depth = array.chunks[0]  # which are read together
    step = depth if depth * height * width <= MAX_READ else max(1, MAX_READ // (height * width))
    with create_volume(out, (n_slices, height, width), array.dtype, voxel_nm) as writer:
        for z in range(0, n_slices, step):
            if cancelled():
                raise Cancelled("cancelled")
            writer.append(np.asarray(array[z : z + step]))


def finish_run(
    folder: RunFolder,
    outputs: dict[str, Path],
    voxel_nm: VoxelSize | None,
    *,
    pyramid: bool,
    run: Engine,
    cancelled: Callable[[], bool],
) -> None:
    """Make the images of a run its outputs.

    Parameters
    ----------
    folder : RunFolder
        All of whose blocks are done.
    outputs : dict of str to Path
        By the image's name, ``mask`` or ``probabilities``.
    voxel_nm : tuple of float or None
    pyramid : bool
        Whether OME-Zarr outputs get coarser levels.
    run, cancelled
        As for `write_pyramid`.

    Raises
    ------
    InputError
        An output cannot be written.
    Cancelled
        It was told to stop.
    """
    for name, out in outputs.items():
        image = folder.image(name)
        if pyramid and is_zarr_name(out) and image.exists():
            kind: Kind = "mask" if name == "mask" else "mean"
            write_pyramid(image, kind, image_name(out), voxel_nm, run, cancelled)
    for name, out in sorted(outputs.items(), key=lambda each: each[0] == "mask"):  # the mask appears last
        publish(folder.image(name), out, voxel_nm, cancelled)
