"""What is decided once about a volume before it is segmented: its grid, its blocks and their tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from segment.errors import InputError
from segment.intensity import INVERTED_SKEWNESS, Voxels, detail_skewness, intensity_range, name_volume
from segment.serving.metadata import ModelMetadata
from segment.serving.resample import Ratios, edge_back, resampled_shape
from segment.serving.tiling import Window, check_tile, cut_axis, round_up
from segment.volumes.voxel_size import VoxelSize

DEFAULT_TILE = 1024
MAX_BLOCK_BYTES = 800e6  # what a block may take beside the network itself; a few of the volume's slices always go
MAX_NETWORK_BYTES = 600e6  # what the network may take for a tile
MAP_BYTES = 56  # that ONNX Runtime takes a feature map and position of the finest level, all levels in all: measured
MAX_BLOCK_SLICES = 16  # of a block that needs no tiles along an axis; more would gain nothing
SAME_VOXEL = 0.02  # a voxel size that differs by less counts as the model's
MAX_RATIO = 8.0

SAME_GRID: Ratios = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Cut:
    """One of the pieces that an axis is cut into.

    Parameters
    ----------
    window : Window
        On the model's grid: what the network sees, and what is kept of it.
    start, stop : int
        In the volume: the first voxel that it fills, and one past the last.
    """

    window: Window
    start: int
    stop: int


Block = tuple[Cut, Cut, Cut]


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
    cuts : tuple of tuple of Cut
        The pieces of each axis; a block is one piece of each.
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
    cuts: tuple[tuple[Cut, ...], tuple[Cut, ...], tuple[Cut, ...]]
    remarks: tuple[str, ...]

    @property
    def resamples(self) -> bool:
        """Whether the model's grid is another than the volume's."""
        return self.ratios != SAME_GRID

    @property
    def slabs(self) -> list[list[Block]]:
        """All blocks, those that fill the same slices together, in the order of the slices."""
        return [[(z, y, x) for y, x in product(*self.cuts[1:])] for z in self.cuts[0]]


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
        The largest side of a tile in pixels. By default 1,024, or less where the network or a block would take too
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
    tile, cuts = _cut(volume.shape, grid_shape, ratios, axes, metadata, volume.dtype.itemsize, tile)
    return Plan(
        shape=(z, y, x),
        grid_shape=grid_shape,
        ratios=ratios,
        axes=axes,
        tta=tta,
        tile=tile,
        intensity=(high, low) if invert else (low, high),
        cuts=cuts,
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
    shape: tuple[int, ...],
    grid_shape: tuple[int, int, int],
    ratios: Ratios,
    axes: str,
    metadata: ModelMetadata,
    itemsize: int,
    tile: int | None,
) -> tuple[int, tuple[tuple[Cut, ...], tuple[Cut, ...], tuple[Cut, ...]]]:
    """Cut all axes with the tile that is asked for, or with the largest that leaves blocks small enough."""
    resamples = ratios != SAME_GRID
    stride = metadata.stride
    # what is interpolated back lies up to a voxel beyond the core: one stride more keeps that clear of the halo
    halo = metadata.halo + (stride if resamples else 0)
    network = metadata.network
    fits = network.stem * math.isqrt(int(MAX_NETWORK_BYTES / (MAP_BYTES * network.width)))
    wanted = tile or max(min(DEFAULT_TILE, fits) // stride * stride, round_up(3 * halo, stride), stride)
    reach = 2 * max(metadata.slice_offsets)

    def count_bytes(windows: Sequence[tuple[Window, ...]]) -> float:
        """Return what the largest block takes: read and padded, predicted, brought back, rounded."""
        kept = [max(window.stop - window.start for window in each) for each in windows]
        read = [
            max(each[0].size, n + reach) if axis in axes else each[0].size
            for axis, n, each in zip("zyx", kept, windows, strict=True)
        ]
        n_filled = math.prod(n / ratio for n, ratio in zip(kept, ratios, strict=True))
        n_kept = math.prod(n + 2 for n in kept) if resamples else n_filled
        return max(2 * itemsize * math.prod(read) + 4 * n_kept, 4 * (n_kept + n_filled), 6 * n_filled)

    while True:
        check_tile(wanted, halo, stride)
        windows = [
            cut_axis(n, wanted, halo, stride) if axes != axis else cut_freely(n, 1)
            for axis, n in zip("zyx", grid_shape, strict=True)
        ]
        if tile or count_bytes(windows) <= MAX_BLOCK_BYTES or wanted // stride * stride - stride <= 2 * halo:
            break
        wanted -= stride
    if len(axes) == 1:
        free = "zyx".index(axes)
        depth = 1
        while depth < MAX_BLOCK_SLICES:
            windows[free] = cut_freely(grid_shape[free], 2 * depth)
            if count_bytes(windows) > MAX_BLOCK_BYTES:
                break
            depth *= 2
        windows[free] = cut_freely(grid_shape[free], depth)
    z, y, x = (_back(each, ratio, n) for each, ratio, n in zip(windows, ratios, shape, strict=True))
    return wanted, (z, y, x)


def cut_freely(n: int, depth: int) -> tuple[Window, ...]:
    """Cut an axis that no tile extends along into pieces of a depth; the last may be shorter."""
    stops = (min(start + depth, n) for start in range(0, n, depth))
    return tuple(
        Window(start, stop - start, start, stop) for start, stop in zip(range(0, n, depth), stops, strict=True)
    )


def _back(windows: tuple[Window, ...], ratio: float, n: int) -> tuple[Cut, ...]:
    """Find the voxels of the volume whose centres lie in the core of each window."""
    edges = [0, *(edge_back(window.stop, ratio, n) for window in windows[:-1]), n]
    cuts = (Cut(window, start, stop) for window, start, stop in zip(windows, edges[:-1], edges[1:], strict=True))
    return tuple(cut for cut in cuts if cut.start < cut.stop)
