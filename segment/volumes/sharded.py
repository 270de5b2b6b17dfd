"""OME-Zarr images that many processes write at once: a block is one shard, and a shard is one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from segment.errors import InputError
from segment.volumes.chunks import CHUNK, largest_divisor
from segment.volumes.ome_zarr import describe_image
from segment.volumes.voxel_size import VoxelSize
from segment.volumes.writer import disk_refused

LEVEL = "0"  # the finest of an image
PARTIAL = ".partial"  # ends the names of files that are being written


def create_sharded(
    folder: Path,
    name: str,
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    block_shape: tuple[int, int, int],
    voxel_nm: VoxelSize | None,
) -> None:
    """Make an OME-Zarr 0.5 image, 0 everywhere, of which each block is a file of its own.

    Parameters
    ----------
    folder : path
        That does not exist yet.
    name : str
        Of the image, for viewers.
    shape : tuple of int
        (z, y, x).
    dtype : dtype
        An unsigned integer.
    block_shape : tuple of int
        (z, y, x) of a block, which becomes a shard; a shard is read in chunks of at most (16, 256, 256).
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), or None where it is unknown.

    Raises
    ------
    InputError
        The folder cannot be made.
    """
    with disk_refused(folder):
        group = zarr.create_group(str(folder), zarr_format=3, attributes=describe_image(name, voxel_nm))
        create_level(group, LEVEL, shape, dtype, block_shape)


def create_level(
    group: zarr.Group, name: str, shape: tuple[int, int, int], dtype: DTypeLike, shard: tuple[int, int, int]
) -> zarr.Array:
    """Make an array of an image, whose shards are files and are read in chunks."""
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        shards=shard,
        chunks=tuple(largest_divisor(n, most) for n, most in zip(shard, CHUNK, strict=True)),
        compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
        dimension_names=("z", "y", "x"),
    )


def open_sharded(folder: Path, shape: tuple[int, int, int], block_shape: tuple[int, int, int]) -> zarr.Array:
    """Open an image that `create_sharded` made, to write blocks.

    Raises
    ------
    InputError
        It is not there, cannot be written, or has another shape, or blocks of another shape.
    """
    try:
        array: Any = zarr.open_array(str(folder / LEVEL), mode="r+")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder}: cannot be opened as the Zarr that is written: {error}; start the run anew"
        ) from error
    found, expected = (array.shape, array.shards), (tuple(shape), tuple(block_shape))
    if found != expected:
        raise InputError(
            f"{folder}: expected the shape {expected[0]} in shards of {expected[1]}, as the manifest says, found "
            f"{found[0]} in shards of {found[1]}; remove the run folder and start anew"
        )
    if not os.access(folder / LEVEL, os.W_OK):
        raise InputError(f"{folder}: is not writable; give yourself permission, or remove the run folder")
    return array


def write_block(array: zarr.Array, position: tuple[int, int, int], values: NDArray[Any]) -> None:
    """Write one block, so that its file is whole or not there, also after a power cut.

    Parameters
    ----------
    array : zarr.Array
    position : tuple of int
        Which block along (z, y, x).
    values : ndarray, shape of the block
        All of it, cut off at the end of the volume.

    Raises
    ------
    InputError
        The disk is full, or cannot be written to.

    Notes
    -----
    The shard is made in memory, written under a name of its own, and renamed: two that write the same block at the same
    time do not disturb each other. A block of 0 everywhere has no file.
    """
    path = shard_path(array, position)
    expected = tuple(
        min((at + 1) * size, n) - at * size
        for at, size, n in zip(position, array.shards or array.chunks, array.shape, strict=True)
    )
    if values.shape != expected:
        raise RuntimeError(f"{path}: expected a whole block of shape {expected}, got {values.shape}")
    content = _encode(array, values)
    with disk_refused(path):
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_durably(path, content)


def _encode(array: zarr.Array, values: NDArray[Any]) -> bytes | None:
    """Return the file of a block, or None where all is 0: it says nothing about where the block lies."""
    made: dict[str, Any] = {}
    one = zarr.create_array(
        MemoryStore(made),
        shape=values.shape,
        dtype=array.dtype,
        shards=array.shards,
        chunks=array.chunks,
        compressors=array.compressors,
    )
    one[...] = values
    return made["c/0/0/0"].to_bytes() if "c/0/0/0" in made else None


def shard_path(array: zarr.Array, position: tuple[int, int, int]) -> Path:
    """Return the file of a block."""
    return Path(array.store.root) / array.path / "c" / "/".join(map(str, position))  # type: ignore[attr-defined]


def write_durably(path: Path, content: bytes) -> None:
    """Write a file, so that it is whole and on the disk once it has its name.

    Raises
    ------
    OSError
        The disk is full, or cannot be written to; no part of the file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
