"""What is decided once about a volume before it is segmented: its grid, its blocks and their tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segment.errors import InputError
from segment.intensity import INVERTED_SKEWNESS, Voxels, detail_skewness, intensity_range, name_volume
from segment.serving.blocks import Axis, BlockGrid
from segment.serving.metadata import ModelMetadata
from segment.serving.resample import Ratios, resampled_shape
from segment.serving.tiling import check_tile, choose_block, round_up
from segment.volumes.chunks import CHUNK
from segment.volumes.voxel_size import VoxelSize

DEFAULT_TILE = 2048
MAX_BLOCK_BYTES = 400e6  # what a block may take beside the network itself; three are in hand at the same time
MAX_NETWORK_BYTES = 300e6  # what the network may take for a tile, of which there is one a thread
# What ONNX Runtime takes a feature map and position of the finest level, all levels in all: measured, with some room.
MAP_BYTES, MAP_BYTES_INT8 = 56, 20
MAX_BLOCK_SLICES = 16  # of a block that needs no tiles along an axis; more would gain nothing
SAME_VOXEL = 0.02  # a voxel size that differs by less counts as the model's
MAX_RATIO = 8.0

SAME_GRID: Ratios = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """How a volume is segmented. Blocks can be computed in any order, by anyone who has the plan.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, (z, y, x).
    grid_shape : tuple of int
        Of the volume on the model's grid.
    ratios : tuple of float
        Voxels of the model's grid in one of the volume's, along each axis; 1 where nothing is resampled.
    axes : str
        The axes that slices are cut along.
    tta : bool
        Whether each tile is looked at in 8 orientations.
    tile : int
        The largest side of a tile.
    intensity : (float, float)
        Intensities that become -1 and 1 in the network.
    blocks : BlockGrid
        The volume cut into blocks of one shape, which start at multiples of it.
    remarks : tuple of str
        What the user should know about the choices, a line each.
    """

    shape: tuple[int, int, int]
    grid_shape: tuple[int, int, int]
    ratios: Ratios
    axes: str
    tta: bool
    tile: int
    intensity: tuple[float, float]
    blocks: BlockGrid
    remarks: tuple[str, ...]

    @property
    def resamples(self) -> bool:
        """Whether the model's grid is another than the volume's."""
        return self.ratios != SAME_GRID


def plan_prediction(
    volume: Voxels,
    metadata: ModelMetadata,
    *,
    axes: str = "z",
    tta: bool = False,
    tile: int | None = None,
    intensity: tuple[float, float] | None = None,
    invert: bool = False,
    voxel_nm: VoxelSize | None = None,
) -> Plan:
    """Decide how a volume is segmented.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
        Some of its slices are read, for their intensities.
    metadata : ModelMetadata
    axes : str
        Which of ``z``, ``y`` and ``x`` slices are cut along; the result is the mean over them.
    tta : bool
        Take the mean over 8 orientations of each tile: 8 times the work.
    tile : int, optional
        The largest side of a tile in pixels. By default 2,048, or less where the network or a block would take too
        much memory.
    intensity : (float, float), optional
        Low and high intensity; by default the percentiles of the volume that the model asks for.
    invert : bool
        Swap dark and bright.
    voxel_nm : (float, float, float), optional
        Size in nm, (z, y, x); by default what the volume says of itself.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        The axes or the tile cannot be used, or the voxels are more than 8 times larger or smaller than the model's.
    VolumeError
        The volume is constant, or holds NaN.
    """
    if len(volume.shape) != 3:
        raise InputError(f"{name_volume(volume)}: expected three axes, (z, y, x), found the shape {volume.shape}")
    if not axes or set(axes) - set("zyx") or len(set(axes)) != len(axes):
        raise InputError(f"--axes {axes}: expected one or more of z, y and x, each once, as in zyx")
    axes = "".join(axis for axis in "zyx" if axis in axes)
    stated_nm = voxel_nm or getattr(volume, "voxel_nm", None)
    ratios = choose_ratios(stated_nm or metadata.voxel_nm, metadata.voxel_nm)
    low, high = intensity or intensity_range(volume, metadata.percentiles)
    if not low < high:
        raise InputError(f"intensity: expected a low and a higher value, found {low:g} and {high:g}")
    remarks = []
    if stated_nm is None:
        remarks.append(
            f"{name_volume(volume)}: no voxel size is stated; the model's {format_nm(metadata.voxel_nm)} nm is "
            "assumed; give --voxel-size Z,Y,X if it is another"
        )
    elif ratios != SAME_GRID:
        remarks.append(
            f"voxels of {format_nm(stated_nm)} nm are resampled to the model's {format_nm(metadata.voxel_nm)} nm, and "
            "the result back"
        )
    if set(axes) - set(metadata.axes):
        remarks.append(
            f"slices along {axes}: the model {metadata.name} was trained on slices along {metadata.axes} only"
        )
    skewness = detail_skewness(volume, (low, high))
    if skewness > INVERTED_SKEWNESS and not invert:
        remarks.append(
            "fine structures are brighter than what is around them, where the model expects dark membranes: if "
            "contrast is inverted, use --invert"
        )
    elif skewness < -INVERTED_SKEWNESS and invert:
        remarks.append(
            "fine structures are darker than what is around them, as the model expects: leave --invert out unless it "
            "is meant"
        )
    z, y, x = volume.shape
    grid_shape = resampled_shape(volume.shape, ratios)
    tile, blocks = _cut((z, y, x), grid_shape, ratios, axes, metadata, volume.dtype.itemsize, tile)
    return Plan(
        shape=(z, y, x),
        grid_shape=grid_shape,
        ratios=ratios,
        axes=axes,
        tta=tta,
        tile=tile,
        intensity=(high, low) if invert else (low, high),
        blocks=blocks,
        remarks=tuple(remarks),
    )


def choose_ratios(voxel_nm: VoxelSize, model_nm: VoxelSize) -> Ratios:
    """Return how many voxels of the model's grid there are in one of a volume's, along each axis.

    Parameters
    ----------
    voxel_nm, model_nm : (float, float, float)
        Sizes in nm, (z, y, x), of the volume's and of the model's voxels.

    Returns
    -------
    tuple of float
        Exactly 1 where they differ by at most 2 %.

    Raises
    ------
    InputError
        A size is not above 0, or more than 8 times the other.

    Examples
    --------
    >>> choose_ratios((40.0, 5.05, 10.0), (5.0, 5.0, 5.0))
    (8.0, 1.0, 2.0)
    """
    if not all(0 < size < math.inf for size in voxel_nm):
        raise InputError(f"--voxel-size {format_nm(voxel_nm)}: expected sizes in nm above 0")
    ratios = [size / wanted for size, wanted in zip(voxel_nm, model_nm, strict=True)]
    if not all(1 / MAX_RATIO <= ratio <= MAX_RATIO for ratio in ratios):
        raise InputError(
            f"voxels of {format_nm(voxel_nm)} nm: the model knows {format_nm(model_nm)} nm, and more than "
            f"{MAX_RATIO:g} times larger or smaller is too far from it; check --voxel-size Z,Y,X (in nm)"
        )
    z, y, x = (1.0 if abs(ratio - 1) <= SAME_VOXEL else ratio for ratio in ratios)
    return z, y, x


def format_nm(voxel_nm: VoxelSize) -> str:
    """Write a voxel size as ``--voxel-size`` takes it.

    Examples
    --------
    >>> format_nm((40.0, 4.5, 4.5))
    '40,4.5,4.5'
    """
    return ",".join(f"{size:g}" for size in voxel_nm)


def _cut(
    shape: tuple[int, int, int],
    grid_shape: tuple[int, int, int],
    ratios: Ratios,
    axes: str,
    metadata: ModelMetadata,
    itemsize: int,
    tile: int | None,
) -> tuple[int, BlockGrid]:
    """Cut all axes with the tile that is asked for, or with the largest that leaves blocks small enough."""
    stride, halo, network = metadata.stride, metadata.halo, metadata.network
    margin = stride if ratios != SAME_GRID else 0  # blocks of resampled voxels begin between two strides
    is_int8 = metadata.conversion is not None and metadata.conversion.precision == "int8"
    map_bytes = MAP_BYTES_INT8 if is_int8 else MAP_BYTES
    fits = network.stem * math.isqrt(int(MAX_NETWORK_BYTES / (map_bytes * network.width)))
    wanted = tile or max(min(DEFAULT_TILE, fits) // stride * stride, round_up(3 * halo, stride), stride)
    reach = 2 * max(metadata.slice_offsets)
    sides = list(zip("zyx", shape, grid_shape, ratios, CHUNK, strict=True))

    def cut(depth: int) -> BlockGrid:
        """Cut an axis that no tile extends along into a depth, all others for the tile."""
        z, y, x = (
            Axis(n, n_grid, ratio, min(depth, n), 0, 1, is_tiled=False)
            if axes == axis
            else Axis(
                n,
                n_grid,
                ratio,
                choose_block(n, n_grid, ratio, wanted, halo, stride, chunk),
                halo,
                stride,
                is_tiled=True,
            )
            for axis, n, n_grid, ratio, chunk in sides
        )
        return BlockGrid((z, y, x))

    def is_small(blocks: BlockGrid) -> bool:
        """Tell whether the largest block fits: read and padded, predicted, brought back, rounded."""
        kept = [axis.largest_core for axis in blocks.axes]
        seen = [axis.largest_window for axis in blocks.axes]
        read = [max(size, n + reach) if name in axes else size for name, size, n in zip("zyx", seen, kept, strict=True)]
        n_kept, n_filled = math.prod(kept), math.prod(min(axis.block, axis.n) for axis in blocks.axes)
        return (
            max(2 * itemsize * math.prod(read) + 4 * n_kept, 4 * (n_kept + n_filled), 6 * n_filled) <= MAX_BLOCK_BYTES
        )

    while True:
        check_tile(wanted, halo, stride, margin)
        blocks = cut(1)
        if tile or is_small(blocks) or wanted // stride * stride - stride <= 2 * halo + margin:
            break
        wanted -= stride
    if len(axes) == 1:
        depth = 1
        while depth < MAX_BLOCK_SLICES and is_small(deeper := cut(2 * depth)):
            depth, blocks = 2 * depth, deeper
    return wanted, blocks
