"""What a TIFF says of itself: OME-XML, ImageJ's text, tifffile's own."""

from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree

import tifffile

from segment.volumes.voxel_size import VoxelSize, voxel_size_from


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


def count_stated(tiff: tifffile.TiffFile) -> int:
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
