"""Layers as OME-Zarr with their voxel size, which napari cannot write."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from segment.errors import InputError
from segment.napari.layers import LayerVoxels, as_unsigned
from segment.volumes import create_volume
from segment.volumes.stored import find_axes
from segment.volumes.voxel_size import voxel_size_from

PROBABILITY_LAYER = "segment_probability"  # key of a layer's metadata
SLAB_BYTES = 2**27  # read and written at a time, one slice at least


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image or labels layer as OME-Zarr 0.5; napari calls it.

    Parameters
    ----------
    path : str
        Ends in ``.ome.zarr`` or ``.zarr``.
    data : array-like, or list of them
        Whole numbers from 0 on, with the axes z, y and x; the first of the levels. The widget's probabilities are
        written as uint8, 255 is 1, as ``segment predict --probabilities`` does.
    meta : dict
        Arguments of the layer: its scale and units become the voxel size.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    InputError
        The layer is no stack of whole numbers, or cannot be written there; nothing is written.
    """
    from napari.utils.notifications import show_warning

    name = str(meta.get("name", path))
    finest = data[0] if meta.get("multiscale") else data
    axes = find_axes(finest.shape)
    if axes is None or axes[-1] != finest.ndim - 1 or meta.get("rgb"):
        raise InputError(f"{name}: expected a stack with the axes z, y and x, found the shape {tuple(finest.shape)}")
    z, y, x = (slice(0, int(n)) for n in finest.shape[-3:])
    voxels = LayerVoxels(finest, (z, y, x), name)
    is_probability = PROBABILITY_LAYER in meta.get("metadata", {})
    dtype = np.dtype(np.uint8) if is_probability else as_unsigned(voxels[:1, :1, :1], name).dtype
    voxel_nm = voxel_size_from(np.ravel(meta["scale"])[-3:].tolist(), [str(unit) for unit in meta["units"][-3:]])
    if np.any(meta.get("translate", 0)):
        show_warning(f"{name}: its position is not kept in the file, only its voxel size")
    depth = max(1, SLAB_BYTES // (math.prod(voxels.shape[1:]) * voxels.dtype.itemsize))
    with create_volume(path, voxels.shape, dtype, voxel_nm) as writer:
        for start in range(0, voxels.shape[0], depth):
            slab = voxels[start : start + depth]
            writer.append(np.rint(slab * 255).astype(dtype) if is_probability else as_unsigned(slab, name))
    return [path]
