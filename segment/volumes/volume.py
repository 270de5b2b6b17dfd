"""A volume of any format, read as it is sliced."""

from __future__ import annotations

import math
import os
import re
import threading
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.stored import Box, Stored, damage_refused
from segment.volumes.voxel_size import VoxelSize
from streamdetect.cli.console import needs_extra
from streamdetect.errors import InputError

TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf8")
HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
MRC_ENDINGS = (".mrc", ".rec", ".map", ".st", ".ali")
ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

_DATASET = re.compile(rf"(.+(?:{'|'.join(map(re.escape, HDF5_ENDINGS))}))::?(.+)", re.IGNORECASE)

# What signed integers become, without loss, by adding half of the range.
_UNSIGNED: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.int8): np.dtype(np.uint8),
    np.dtype(np.int16): np.dtype(np.uint16),
}


class Volume:
    """Grey values of a volume, read from the file as it is sliced.

    ``volume[z0:z1]`` and ``volume[z0:z1, y0:y1, x0:x1]`` return new arrays and read no more than these slices, or the
    chunks that they lie in. It is a context manager; threads may share it.

    Parameters
    ----------
    stored : Stored
        What is in the file.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), or None where it is unknown.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x).
    dtype : numpy.dtype
        uint8 or uint16.
    voxel_nm : tuple of float or None
    name : str
        Of the file, and of the dataset in it.
    path : Path
        The file or the folder.
    added : int
        To each stored value, to make it unsigned: 128 where the file holds int8, 32,768 for int16, else 0.

    Raises
    ------
    VolumeError
        The values are neither 8- nor 16-bit integers.
    """

    def __init__(self, stored: Stored, voxel_nm: VoxelSize | None) -> None:
        if stored.dtype not in (np.uint8, np.uint16, np.int8, np.int16):
            raise VolumeError(
                f"{stored.path}: expected grey values of 8 or 16 bits, found {stored.dtype}; convert it, in Fiji with "
                "Image > Type > 8-bit"
            )
        self.shape = stored.shape
        self.dtype: np.dtype[Any] = _UNSIGNED.get(stored.dtype, stored.dtype)
        self.voxel_nm = voxel_nm
        self.name, self.path = stored.name, stored.path
        self.added = 2 ** (8 * self.dtype.itemsize - 1) if self.dtype != stored.dtype else 0
        self._stored = stored
        self._lock = threading.Lock()

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray[Any]:
        """Return a box as a new array, shape (z, y, x).

        Raises
        ------
        TypeError
            The key holds anything but slices, or a step other than 1.
        VolumeError
            The file is damaged there.
        """
        box = _bounds(key, self.shape)
        if any(part.start == part.stop for part in box):
            return np.empty([part.stop - part.start for part in box], self.dtype)
        with self._lock, damage_refused(self.path, f"slices {box[0].start} to {box[0].stop - 1} cannot be read"):
            values = np.ascontiguousarray(self._stored.read(box), self._stored.dtype)
        if self.added:
            values = values.view(self.dtype)
            values ^= self.dtype.type(self.added)  # the sign bit: the same as adding
        return values

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Volume {self.name}: {self.shape} {self.dtype}, voxels of {self.voxel_nm} nm>"

    def close(self) -> None:
        """Close the file."""
        self._stored.close()


def open_volume(path: str | PathLike[str], *, voxel_nm: VoxelSize | None = None) -> Volume:
    """Open a volume.

    Parameters
    ----------
    path : path
        A TIFF stack (also BigTIFF, ImageJ and OME-TIFF); a folder of PNG or TIFF slices; a single slice; HDF5 (the only
        dataset with three axes, or ``file.h5:/path/to/dataset``); MRC; Zarr (version 2 or 3) or OME-Zarr (0.4 or 0.5,
        its finest level).
    voxel_nm : tuple of float, optional
        Size in nm, (z, y, x), in place of what the file says.

    Returns
    -------
    Volume
        A context manager; nothing but headers is read yet.

    Raises
    ------
    VolumeError
        There is no such file; it is damaged or of another kind; a slice is missing, or has another size; it is in
        colour, or has neither 8- nor 16-bit integers.
    InputError
        `voxel_nm` is not above 0.
    """
    if voxel_nm is not None and not all(0 < size < math.inf for size in voxel_nm):
        raise InputError(f"voxel size {voxel_nm}: expected (z, y, x) in nm, numbers above 0")
    stored = open_stored(path)
    try:
        return Volume(stored, voxel_nm or stored.voxel_nm)
    except BaseException:
        stored.close()
        raise


def open_stored(path: str | PathLike[str]) -> Stored:
    """Open a file of any format, whatever its values are.

    Raises
    ------
    VolumeError
        As for `open_volume`.
    """
    path, dataset = split_dataset(path)
    if not os.path.exists(path):
        raise VolumeError(f"{path}: no such file or folder; check the name")
    if os.path.isdir(path):
        return _open_folder(path)
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise VolumeError(f"{path}: is empty, 0 bytes; copy or save it again")
    ending = path.suffix.lower()
    if ending in TIFF_ENDINGS:
        with needs_extra("segment"):
            from segment.volumes.tiff import open_tiff
        with damage_refused(path, "cannot be read as TIFF"):
            return open_tiff(path)
    if ending == ".png":
        with needs_extra("segment"):
            from segment.volumes.slices import open_slice
        with damage_refused(path, "cannot be read as PNG"):
            return open_slice(path)
    if ending in HDF5_ENDINGS:
        with needs_extra("segment"):
            from segment.volumes.hdf5 import open_hdf5
        with damage_refused(path, "cannot be read as HDF5"):
            return open_hdf5(path, dataset)
    if ending in MRC_ENDINGS:
        with needs_extra("segment"):
            from segment.volumes.mrc import open_mrc
        with damage_refused(path, "cannot be read as MRC"):
            return open_mrc(path)
    raise VolumeError(
        f"{path}: expected TIFF (.tif), HDF5 (.h5), MRC (.mrc), a slice (.png), or a folder of slices or of Zarr"
    )


def _open_folder(path: Path) -> Stored:
    if any(os.path.isfile(path / mark) for mark in ZARR_MARKS):
        with needs_extra("segment"):
            from segment.volumes.ome_zarr import open_zarr
        with damage_refused(path, "cannot be read as Zarr"):
            return open_zarr(path)
    with needs_extra("segment"):
        from segment.volumes.slices import open_slices
    with damage_refused(path, "cannot be read as slices"):
        return open_slices(path)


def split_dataset(path: str | PathLike[str]) -> tuple[Path, str | None]:
    """Split ``file.h5:/path/to/dataset`` or ``file.h5::dataset`` into the file and the dataset.

    Examples
    --------
    >>> file, dataset = split_dataset("brain.h5:/volumes/raw")
    >>> file.name, dataset
    ('brain.h5', '/volumes/raw')
    """
    path = Path(path)
    parts = _DATASET.fullmatch(str(path))
    return (Path(parts[1]), parts[2]) if parts and not os.path.exists(path) else (path, None)


def _bounds(key: slice | tuple[slice, ...], shape: tuple[int, int, int]) -> Box:
    """Return the whole bounds of a key, within the shape."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > 3 or not all(isinstance(part, slice) and part.step in (None, 1) for part in parts):
        raise TypeError(f"a volume takes slices with step 1, such as volume[0:8, 0:64, 0:64], found {key}")
    bounds = [part.indices(n) for part, n in zip((*parts, *[slice(None)] * (3 - len(parts))), shape, strict=True)]
    z, y, x = (slice(start, max(start, stop)) for start, stop, _ in bounds)
    return z, y, x
