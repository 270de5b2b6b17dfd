"""An OME-Zarr image, written slice by slice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from segment.volumes.chunks import CHUNK
from segment.volumes.ome_zarr import describe_image, image_name, images
from segment.volumes.voxel_size import VoxelSize
from segment.volumes.writer import VolumeWriter, disk_refused
from streamdetect.errors import InputError


def create_zarr(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], voxel_nm: VoxelSize | None
) -> AbstractContextManager[VolumeWriter]:
    """Write an OME-Zarr image of one level.

    Zarr goes on in the background with what it was at when Ctrl-C or an error came, which would bring a folder back
    that was just removed. So it works in a thread of its own, a chunk at a time, and that thread is waited for.
    """
    check_zarr_name(path)
    return _write_zarr(path, shape, dtype, voxel_nm)


def check_zarr_name(path: Path) -> None:
    """Refuse a name that an OME-Zarr cannot have.

    Raises
    ------
    InputError
        There is something else of that name, or the folder does not exist or is not writable.
    """
    if os.path.lexists(path) and not _is_ome_zarr(path):
        raise InputError(f"{path}: exists and is no OME-Zarr; choose another name, or remove it")
    parent = path.resolve().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path}: the folder {path.parent} does not exist or is not writable; choose another")


@contextmanager
def _write_zarr(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], voxel_nm: VoxelSize | None
) -> Iterator[VolumeWriter]:
    with whole_folder(path) as partial, ThreadPoolExecutor(1) as thread:
        with disk_refused(path):
            array = thread.submit(_create_array, partial, path, shape, dtype, voxel_nm).result()
        depth, height, width = array.chunks
        kept = np.empty((depth, *shape[1:]), dtype)  # slices that do not fill chunks yet

        def write(z: int, slab: NDArray[Any]) -> None:
            done = 0
            while done < len(slab):
                at = (z + done) % depth
                n = min(depth - at, len(slab) - done)
                kept[at : at + n] = slab[done : done + n]
                done += n
                if at + n == depth or z + done == shape[0]:
                    write_chunks(z + done - at - n, at + n)

        def write_chunks(z: int, n: int) -> None:
            for y in range(0, shape[1], height):
                for x in range(0, shape[2], width):
                    box = (slice(z, z + n), slice(y, y + height), slice(x, x + width))
                    thread.submit(array.__setitem__, box, kept[:n, y : y + height, x : x + width]).result()

        writer = VolumeWriter(path, shape, dtype, write)
        yield writer
        writer.check_complete()


def _create_array(
    folder: Path, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], voxel_nm: VoxelSize | None
) -> zarr.Array:
    """Write the metadata of an image that will have the name `path`, and return its only level."""
    group = zarr.create_group(str(folder), zarr_format=3, attributes=describe_image(image_name(path), voxel_nm))
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=tuple(min(chunk, n) for chunk, n in zip(CHUNK, shape, strict=True)),
        compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
        dimension_names=("z", "y", "x"),
    )


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside a folder, and rename it to the folder when the block ends well.

    Parameters
    ----------
    path : Path
        The final name; an existing OME-Zarr stays as it is until it is replaced.

    Yields
    ------
    Path
        A name that does not exist yet; removed if the block raises.
    """
    final = path.resolve()
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        replace_folder(path, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(path: Path, new: Path) -> None:
    """Put a folder in the place of another, or where there is none; if that fails, all is as it was.

    Raises
    ------
    InputError
        It cannot be moved there.
    """
    final = path.resolve()  # what a link leads to is replaced, not the link
    with disk_refused(path):
        _replace(final, new)


def _replace(final: Path, partial: Path) -> None:
    """Put a folder in the place of another; if that fails, the other is back in its place."""
    if not final.exists():
        partial.rename(final)
        return
    older = final.with_name(f".{final.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    final.rename(older)
    try:
        partial.rename(final)
    except BaseException:
        older.rename(final)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _is_ome_zarr(path: Path) -> bool:
    """Tell whether there is an OME-Zarr image of that name."""
    try:
        return path.is_dir() and bool(images(zarr.open_group(str(path), mode="r").attrs))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
