"""What a run will take: blocks, bytes, and the time that the network needs for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from segment.serving.blocks import Region
from segment.serving.metadata import ModelMetadata
from segment.serving.model import SegmentationModel
from segment.serving.plan import Plan
from segment.serving.predict import needed_span

N_ORIENTATIONS = 8  # that --tta takes the mean over


@dataclass(frozen=True)
class Estimate:
    """What a run will take at most, if no block is skipped.

    Parameters
    ----------
    n_blocks : int
    n_voxels : int
        Of the volume, that are segmented.
    bytes_read : int
        Of the volume, before decompression of whole chunks.
    bytes_written : int
        Before compression.
    n_pixels : int
        That go through the network.
    tile : (int, int)
        Height and width of the largest tile.
    """

    n_blocks: int
    n_voxels: int
    bytes_read: int
    bytes_written: int
    n_pixels: int
    tile: tuple[int, int]


def estimate_run(plan: Plan, metadata: ModelMetadata, region: Region, itemsize: int, n_outputs: int) -> Estimate:
    """Count what a run reads, computes and writes, axis by axis: no block is looked at by itself.

    Parameters
    ----------
    plan : Plan
    metadata : ModelMetadata
    region : tuple of (int, int)
        Of the volume, along (z, y, x): what is segmented.
    itemsize : int
        Bytes of a voxel that is read.
    n_outputs : int
        Images that are written, a byte a voxel.

    Notes
    -----
    What a block reads, and what the network looks at for it, are products over the axes; so is their sum over blocks.
    """
    within = plan.blocks.within(region)
    read, planes, sides = [], [], []
    for index, (axis, positions) in enumerate(zip(plan.blocks.axes, within.ranges, strict=True)):
        windows = [axis.clip(axis.cut(at), region[index]).window for at in positions]
        spans = [needed_span(index, window, metadata, plan) for window in windows]
        read.append(sum(stop - start for start, stop, _ in spans) / plan.ratios[index])
        planes.append(sum(window.stop - window.start for window in windows))
        sides.append((sum(window.size for window in windows), max(window.size for window in windows)))
    n_pixels, tiles = 0, []
    for index in map("zyx".index, plan.axes):
        (rows, height), (columns, width) = (side for other, side in enumerate(sides) if other != index)
        n_pixels += planes[index] * rows * columns
        tiles.append((height, width))
    n_voxels = math.prod(stop - start for start, stop in region)
    return Estimate(
        n_blocks=len(within),
        n_voxels=n_voxels,
        bytes_read=round(math.prod(read) * itemsize),
        bytes_written=n_voxels * n_outputs,
        n_pixels=n_pixels * (N_ORIENTATIONS if plan.tta else 1),
        tile=max(tiles, key=math.prod),
    )


def time_tiles(
    model: SegmentationModel, tile: tuple[int, int], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how many pixels a second the network does, from a few tiles of noise.

    Parameters
    ----------
    model : SegmentationModel
    tile : (int, int)
        Height and width.
    clock : callable
        Seconds.
    """
    shape = (1, len(model.metadata.slice_offsets), *tile)
    image = np.random.default_rng(0).random(shape, np.float32)
    with ThreadPoolExecutor(model.tiles_at_once) as pool:

        def run() -> None:
            list(pool.map(lambda _: model.predict(image, 0.0, 1.0), range(model.tiles_at_once)))

        run()  # the first takes longer
        began = clock()
        run()
        return model.tiles_at_once * math.prod(tile) / (clock() - began)
