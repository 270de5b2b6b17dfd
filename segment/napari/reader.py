"""Volumes that napari does not open by itself, or without their voxel size: HDF5, MRC, OME-Zarr, folders of slices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segment.napari.lazy import LazyArray
from segment.volumes.stored import damage_refused, find_axes
from segment.volumes.volume import HDF5_ENDINGS, ZARR_MARKS, split_dataset

EDITABLE_BYTES = 2**30  # labels up to this size are read whole, so that they can be painted on

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return what reads a path, or None where it is none of ours; napari calls it.

    Parameters
    ----------
    path : str
        A file, or a folder with slices or with Zarr in it. A list of several files is left to napari.
    """
    if isinstance(path, list):
        return None
    if os.path.isdir(path) and not _is_volume(Path(path)):
        return None
    return read_layers


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Open a volume, or each volume of an HDF5 file, as layers that are read where they are looked at.

    Parameters
    ----------
    path : str
        As for `segment.volumes.open_volume`, of any type of number.

    Returns
    -------
    list of (data, arguments, type)
        Grey values and probabilities become an image, 32- and 64-bit whole numbers become labels. The voxel size, where
        the file says it, becomes the scale, in nm.

    Raises
    ------
    VolumeError
        The file cannot be read.
    """
    assert isinstance(path, str)
    return [_read_layer(volume) for volume in _list_volumes(path)]


def _read_layer(path: str) -> LayerData:
    from segment.objects.masks import Numbers

    levels = [Numbers(level) for level in _list_levels(path)]
    finest, dtype = levels[0], levels[0].dtype
    kind = "labels" if dtype.kind in "iu" and dtype.itemsize >= 4 else "image"
    file, dataset = split_dataset(path)
    name = f"{file.name}:{dataset}" if dataset else file.name
    arguments: dict[str, Any] = {"name": name, "axis_labels": ("z", "y", "x")}
    if finest.voxel_nm is not None:
        arguments |= {"scale": finest.voxel_nm, "units": ("nm",) * 3}
    if kind == "labels" and math.prod(finest.shape) * dtype.itemsize <= EDITABLE_BYTES:
        return finest[:], arguments, kind
    lazy = [LazyArray(level) for level in levels]
    return (lazy, arguments | {"multiscale": True}, kind) if len(lazy) > 1 else (lazy[0], arguments, kind)


def _is_volume(folder: Path) -> bool:
    """Tell whether a folder holds Zarr or slices."""
    from segment.volumes.slices import ENDINGS

    if any((folder / mark).is_file() for mark in ZARR_MARKS):
        return True
    with os.scandir(folder) as entries:
        return any(Path(entry.name).suffix.lower() in ENDINGS for entry in entries)


def _list_volumes(path: str) -> list[str]:
    """Return the path, or for an HDF5 file with several volumes a path for each."""
    file, dataset = split_dataset(path)
    if file.suffix.lower() not in HDF5_ENDINGS or dataset is not None or not file.is_file():
        return [path]
    import h5py

    found: list[str] = []

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset) and one.dtype.kind in "buif" and find_axes(one.shape):
            found.append(name)

    with damage_refused(file, "cannot be read as HDF5"), h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return [f"{path}:/{name}" for name in found] if len(found) > 1 else [path]


def _list_levels(path: str) -> list[str]:
    """Return the path, which stands for its finest level, and those of the coarser levels of an OME-Zarr image."""
    if not any(os.path.isfile(os.path.join(path, mark)) for mark in ZARR_MARKS):
        return [path]
    import zarr

    from segment.volumes.ome_zarr import images

    with damage_refused(Path(path), "cannot be read as Zarr"):
        described = images(zarr.open(path, mode="r").attrs)
        coarser = described[0]["datasets"][1:] if described else []
        return [path, *(os.path.join(path, level["path"]) for level in coarser)]
