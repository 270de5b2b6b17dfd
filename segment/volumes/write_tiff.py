"""A TIFF stack, written slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from segment.volumes.voxel_size import VoxelSize
from segment.volumes.writer import VolumeWriter
from streamdetect.errors import InputError
from streamdetect.files import whole_file

BIG_TIFF_BYTES = 2**32 - 2**25  # before compression: beyond it, classic TIFF might not reach
_LARGEST_TERM = 10**9  # of the fraction that a TIFF stores a resolution as; its terms have 32 bits


def create_tiff(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], voxel_nm: VoxelSize | None
) -> AbstractContextManager[VolumeWriter]:
    """Write a TIFF in ImageJ's manner, which Fiji opens without a plugin.

    Without a predictor: ImageJ knows one with zlib only since 1.53, and masks and labels get no smaller with it.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file; give the name of a file to write")
    return _write_tiff(path, shape, dtype, voxel_nm)


@contextmanager
def _write_tiff(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], voxel_nm: VoxelSize | None
) -> Iterator[VolumeWriter]:
    n_bytes = math.prod(shape) * dtype.itemsize
    with (
        whole_file(path) as partial,
        partial.open("w+b") as file,  # TiffWriter hides what goes wrong when it closes a file that it opened itself
        TiffWriter(file, bigtiff=n_bytes > BIG_TIFF_BYTES) as tiff,
    ):

        def write(z: int, slab: NDArray[Any]) -> None:
            for index, plane in enumerate(slab, start=z):
                tiff.write(
                    plane,
                    photometric="minisblack",
                    compression="zlib",
                    contiguous=False,
                    resolution=_resolution(voxel_nm),
                    resolutionunit="NONE",
                    metadata=None,
                    description=_imagej_description(shape[0], voxel_nm) if index == 0 else None,
                    software=False,
                )

        writer = VolumeWriter(path, shape, dtype, write)
        yield writer
        writer.check_complete()


def _imagej_description(n_slices: int, voxel_nm: VoxelSize | None) -> str:
    """Return the text that ImageJ keeps in the first slice."""
    lines = ["ImageJ=1.54f", f"images={n_slices}", f"slices={n_slices}"]
    if voxel_nm is not None:
        lines += ["unit=nm", f"spacing={voxel_nm[0]!r}"]
    return "\n".join([*lines, "loop=false", ""])


def _resolution(voxel_nm: VoxelSize | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return pixels per nm along x and y, as fractions."""
    if voxel_nm is None:
        return None
    y, x = (Fraction(side).limit_denominator(int(_LARGEST_TERM / max(side, 1))) for side in voxel_nm[1:])
    return (x.denominator, x.numerator), (y.denominator, y.numerator)
