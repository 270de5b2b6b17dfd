"""TIFF stacks: plain, BigTIFF, ImageJ and OME-TIFF."""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.stored import Box, Stored, read_mapped
from segment.volumes.voxel_size import VoxelSize, voxel_size_from

_DESCRIPTION = 270  # the tag of the text that holds metadata
MAX_CHANNELS = 3  # writers that are not told the axes call slices channels; up to so many may be what they say

# What tifffile logs about odd files is either refused here or does not matter; without a handler it goes to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


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
        if n_slices < _count_stated(tiff):
            raise _cut_short(path, f"its {_count_stated(tiff)} slices, as it says of itself, are not all there")
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
            partial(_read_pages, pages, dtype),
            close=stack.pop_all().close,
        )


def check_page(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse a page that is no slice of grey values, or cannot be decoded.

    Raises
    ------
    VolumeError
        It is in colour, holds several planes, or its compression needs a package that is not there.
    """
    if page.samplesperpixel > 1:
        raise VolumeError(
            f"{path}: expected grey values, found colour ({page.samplesperpixel} values a pixel); convert it, in Fiji "
            "with Image > Type > 8-bit"
        )
    if len(page.shape) != 2 or page.dtype is None:
        raise VolumeError(f"{path}: expected slices of grey values, found pages of shape {page.shape}, {page.dtype}")
    if page.compression != 1 and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", page.compression)
        raise VolumeError(
            f"{path}: its compression ({name}) needs another package: run  pip install imagecodecs  or save it "
            "uncompressed"
        )


def read_page(page: Any, y: slice, x: slice) -> NDArray[Any]:
    """Return a part of a TiffPage or a TiffFrame; only the strips or tiles that it touches are decoded."""
    keyframe = page.keyframe
    values = np.zeros((y.stop - y.start, x.stop - x.start), keyframe.dtype.newbyteorder("="))
    height, width = keyframe.chunks
    n_columns = keyframe.chunked[1]
    wanted = [
        row * n_columns + column
        for row in range(y.start // height, -(-y.stop // height))
        for column in range(x.start // width, -(-x.stop // width))
    ]
    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[index] for index in wanted], [page.databytecounts[index] for index in wanted], wanted
    )
    tables = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
    for data, index in segments:
        decoded, (_, _, top, left, _), (_, n_rows, n_cols, _) = keyframe.decode(data, index, **tables)
        if decoded is None:  # a strip that was never written is 0
            continue
        rows = slice(max(top, y.start), min(top + n_rows, y.stop))
        columns = slice(max(left, x.start), min(left + n_cols, x.stop))
        values[rows.start - y.start : rows.stop - y.start, columns.start - x.start : columns.stop - x.start] = decoded[
            0, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, 0
        ]
    return values


def find_voxel_size(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """Return the voxel size in nm that OME or ImageJ metadata state, or None."""
    pixels = _ome_pixels(tiff)
    if pixels is not None:
        sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
        ome_units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"]
        return voxel_size_from([float(size) if size else None for size in sizes], ome_units)
    if tiff.is_imagej and tiff.imagej_metadata:
        stated = tiff.imagej_metadata
        sides = [_pixel_side(tiff.pages.first, name) for name in ("YResolution", "XResolution")]
        units = [_imagej_unit(stated.get(name)) for name in ("zunit", "yunit", "unit")]
        # No spacing is 1 to ImageJ, whatever the unit; it is more often never set, so it counts as unknown here.
        return voxel_size_from((stated.get("spacing"), *sides), [unit or units[2] for unit in units])
    return None


def _ome_pixels(tiff: tifffile.TiffFile) -> ElementTree.Element | None:
    """Return what OME metadata say about the first image."""
    if not (tiff.is_ome and tiff.ome_metadata):
        return None
    elements = ElementTree.fromstring(tiff.ome_metadata).iter()
    return next((element for element in elements if element.tag.endswith("}Pixels")), None)


def _count_stated(tiff: tifffile.TiffFile) -> int:
    """Return how many slices there are to be by the metadata, or 0 where they do not say."""
    pixels = _ome_pixels(tiff)
    if pixels is not None:
        return math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
    if tiff.is_imagej and tiff.imagej_metadata:
        return math.prod(int(tiff.imagej_metadata.get(name, 1)) for name in ("slices", "channels", "frames"))
    first: Any = tiff.pages.first
    if first.is_shaped and first.description.startswith("{"):  # tifffile's own
        return math.prod(json.loads(first.description)["shape"]) // math.prod(first.shape)
    return 0


def _pixel_side(page: tifffile.TiffPage, name: str) -> float | None:
    """Return the side of a pixel from a tag that says how many there are in a unit."""
    count, length = page.tags.valueof(name, (0, 0))
    return length / count if count else None


def _imagej_unit(unit: object) -> str | None:
    r"""Return a unit without ImageJ's escapes: ``\u00B5m`` is µm."""
    if not isinstance(unit, str):
        return None
    return unit.encode("latin-1", "backslashreplace").decode("unicode_escape")


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
    return VolumeError(f"{path}: the file is cut short: {how}; copy or save it again")


def _read_pages(pages: Sequence[Any], dtype: np.dtype[Any], box: Box) -> NDArray[Any]:
    z, y, x = box
    values = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), dtype)
    for slice_, page in zip(values, pages[z], strict=True):
        slice_[...] = read_page(page, y, x)
    return values
