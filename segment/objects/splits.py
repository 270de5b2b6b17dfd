"""Objects split at necks out of core: one at a time, in its bounding box, as `split_objects` does in memory."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segment.objects.blocks import Grid, OverBlocks, Shape, as_box, within
from segment.objects.components import locate_objects
from segment.objects.instances import Connectivity, split_object
from segment.objects.renumber import Renumbered, save_parts
from segment.objects.runs import Integers
from segment.volumes.voxel_size import VoxelSize

VOXEL_BYTES = 60  # that the split of an object takes for each voxel of its bounding box
MAX_SPLIT_BYTES = 4e9
LARGE_VOXELS = 2**20  # of bounding boxes: those with more are read by themselves, and split one after the other
REACH = 32  # voxels: objects that reach farther beyond the block that they begin in are read by themselves too

_BATCHES = "batches.npz"
_turn = threading.Lock()

Parts = dict[int, tuple[Integers, Integers]]  # sizes and first voxels of the parts, by the number of the object


@dataclass(frozen=True)
class SplitJob:
    """What it takes to split objects, in any process.

    Parameters
    ----------
    grid : Grid
    connectivity : {6, 18, 26}
    scratch : Path
        Where the labels of the blocks and their numbers are.
    voxel_nm : tuple of float
    neck_nm : float
        As for `split_objects`.
    max_bytes : float
        An object stays whole if it would take more memory than this to split it.
    """

    grid: Grid
    connectivity: Connectivity
    scratch: Path
    voxel_nm: VoxelSize
    neck_nm: float
    max_bytes: float


def split_blockwise(job: SplitJob, boxes: Integers, over_blocks: OverBlocks) -> tuple[Parts, int]:
    """Split all objects, some of them together.

    Parameters
    ----------
    job : SplitJob
    boxes : ndarray of int64, shape (n_objects, 6)
        Bounding box of object 1, 2 and so on.
    over_blocks : OverBlocks

    Returns
    -------
    parts : dict
        Of each object that was split.
    n_too_large : int
        Objects that stay whole for the memory that a split takes.
    """
    n_voxels = np.prod(boxes[:, 3:] - boxes[:, :3], axis=1)
    is_wide = can_be_split(boxes, job.grid.shape, job.voxel_nm, job.neck_nm)
    fits = VOXEL_BYTES * n_voxels <= job.max_bytes
    labels = np.flatnonzero(is_wide & fits) + 1
    # Small objects of one block are read together; the others come last, and each is read by itself.
    starts, stops = boxes[labels - 1, :3], boxes[labels - 1, 3:]
    beyond = stops - (starts // job.grid.block + 1) * job.grid.block
    is_small = (beyond <= REACH).all(axis=1) & (n_voxels[labels - 1] <= LARGE_VOXELS)
    batch = np.where(is_small, job.grid.holding(starts), len(job.grid) + labels)
    order = np.argsort(batch, kind="stable")
    labels, batch = labels[order], batch[order]
    bounds = np.append(np.flatnonzero(np.diff(batch, prepend=-1)), len(labels))
    np.savez(job.scratch / _BATCHES, labels=labels, boxes=boxes[labels - 1], bounds=bounds)
    found: Parts = {}
    over_blocks("splitting", partial(split_batch, job), len(bounds) - 1, lambda _, parts: found.update(parts))
    return found, int(np.count_nonzero(is_wide & ~fits))


def can_be_split(boxes: Integers, shape: Shape, voxel_nm: VoxelSize, neck_nm: float) -> NDArray[np.bool_]:
    """Return which bounding boxes have room for a place that is farther than `neck_nm` from the edge of an object.

    Parameters
    ----------
    boxes : ndarray of int64, shape (n, 6)
    shape : tuple of int
        Of the volume, whose end is no edge.
    voxel_nm : tuple of float
    neck_nm : float
    """
    starts, stops = boxes[:, :3], boxes[:, 3:]
    n_edges = np.add(starts > 0, stops < shape, dtype=np.int64)
    n_voxels = (stops - starts).astype(float)
    # From the middle of the voxel that is farthest from the background on one side or on both.
    farthest = np.select([n_edges == 2, n_edges == 1], [(n_voxels + 1) / 2, n_voxels], np.inf) * voxel_nm
    return farthest.min(axis=1, initial=np.inf).astype(np.float32) > neck_nm


def split_batch(job: SplitJob, index: int) -> Parts:
    """Split some objects, and keep the parts of those that have more than one.

    Parameters
    ----------
    job : SplitJob
    index : int
        Of the batch.
    """
    volume = Renumbered(job.scratch, job.grid)
    with np.load(job.scratch / _BATCHES) as batches:
        which = slice(*batches["bounds"][index : index + 2])
        labels, boxes = batches["labels"][which].tolist(), batches["boxes"][which]
    found: Parts = {}
    # With a voxel of background around each object, except where the volume ends.
    low, high = np.maximum(boxes[:, :3] - 1, 0), np.minimum(boxes[:, 3:] + 1, job.grid.shape)
    together = as_box(np.concatenate([low.min(axis=0), high.max(axis=0)]))
    values = volume.read(together)
    for label, box, around in zip(labels, map(as_box, boxes), map(as_box, np.hstack([low, high])), strict=True):
        with _turn if len(labels) == 1 else nullcontext():
            mask = values[within(around, together)] == label
            split, n_parts = split_object(mask, job.voxel_nm, job.neck_nm, job.connectivity)
        if n_parts > 1:
            parts = split[within(box, around)].view(np.uint32)
            origin = [side.start for side in box]
            sizes, firsts, _ = locate_objects(parts, n_parts, job.grid.shape, origin)
            save_parts(job.scratch, label, parts)
            found[label] = sizes, firsts
    return found
