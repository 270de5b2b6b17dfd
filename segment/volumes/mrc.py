"""MRC stacks and maps."""

from __future__ import annotations

import math
import struct
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import mrcfile
import mrcfile.utils
import numpy as np

from segment.errors import VolumeError
from segment.volumes.stored import Stored, read_mapped
from segment.volumes.voxel_size import voxel_size_from

_HEADER_BYTES = 1024
_N_EXTENDED_AT = 92  # bytes; where the length of the extended header is
_MAX_MODE = 101
_IMOD_STAMP = 1146047817  # "IMOD": bit 0 of the next word then tells whether bytes are signed
_IMOD_STAMP_AT = 152  # bytes


def open_mrc(path: Path) -> Stored:
    """Open an MRC file; its slices are mapped.

    Raises
    ------
    VolumeError
        It is cut short, or no single stack of integers or floats.

    References
    ----------
    A. Cheng et al., MRC2014: extensions to the MRC format header for electron cryo-microscopy and tomography, J.
    Struct. Biol. 2015, doi:10.1016/j.jsb.2015.04.002. Mode 0 is signed there; IMOD also wrote it unsigned, and says in
    words of the header that are its own which of the two it is.
    """
    size = path.stat().st_size
    if not _is_plausible(path, size):
        raise VolumeError(f"{path}: is no MRC file, its header makes no sense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of marks that old files lack; that the sizes fit together says more
        with mrcfile.open(path, header_only=True, permissive=True) as mrc:
            header = mrc.header.copy()
            sides = mrc.voxel_size
    dtype = mrcfile.utils.data_dtype_from_header(header)
    shape = mrcfile.utils.data_shape_from_header(header)
    if dtype == np.int8 and _has_unsigned_bytes(path, header):
        dtype = np.dtype(np.uint8)
    if dtype.kind not in "uif" or len(shape) not in (2, 3):
        raise VolumeError(f"{path}: expected one volume of numbers, found {dtype} of shape {tuple(shape)}")
    n_slices, height, width = (1, *shape)[-3:]
    start = _HEADER_BYTES + int(header.nsymbt)
    n_bytes = math.prod((height, width)) * dtype.itemsize
    end = start + n_slices * n_bytes
    if end > size:
        raise VolumeError(
            f"{path}: the file is cut short: {n_slices} slices of {height} by {width} would end at byte {end:,}, the "
            f"file ends at {size:,}; copy or save it again"
        )
    offsets = range(start, end, n_bytes or 1)
    return Stored(
        path,
        path.name,
        (n_slices, height, width),
        dtype.newbyteorder("="),
        voxel_size_from([float(side) for side in (sides.z, sides.y, sides.x)], ["angstrom"] * 3),
        partial(read_mapped, path, dtype, offsets, (height, width)),
    )


def _is_plausible(path: Path, size: int) -> bool:
    """Tell whether a header may be one, in either byte order: mrcfile takes any, and allocates what it says."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return False
    for order in "<>":
        *sides, mode = struct.unpack_from(f"{order}4i", header)
        (n_extended,) = struct.unpack_from(f"{order}i", header, _N_EXTENDED_AT)
        if min(sides) > 0 and 0 <= mode <= _MAX_MODE and 0 <= n_extended <= size - _HEADER_BYTES:
            return True
    return False


def _has_unsigned_bytes(path: Path, header: Any) -> bool:
    """Tell whether mode 0 is unsigned: IMOD's mark says so, or the largest value is one that int8 cannot hold."""
    with path.open("rb") as file:
        file.seek(_IMOD_STAMP_AT)
        words = file.read(8)
    order = ">" if header.mode.dtype.byteorder == ">" else "<"
    stamp, flags = struct.unpack(f"{order}ii", words)
    if stamp == _IMOD_STAMP:
        return not flags & 1
    return bool(header.dmin >= 0 and header.dmax > np.iinfo(np.int8).max)
