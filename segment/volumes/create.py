"""A new volume, which appears whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from segment.volumes.voxel_size import VoxelSize
from segment.volumes.writer import VolumeWriter
from streamdetect.cli.console import needs_extra
from streamdetect.errors import InputError

TIFF_ENDINGS = (".tif", ".tiff")
ZARR_ENDING = ".zarr"  # also .ome.zarr
DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)


def create_volume(
    path: str | PathLike[str], shape: tuple[int, ...], dtype: DTypeLike, voxel_nm: VoxelSize | None
) -> AbstractContextManager[VolumeWriter]:
    """Write a volume slice by slice; it appears under its name when the block ends well, and else nothing does.

    Parameters
    ----------
    path : path
        ``.tif`` or ``.tiff``: a stack that ImageJ, Fiji, napari and `open_volume` read with its voxel size, compressed
        with zlib, as BigTIFF from 4 GB on. ``.zarr`` or ``.ome.zarr``: OME-Zarr 0.5, one level, compressed chunks. An
        older file, and an older OME-Zarr, is replaced.
    shape : tuple of int
        (z, y, x).
    dtype : dtype
        uint8, uint16, uint32 or uint64.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), or None where it is unknown.

    Returns
    -------
    context manager of VolumeWriter
        Its ``append(slab)`` takes the slices in their order.

    Raises
    ------
    InputError
        The name has another ending; there is something else of that name; the folder does not exist; the disk is full.
    RuntimeError
        The block ended well, but before all slices were appended.

    Notes
    -----
    Zarr keeps up to 16 slices until they fill chunks. Fiji shows uint32 as 32-bit floats, exact up to 16,777,216, and
    does not open uint64.
    """
    path = Path(path)
    z, y, x = shape
    dtype = np.dtype(dtype)
    if voxel_nm is not None:
        voxel_nm = (float(voxel_nm[0]), float(voxel_nm[1]), float(voxel_nm[2]))
    if dtype not in DTYPES or min(shape) < 1:
        raise ValueError(f"expected three sides above 0 and unsigned integers, found {shape} {dtype}")
    if path.name.lower().endswith(TIFF_ENDINGS):
        with needs_extra("segment"):
            from segment.volumes.write_tiff import create_tiff
        return create_tiff(path, (z, y, x), dtype, voxel_nm)
    if is_zarr_name(path):
        with needs_extra("segment"):
            from segment.volumes.write_zarr import create_zarr
        return create_zarr(path, (z, y, x), dtype, voxel_nm)
    raise InputError(f"{path}: expected a name that ends in .tif, .tiff, .zarr or .ome.zarr")


def is_zarr_name(path: Path) -> bool:
    """Tell whether an output of that name is an OME-Zarr."""
    return path.name.lower().endswith(ZARR_ENDING)
