"""Pages of a TIFF, each of which is a slice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.pillow import GREY_MODES, open_image
from segment.volumes.stored import Box

_LZW = 5
_MINISBLACK = 1

# What tifffile logs about odd files is either refused or does not matter: it should reach neither stderr, where records
# go that no handler takes, nor the handlers of the program.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


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
    if not _is_decodable(page) and not _is_for_pillow(path, page):
        name = getattr(page.compression, "name", page.compression)
        raise VolumeError(
            f"{path}: its compression ({name}) needs another package: run  pip install imagecodecs  or save it "
            "uncompressed"
        )


def read_pages(path: Path, pages: Sequence[Any], dtype: np.dtype[Any], box: Box) -> NDArray[Any]:
    """Return a box of slices, each a TiffPage or a TiffFrame.

    Parameters
    ----------
    path : Path
        Of the file, which is open.
    pages : sequence of TiffPage or TiffFrame
        All slices.
    dtype : numpy.dtype
        Of the result.
    box : tuple of slice
    """
    z, y, x = box
    values = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), dtype)
    wanted = pages[z]
    planes = (
        (read_page(page, y, x) for page in wanted)
        if _is_decodable(pages[0].keyframe)
        else _read_by_pillow(path, wanted, y, x)
    )
    for slice_, plane in zip(values, planes, strict=True):
        slice_[...] = plane
    return values


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


def _is_decodable(page: tifffile.TiffPage) -> bool:
    """Tell whether tifffile has what it takes to decode a page."""
    return page.compression == 1 or page.compression in tifffile.TIFF.DECOMPRESSORS


def _is_for_pillow(path: Path, page: Any) -> bool:
    """Tell whether Pillow decodes a page to the same values: LZW, which tifffile leaves to a large package."""
    if page.compression != _LZW or page.photometric != _MINISBLACK:
        return False
    with open_image(path, "TIFF") as image:
        return image.mode in GREY_MODES


def _read_by_pillow(path: Path, pages: Sequence[Any], y: slice, x: slice) -> Iterator[NDArray[Any]]:
    with open_image(path, "TIFF") as image:
        for page in pages:
            image.seek(page.index)
            yield np.asarray(image)[y, x]
