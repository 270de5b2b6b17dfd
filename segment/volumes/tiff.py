"""TIFF stacks: plain, BigTIFF, ImageJ and OME-TIFF."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import tifffile

from segment.errors import VolumeError
from segment.volumes.stored import Stored, read_mapped
from segment.volumes.tiff_metadata import count_stated, find_voxel_size
from segment.volumes.tiff_pages import check_page, read_pages

_DESCRIPTION = 270  # the tag of the text that holds metadata
MAX_CHANNELS = 3  # writers that are not told the axes call slices channels; up to so many may be what they say


def open_tiff(path: Path) -> Stored:
    """Open a TIFF stack.

    Uncompressed slices are mapped; of compressed ones the strips or tiles that a box touches are decoded.

    Raises
    ------
    VolumeError
        It is cut short, in colour, of more axes than three, or of slices of unequal size; or its compression needs a
        package that is not there.
    """
    with ExitStack() as stack:
        tiff = stack.enter_context(tifffile.TiffFile(path))
        if _is_cut_short(tiff):
            raise _cut_short(path, "a slice or a text that it points to is not there")
        pages, n_slices = _find_slices(path, tiff)
        keyframe = pages[0].keyframe
        check_page(path, keyframe)
        if n_slices < count_stated(tiff):
            raise _cut_short(path, f"its {count_stated(tiff)} slices, as it says of itself, are not all there")
        plane = keyframe.shape
        dtype = keyframe.dtype.newbyteorder("=")
        voxel_nm = find_voxel_size(tiff)
        if keyframe.is_final and all(map(_is_contiguous, pages)):
            stored_dtype = dtype.newbyteorder(tiff.byteorder)
            n_bytes = math.prod(plane) * dtype.itemsize
            # ImageJ describes a stack of more than 4 GB by its first slice alone; the others follow it
            offsets = [pages[0].dataoffsets[0] + n_bytes * z for z in range(n_slices)]
            if len(pages) == n_slices:
                offsets = [page.dataoffsets[0] for page in pages]
            _check_extent(path, tiff, [offset + n_bytes for offset in offsets])
            read = partial(read_mapped, path, stored_dtype, offsets, plane)
            return Stored(path, path.name, (n_slices, *plane), dtype, voxel_nm, read)
        if len(pages) != n_slices:
            raise VolumeError(f"{path}: holds {len(pages)} TIFF pages for {n_slices} slices; save it as a plain stack")
        _check_extent(path, tiff, [_page_end(page) for page in pages])
        return Stored(
            path,
            path.name,
            (n_slices, *plane),
            dtype,
            voxel_nm,
            partial(read_pages, path, pages, dtype),
            close=stack.pop_all().close,
        )


def _find_slices(path: Path, tiff: tifffile.TiffFile) -> tuple[Sequence[Any], int]:
    """Return the pages of the slices, and how many slices there are."""
    series = tiff.series
    planes = {(one.shape, one.dtype) for one in series}
    if len(series) > 1 and len(planes) == 1 and series[0].axes == "YX" and not tiff.is_ome:
        # slices that were written one by one
        return [one.pages[0] for one in series], len(series)
    if len(series) != 1 and not tiff.is_ome:
        _refuse_odd_page(path, tiff)
    if len(series) != 1:
        found = ", ".join(f"{one.axes} {one.shape} {one.dtype}" for one in series[:3])
        raise VolumeError(
            f"{path}: expected one image, found {len(series)}: {found}{', …' if len(series) > 3 else ''}; save the "
            "volume alone"
        )
    stack = series[0]
    pages = list(stack.pages)
    if any(page is None or page.parent is not tiff for page in pages):
        raise VolumeError(f"{path}: its metadata look for slices in other files; save the volume as one file")
    lengths = {axis: n for axis, n in zip(stack.axes, stack.shape, strict=True) if axis not in "YXS" and n > 1}
    if len(lengths) > 1 or 1 < lengths.get("C", 1) <= MAX_CHANNELS:
        found = ", ".join(f"{axis} {n}" for axis, n in zip(stack.axes, stack.shape, strict=True))
        raise VolumeError(f"{path}: expected one axis beside Y and X, found {found}; save one channel and time point")
    return pages, math.prod(lengths.values())


def _refuse_odd_page(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file in which a slice differs from the first, and name it."""
    first: Any = tiff.pages.first
    for z, page in enumerate(tiff.pages):
        if (page.shape, page.dtype) != (first.shape, first.dtype):
            raise VolumeError(
                f"{path}: expected slices of {first.shape} {first.dtype}, as slice 0 is, found slice {z} of "
                f"{page.shape} {page.dtype}; remove it, or save the volume alone"
            )


def _is_cut_short(tiff: tifffile.TiffFile) -> bool:
    """Tell whether the last page points to a next one, or the first to a description, that tifffile did not find."""
    layout, file = tiff.tiff, tiff.filehandle
    _ = len(tiff.pages)  # walks the chain
    position = tiff.pages.next_page_offset
    if position is None:
        return True
    file.seek(position)
    pointer = file.read(layout.offsetsize)
    if len(pointer) < layout.offsetsize or struct.unpack(layout.offsetformat, pointer)[0] != 0:
        return True
    first: Any = tiff.pages.first
    file.seek(first.offset)
    (n_tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    tags = file.read(n_tags * layout.tagsize)
    codes = {struct.unpack_from(f"{tiff.byteorder}H", tags, at)[0] for at in range(0, len(tags), layout.tagsize)}
    return _DESCRIPTION in codes and _DESCRIPTION not in first.tags


def _page_end(page: Any) -> int:
    """Return where a page's data end, in bytes."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return max(ends, default=0)


def _is_contiguous(page: Any) -> bool:
    """Tell whether each strip of an uncompressed page begins where the one before ends."""
    strips = zip(page.dataoffsets, page.databytecounts, page.dataoffsets[1:], strict=False)
    return all(start + count == following for start, count, following in strips)


def _check_extent(path: Path, tiff: tifffile.TiffFile, ends: Sequence[int]) -> None:
    """Refuse a file that ends before its slices do."""
    size = tiff.filehandle.size
    for z, end in enumerate(ends):
        if end > size:
            raise _cut_short(path, f"slice {z} of {len(ends)} would end at byte {end:,}, the file ends at {size:,}")


def _cut_short(path: Path, how: str) -> VolumeError:
    return VolumeError(f"{path}: the file is cut short or damaged: {how}; copy or save it again")
