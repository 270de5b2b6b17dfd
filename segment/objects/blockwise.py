"""Numbered objects of a mask of any size: block by block, to the last bit what `label_objects` makes of it in memory.

1. Each block is labelled by itself; its labels go to a Zarr, what is known about them to a file.
2. These files tell which labels of different blocks are one object, and its number.
3. With a split, each object is looked at in its bounding box.
4. Each block is read again, and written with the numbers of the volume.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from segment.errors import InputError, VolumeError
from segment.intensity import Voxels, name_volume
from segment.objects.blocks import Engine, Grid, OnProgress, OverBlocks, choose_blocks
from segment.objects.components import BlockObjects, label_box, merge_blocks
from segment.objects.instances import Connectivity, check_neck, check_options
from segment.objects.masks import ADVICE, to_mask
from segment.objects.renumber import Renumbered, create_labels, number_parts, save_labels, save_numbers
from segment.objects.splits import MAX_SPLIT_BYTES, SplitJob, split_blockwise
from segment.volumes.create import ZARR_ENDING, create_volume
from segment.volumes.ome_zarr import image_name
from segment.volumes.sharded import create_sharded, open_sharded, write_block
from segment.volumes.voxel_size import VoxelSize
from segment.volumes.write_zarr import whole_folder
from segment.volumes.writer import disk_refused

UINT32_MAX = int(np.iinfo(np.uint32).max)
SLAB_VOXELS = 2**24  # of a TIFF, written at a time, and one slice at least


@dataclass(frozen=True)
class LabelJob:
    """What it takes to label a block, in any process.

    Parameters
    ----------
    mask : Voxels
        The volume; a `segment.objects.masks.Numbers` where other processes shall have it.
    grid : Grid
    connectivity : {6, 18, 26}
    scratch : Path
        A folder for what is found.
    advice : str
        What to do about a volume that is no mask.
    """

    mask: Voxels
    grid: Grid
    connectivity: Connectivity
    scratch: Path
    advice: str


class Labelled(NamedTuple):
    """What a block tells when it is labelled.

    Parameters
    ----------
    n_objects : int
        Components in it.
    highest : float
        What stands for foreground in it; 0 where it has none.
    """

    n_objects: int
    highest: float


@dataclass
class LabelRun:
    """What was done.

    Parameters
    ----------
    n_objects : int
    dtype : numpy.dtype
        Of what was written.
    n_blocks, n_faces : int
        How many blocks there were, and how many layers that two of them share.
    n_too_large : int
        Objects left whole because to split them would take too much memory.
    seconds : dict of str to float
        By step.
    """

    n_objects: int
    dtype: np.dtype
    n_blocks: int
    n_faces: int
    n_too_large: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def label_volume(
    mask: Voxels,
    out: Path,
    voxel_nm: VoxelSize | None,
    *,
    engine: Engine,
    connectivity: Connectivity = 26,
    min_voxels: int = 0,
    neck_nm: float | None = None,
    grid: Grid | None = None,
    max_split_bytes: float = MAX_SPLIT_BYTES,
    advice: str = ADVICE,
    on_progress: OnProgress = lambda step, done, total: None,
) -> LabelRun:
    """Find the objects of a mask and write them numbered, holding little of it in memory.

    Parameters
    ----------
    mask : Numbers or ndarray, shape (z, y, x)
        0 and 255, or 0 and 1.
    out : Path
        As for `create_volume`; it appears whole or not at all.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), or None where it is unknown; needed to split.
    engine : Engine
        What runs over the blocks.
    connectivity, min_voxels, neck_nm
        As for `label_objects`.
    grid : Grid, optional
        How the volume is cut into blocks.
    max_split_bytes : float
        An object stays whole if it would take more memory than this to split it.
    advice : str
        What to do about a volume that is no mask.
    on_progress : callable
        ``on_progress(step, done, total)``; what it raises ends the work.

    Returns
    -------
    LabelRun

    Raises
    ------
    InputError
        An argument is out of range; the output cannot be written, or another run is writing it; a block failed.
    VolumeError
        The volume is no mask.

    Notes
    -----
    Holds some 15 bytes for each voxel of the blocks that are worked on, and 100 for each component of a block. The
    labels of the blocks, compressed, lie beside the output until it is there.
    """
    z, y, x = mask.shape
    grid = grid or choose_blocks((z, y, x))
    check_options(connectivity, min_voxels)
    split_nm = check_neck(neck_nm, voxel_nm) if neck_nm is not None else None
    create_volume(out, grid.shape, np.uint32, voxel_nm)  # refuses a name now that it would refuse at the end
    run = LabelRun(0, np.dtype(np.uint32), len(grid), 0)
    over_blocks = OverBlocks(engine, name_volume(mask), on_progress)
    with _scratch_beside(out) as scratch:
        job = LabelJob(mask, grid, connectivity, scratch, advice)
        with _timed(run, "label"):
            n_objects = _label_blocks(job, over_blocks)
        with _timed(run, "merge"):
            merged = merge_blocks(grid, n_objects, partial(_load_objects, scratch))
            run.n_faces = merged.n_faces
            numbers, chosen = merged.number(min_voxels)
            sizes, firsts, boxes = merged.sizes[chosen], merged.firsts[chosen], merged.boxes[chosen]
            offsets, run.n_objects = merged.offsets, len(chosen)
            del merged
        save_numbers(scratch, offsets, numbers)
        if neck_nm is not None and split_nm is not None:
            with _timed(run, "split"):
                split_job = SplitJob(grid, connectivity, scratch, split_nm, neck_nm, max_split_bytes)
                parts, run.n_too_large = split_blockwise(split_job, boxes, over_blocks)
                numbers, run.n_objects = number_parts(scratch, numbers, sizes, firsts, boxes, parts, min_voxels)
                save_numbers(scratch, offsets, numbers)
        if run.n_objects > UINT32_MAX:
            run.dtype = np.dtype(np.uint64)
        del numbers, sizes, firsts, boxes
        with _timed(run, "write"):
            _write(out, voxel_nm, run.dtype, grid, scratch, over_blocks)
    return run


def label_block(job: LabelJob, index: int) -> Labelled | InputError:
    """Label one block and keep what is found.

    Parameters
    ----------
    job : LabelJob
    index : int
        Of the block.

    Returns
    -------
    Labelled or InputError
        The error where the volume is no mask.
    """
    values = job.mask[job.grid.box(index, above=1)]
    try:
        mask, highest = to_mask(job.mask, values, advice=job.advice)
    except VolumeError as error:
        return error
    del values
    labels, objects = label_box(mask, job.grid, index, job.connectivity)
    if len(objects.sizes):
        with disk_refused(job.scratch):
            save_labels(job.scratch, job.grid.box(index), labels)
            _save_objects(job.scratch, index, objects)
    return Labelled(len(objects.sizes), float(highest))


def _label_blocks(job: LabelJob, over_blocks: OverBlocks) -> np.ndarray:
    """Label every block, and return how many components each has."""
    create_labels(job.scratch, job.grid)
    n_objects = np.zeros(len(job.grid), np.int64)
    marks: set[float] = set()

    def on_done(index: int, found: Labelled) -> None:
        n_objects[index] = found.n_objects
        marks.update({found.highest} - {0})
        if len(marks) > 1:
            to_mask(job.mask, np.array([*marks]), advice=job.advice)  # refuses both together

    over_blocks("labelling", partial(label_block, job), len(job.grid), on_done)
    return n_objects


def _write(
    out: Path, voxel_nm: VoxelSize | None, dtype: np.dtype, grid: Grid, scratch: Path, over_blocks: OverBlocks
) -> None:
    """Write the numbered objects: a Zarr block by block, a TIFF slice by slice."""
    if out.name.lower().endswith(ZARR_ENDING):
        with whole_folder(out) as folder:
            create_sharded(folder, image_name(out), grid.shape, dtype, grid.block, voxel_nm)
            over_blocks("writing", partial(write_numbered, folder, dtype, grid, scratch), len(grid))
        return
    labels = Renumbered(scratch, grid)
    n_slices, height, width = grid.shape
    step = max(1, SLAB_VOXELS // (height * width))
    with create_volume(out, grid.shape, dtype, voxel_nm) as writer:
        for z in range(0, n_slices, step):
            slab = (slice(z, min(z + step, n_slices)), slice(0, height), slice(0, width))
            writer.append(labels.read(slab).astype(dtype, copy=False))
            over_blocks.on_progress("writing", writer.n_slices, n_slices)


def write_numbered(folder: Path, dtype: np.dtype, grid: Grid, scratch: Path, index: int) -> None:
    """Write one block of the result to a Zarr."""
    values = Renumbered(scratch, grid).read(grid.box(index)).astype(dtype, copy=False)
    write_block(open_sharded(folder, grid.shape, grid.block), grid.where(index), values)


def _save_objects(scratch: Path, index: int, objects: BlockObjects) -> None:
    arrays: dict[str, Any] = {
        f"face{axis}{int(is_upper)}": labels for (axis, is_upper), labels in objects.faces.items()
    }
    np.savez(_objects_file(scratch, index), sizes=objects.sizes, firsts=objects.firsts, boxes=objects.boxes, **arrays)


def _load_objects(scratch: Path, index: int) -> BlockObjects:
    with np.load(_objects_file(scratch, index)) as kept:
        faces = {(int(name[4]), name[5] == "1"): kept[name] for name in kept.files if name.startswith("face")}
        return BlockObjects(kept["sizes"], kept["firsts"], kept["boxes"], faces)


def _objects_file(scratch: Path, index: int) -> Path:
    return scratch / f"block{index:08d}.npz"


@contextmanager
def _timed(run: LabelRun, step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    run.seconds[step] = time.perf_counter() - started


@contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """Give an empty folder beside the output that no other run has, and remove it."""
    folder = out.resolve().with_name(f".{out.name}.scratch")
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"{out}: another run is writing it; wait for its end, or choose another name") from error
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error
    try:
        with disk_refused(out):
            for left in folder.iterdir():  # of a run that was killed
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != "lock":
                    left.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
