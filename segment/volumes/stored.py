"""What a file holds, as it is stored: what each format's module makes, and `Volume` and `read_labels` read from."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError
from segment.volumes.voxel_size import VoxelSize

Box = tuple[slice, slice, slice]  # of whole bounds, step 1, within the shape

# What the libraries of the formats raise for files that are damaged, or are of another kind.
_DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
)


def _do_nothing() -> None:
    """Close what needs no closing."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A file's voxels, before anything is made of their values.

    Parameters
    ----------
    path : Path
        The file or the folder.
    name : str
        Its name, with that of the dataset in it where there may be others.
    shape : tuple of int
        (z, y, x).
    dtype : numpy.dtype
        Any; in this machine's byte order.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), where the file says it.
    read : callable
        ``read(box)`` returns a new array of the box, read from the file.
    close : callable
    depth : int
        Slices that are decoded together, so that reading fewer costs as much.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_nm: VoxelSize | None
    read: Callable[[Box], NDArray[Any]]
    close: Callable[[], None] = _do_nothing
    depth: int = 1

    def __post_init__(self) -> None:
        if 0 in self.shape:
            raise VolumeError(f"{self.path}: holds no voxels, its shape is {self.shape}")


@contextmanager
def damage_refused(path: Path, doing: str) -> Iterator[None]:
    """Turn what a library raises for a file that it cannot read into one line.

    Parameters
    ----------
    path : Path
        That the line names.
    doing : str
        What cannot be done with it, such as ``cannot be read as TIFF``.
    """
    try:
        yield
    except VolumeError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:  # such as Permission denied: a copy would not help
            raise VolumeError(f"{path}: {doing}: {error.strerror}") from error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise VolumeError(
            f"{path}: {doing}: {reason}; check that it is what its name says, or save it again"
        ) from error


def read_mapped(path: Path, dtype: np.dtype[Any], offsets: Sequence[int], plane: tuple[int, int], box: Box) -> NDArray:
    """Return a box of slices that lie uncompressed in a file.

    Parameters
    ----------
    path : Path
    dtype : numpy.dtype
        In the file's byte order.
    offsets : sequence of int
        Where each slice begins, in bytes.
    plane : tuple of int
        Height and width of all of them.
    box : tuple of slice

    Notes
    -----
    Each slice is mapped for as long as it is copied: a map that is kept counts as this process's memory.
    """
    z, y, x = box
    values = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), dtype.newbyteorder("="))
    for index, slice_ in enumerate(values, start=z.start):
        slice_[...] = np.memmap(path, dtype, mode="r", offset=offsets[index], shape=plane)[y, x]
    return values


def find_axes(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Return which axes of an array are z, y and x: all others must have the length 1.

    Examples
    --------
    >>> find_axes((1, 1, 20, 30, 40))
    (2, 3, 4)
    >>> find_axes((20, 30, 40, 1))
    (0, 1, 2)
    >>> find_axes((2, 20, 30, 40))
    """
    first, last = 0, len(shape)
    while last - first > 3 and shape[first] == 1:
        first += 1
    while last - first > 3 and shape[last - 1] == 1:
        last -= 1
    return (first, first + 1, first + 2) if last - first == 3 else None


def read_array(array: Any, axes: tuple[int, int, int], box: Box) -> NDArray[Any]:
    """Return a box of an HDF5 dataset or a Zarr array, whose axes beside those given have the length 1."""
    key: list[int | slice] = [0] * array.ndim
    for axis, part in zip(axes, box, strict=True):
        key[axis] = part
    return np.asarray(array[tuple(key)])


def choose_array(path: Path, shapes: dict[str, tuple[int, ...]], hint: str) -> str:
    """Return the name of the only array that can be a volume.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    shapes : dict
        Names and shapes of all arrays of numbers.
    hint : str
        How to choose one, for the message.

    Raises
    ------
    VolumeError
        There is none, or more than one.
    """
    fit = [name for name, shape in shapes.items() if find_axes(shape)]
    if len(fit) == 1:
        return fit[0]
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if name in fit or not fit)
    if fit:
        raise VolumeError(f"{path}: holds {len(fit)} volumes: {found}; choose one: {hint}")
    raise VolumeError(f"{path}: expected an array with three axes, (z, y, x), found {found or 'no array'}")
