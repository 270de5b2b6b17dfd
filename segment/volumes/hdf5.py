"""HDF5: one dataset of a file."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from segment.errors import VolumeError
from segment.volumes.stored import Stored, choose_array, find_axes, read_array
from segment.volumes.voxel_size import VoxelSize, voxel_size_from

_NAMES = ("element_size", "voxel_size", "resolution")  # of attributes, in the order (z, y, x)
_UNIT_ENDINGS = ("um", "nm")  # of their names, as in element_size_um, which Fiji and ilastik write


def open_hdf5(path: Path, dataset: str | None) -> Stored:
    """Open a dataset.

    Parameters
    ----------
    path : Path
    dataset : str or None
        Its path in the file; by default the only one with three axes.

    Raises
    ------
    VolumeError
        There is no such dataset, or none or several to choose from; or it is compressed in a way that needs a plugin.
    """
    with ExitStack() as stack:
        file = stack.enter_context(h5py.File(path, "r"))
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda _, one: found.__setitem__(one.name, one) if isinstance(one, h5py.Dataset) else None)
        numbers = {name: one for name, one in found.items() if one.dtype.kind in "buif"}
        if dataset is None:
            name = choose_array(path, {name: one.shape for name, one in numbers.items()}, f"{path}:/path/to/dataset")
        else:
            name = f"/{dataset.strip('/')}"
            if name not in file or not isinstance(file[name], h5py.Dataset):
                raise VolumeError(f"{path}: expected the dataset {name}, found {', '.join(found) or 'none'}")
        chosen = file[name]
        axes = find_axes(chosen.shape)
        if axes is None or chosen.dtype.kind not in "buif":
            raise VolumeError(
                f"{path}: expected numbers with three axes, (z, y, x), found {name} of shape {chosen.shape}, "
                f"{chosen.dtype}"
            )
        _check_filters(path, chosen)
        z, y, x = (chosen.shape[axis] for axis in axes)
        return Stored(
            path,
            path.name if len(numbers) == 1 else f"{path.name}:{name}",
            (z, y, x),
            chosen.dtype.newbyteorder("="),
            _find_voxel_size(chosen),
            partial(read_array, chosen, axes),
            close=stack.pop_all().close,
            depth=min(chosen.chunks[axes[0]], z) if chosen.chunks else 1,
        )


def _find_voxel_size(dataset: h5py.Dataset) -> VoxelSize | None:
    """Return the voxel size in nm, where an attribute says it with its unit, or None."""
    attributes = dataset.attrs
    for name in _NAMES:
        stated = [(f"{name}_{unit}", unit) for unit in _UNIT_ENDINGS]
        stated += [(name, attributes[key]) for key in ("unit", "units") if key in attributes]
        for key, unit in stated:
            sizes = np.ravel(attributes[key]) if key in attributes else np.empty(0)
            if len(sizes) == 3 and sizes.dtype.kind in "uif" and isinstance(unit, str):
                return voxel_size_from([float(size) for size in sizes], [unit] * 3)
    return None


def _check_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a compression that this HDF5 library does not have."""
    filters = dataset.id.get_create_plist()
    for index in range(filters.get_nfilters()):
        code, *_, name = filters.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            raise VolumeError(
                f"{path}: {dataset.name} is compressed with filter {code} ({name.decode(errors='replace')}), which is "
                "not installed; write it anew with gzip: h5repack -f GZIP=4"
            )
