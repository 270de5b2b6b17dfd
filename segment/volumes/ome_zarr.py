"""Zarr arrays, versions 2 and 3, and OME-Zarr images, whose finest level is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from segment.errors import VolumeError
from segment.volumes.stored import Stored, choose_array, find_axes, read_array
from segment.volumes.voxel_size import VoxelSize, voxel_size_from


def open_zarr(path: Path) -> Stored:
    """Open a Zarr array, a group with one, or an OME-Zarr image.

    Raises
    ------
    VolumeError
        The axes are not z, y and x, or there is none or more than one to choose from.
    """
    node: Any = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _store(path, node, None)
    if "bioformats2raw.layout" in node.attrs and "0" in node:  # a folder of images
        if "1" in node:
            raise VolumeError(f"{path}: holds several images; choose one, such as {path / '0'}")
        node = node["0"]
    described = images(node.attrs)
    if not described:
        arrays = {name: array.shape for name, array in node.arrays() if array.dtype.kind in "buif"}
        return _store(path, node[choose_array(path, arrays, str(path / "NAME"))], None)
    if len(described) > 1:
        raise VolumeError(f"{path}: expected one image, found {len(described)} multiscales")
    image = described[0]
    level = image["datasets"][0]
    return _store(path, node[level["path"]], _voxel_size(path, image, level))


def images(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the attributes of a group say about OME-Zarr images in it: version 0.5, or 0.4 and before."""
    ome = attributes.get("ome", attributes)
    return list(ome.get("multiscales", ()))


def describe_image(
    name: str, voxel_nm: VoxelSize | None, factors: Sequence[tuple[int, int, int]] = ((1, 1, 1),)
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr 0.5 image.

    Parameters
    ----------
    name : str
    voxel_nm : tuple of float or None
        Of the finest level, (z, y, x); where it is unknown, a voxel has the size 1 and no unit.
    factors : sequence of tuple of int
        Of each level, finest first: voxels of the finest level in one of its own along (z, y, x). Levels are called 0,
        1, and so on.

    Examples
    --------
    >>> image = describe_image("mask", (40.0, 5.0, 5.0), [(1, 1, 1), (1, 2, 2)])["ome"]["multiscales"][0]
    >>> [step["type"] for step in image["datasets"][1]["coordinateTransformations"]]
    ['scale', 'translation']
    >>> image["datasets"][1]["coordinateTransformations"][0]["scale"]
    [40.0, 10.0, 10.0]
    """
    unit = {"unit": "nanometer"} if voxel_nm is not None else {}
    sides = voxel_nm or (1.0, 1.0, 1.0)  # a scale must be there, known or not
    datasets = []
    for level, factor in enumerate(factors):
        steps = [{"type": "scale", "scale": [side * n for side, n in zip(sides, factor, strict=True)]}]
        if max(factor) > 1:  # the centre of a voxel of this level lies between those that it was made from
            centre = [side * (n - 1) / 2 for side, n in zip(sides, factor, strict=True)]
            steps.append({"type": "translation", "translation": centre})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    return {"ome": {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}}


def image_name(path: Path) -> str:
    """Return what viewers call the image of a file.

    Examples
    --------
    >>> image_name(Path("mask.ome.zarr"))
    'mask'
    """
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def _store(path: Path, array: zarr.Array, voxel_nm: VoxelSize | None) -> Stored:
    axes = find_axes(array.shape)
    if axes is None or array.dtype.kind not in "buif":
        raise VolumeError(
            f"{path}: expected numbers with three axes, (z, y, x), and others of length 1 only, found shape "
            f"{array.shape}, {array.dtype}"
        )
    z, y, x = (array.shape[axis] for axis in axes)
    return Stored(
        path,
        path.name or path.resolve().name,
        (z, y, x),
        np.dtype(array.dtype).newbyteorder("="),
        voxel_nm,
        partial(read_array, array, axes),
        depth=min(array.chunks[axes[0]], z),
    )


def _voxel_size(path: Path, image: Mapping[str, Any], level: Mapping[str, Any]) -> VoxelSize | None:
    """Check the axes of an image, and return the voxel size of a level of it in nm, or None where it is not said."""
    axes = image.get("axes")
    if axes is None:  # before version 0.3, always t, c, z, y, x
        return None
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    names = [axis["name"] for axis in axes]
    if names[-3:] != ["z", "y", "x"] or set(names[:-3]) - {"t", "c"}:
        raise VolumeError(f"{path}: expected the axes z, y, x, after t and c at most, found {', '.join(names)}")
    steps = [*level.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    sides: Sequence[float | None] = [float(np.prod([scale[axis] for scale in scales])) for axis in (-3, -2, -1)]
    return voxel_size_from(sides, [axis.get("unit") for axis in axes[-3:]]) if scales else None
