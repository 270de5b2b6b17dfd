"""Slices: a folder of PNG or TIFF files, or a single one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.pillow import GREY_MODES, open_image
from segment.volumes.stored import Box, Stored, damage_refused
from segment.volumes.tiff_metadata import find_voxel_size
from segment.volumes.tiff_pages import check_page, read_pages
from segment.volumes.voxel_size import VoxelSize

ENDINGS = (".png", ".tif", ".tiff")

_NUMBER = re.compile(r"([0-9]+)")
_N_LISTED = 3  # of the gaps in a message
_MIN_STEPS = 3  # equal steps between slice numbers from which a step above 1 is meant, and no slice missing


def open_slice(path: Path) -> Stored:
    """Open a PNG as a volume of one slice.

    Raises
    ------
    VolumeError
        It is in colour.
    """
    shape, dtype, _ = _read_header(path)
    return Stored(path, path.name, (1, *shape), dtype, None, partial(_read_slices, [path], dtype))


def open_slices(folder: Path) -> Stored:
    """Open a folder of slices, one a file, in the order of their numbers.

    Raises
    ------
    VolumeError
        There are none, or PNG and TIFF mixed; a number is missing or twice there; a slice has another size or type
        than the first, or is in colour.
    """
    files = [one for one in folder.iterdir() if one.suffix.lower() in ENDINGS and not one.name.startswith(".")]
    if not files:
        raise VolumeError(f"{folder}: expected Zarr, or slices (.png, .tif), found neither in this folder")
    kinds = {one.suffix.lower()[:4] for one in files}
    if len(kinds) > 1:
        raise VolumeError(f"{folder}: expected slices of one kind, found {' and '.join(sorted(kinds))}; remove one")
    order = order_slices(folder, [one.name for one in files])
    paths = [folder / name for name in order]
    shape, dtype, voxel_nm = _read_header(paths[0])
    for path in paths[1:]:
        other_shape, other_dtype, _ = _read_header(path)
        if (other_shape, other_dtype) != (shape, dtype):
            raise VolumeError(
                f"{path}: expected {shape} {dtype}, as the slice {paths[0].name} is, found {other_shape} "
                f"{other_dtype}; remove it, or make all slices alike"
            )
    name = folder.name or folder.resolve().name
    return Stored(folder, name, (len(paths), *shape), dtype, voxel_nm, partial(_read_slices, paths, dtype))


def order_slices(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the names of slices in the order of their numbers.

    Parameters
    ----------
    folder : Path
        For messages.
    names : sequence of str
        They must differ in numbers only. Where several numbers differ, the slice number is the one that every name has
        another of, in the order of the names, and that leaves the fewest out.

    Raises
    ------
    VolumeError
        A number is missing or twice there, or the names differ in more than numbers.

    Examples
    --------
    >>> order_slices(Path("stack"), ["z10.png", "z9.png", "z8.png"])
    ['z8.png', 'z9.png', 'z10.png']
    >>> order_slices(Path("stack"), ["z10.png", "z8.png"])
    Traceback (most recent call last):
    ...
    segment.errors.VolumeError: stack: expected slices z8.png to z10.png, found none numbered 9; ...
    """
    parts = {name: _NUMBER.split(Path(name).stem) for name in names}
    order = sorted(names, key=lambda name: ([*_pairs(parts[name])], name))
    first = order[0]
    for name in order:
        if parts[name][::2] != parts[first][::2]:
            raise VolumeError(
                f"{folder}: expected slices whose names differ in their number only, found {first} and {name}; rename "
                "or remove what is not a slice"
            )
    columns = list(zip(*([int(number) for number in parts[name][1::2]] for name in order), strict=True))
    rising = [column for column in columns if all(a < b for a, b in pairwise(column))]
    if len(order) == 1:
        return order
    if not rising:
        raise VolumeError(
            f"{folder}: expected one slice number in each name that no other has, found {first} and {order[1]}; "
            "rename or remove what is not a slice"
        )
    missing = min((_missing(column) for column in rising), key=lambda gaps: sum(map(len, gaps)))
    if missing:
        found = ", ".join(f"{gap[0]}" if len(gap) == 1 else f"{gap[0]} to {gap[-1]}" for gap in missing[:_N_LISTED])
        raise VolumeError(
            f"{folder}: expected slices {first} to {order[-1]}, found none numbered {found}"
            f"{', …' if len(missing) > _N_LISTED else ''}; add what is missing, or number the others anew"
        )
    return order


def _pairs(parts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield texts with the number after each; -1 where a name ends with text."""
    for index in range(0, len(parts), 2):
        yield parts[index], int(parts[index + 1]) if index + 1 < len(parts) else -1


def _missing(numbers: Sequence[int]) -> list[range]:
    """Return which numbers are missing in rising ones, a range for each gap.

    Examples
    --------
    >>> _missing((1, 2, 5)), _missing((0, 10, 20, 30)), _missing((0, 10, 20, 30, 50))
    ([range(3, 5)], [], [range(40, 50, 10)])
    """
    steps = [b - a for a, b in pairwise(numbers)]
    step = min(steps)
    if steps.count(step) < _MIN_STEPS:
        step = 1
    return [range(a + step, b, step) for a, b in pairwise(numbers) if b - a > step]


def _read_header(path: Path) -> tuple[tuple[int, int], np.dtype[Any], VoxelSize | None]:
    """Return height and width, type and voxel size of a slice."""
    if path.suffix.lower() != ".png":
        with damage_refused(path, "cannot be read as TIFF"), tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) != 1:
                raise VolumeError(
                    f"{path}: expected one slice a file, found {len(tiff.pages)}; give the file itself, or a folder of "
                    "single slices"
                )
            page: Any = tiff.pages.first
            check_page(path, page)
            return page.shape, page.dtype.newbyteorder("="), find_voxel_size(tiff)
    with damage_refused(path, "cannot be read as PNG"), open_image(path, "PNG") as image:
        if image.mode not in GREY_MODES:
            raise VolumeError(
                f"{path}: expected grey values, found colour or a palette ({image.mode}); convert it, in Fiji with "
                "Image > Type > 8-bit"
            )
        dtype = {"1": np.bool_, "L": np.uint8}.get(image.mode, np.uint16)
        return (image.height, image.width), np.dtype(dtype), None


def _read_slices(paths: Sequence[Path], dtype: np.dtype[Any], box: Box) -> NDArray[Any]:
    z, y, x = box
    values = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), dtype)
    for slice_, path in zip(values, paths[z], strict=True):
        slice_[...] = _read_slice(path, dtype, y, x)
    return values


def _read_slice(path: Path, dtype: np.dtype[Any], y: slice, x: slice) -> NDArray[Any]:
    with damage_refused(path, "cannot be read"):
        if path.suffix.lower() != ".png":
            with tifffile.TiffFile(path) as tiff:
                return read_pages(path, [tiff.pages.first], dtype, (slice(0, 1), y, x))[0]
        with open_image(path, "PNG") as image:
            return np.asarray(image)[y, x]
