"""What napari's layers are to a segmentation: voxels, their size in nm, and where a part of them lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError, VolumeError
from segment.volumes import VoxelSize
from segment.volumes.stored import Box
from segment.volumes.voxel_size import voxel_size_from

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Labels, Shapes


@dataclass(frozen=True, eq=False)
class LayerVoxels:
    """The voxels of a layer, or of a box of it, read as they are sliced.

    Parameters
    ----------
    data : array-like
        NumPy, Zarr, Dask or what else napari shows; its axes before the last three have the length 1.
    box : tuple of slice
        Along (z, y, x), with whole bounds.
    path : str
        What messages call it.
    """

    data: Any
    box: Box
    path: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the box along (z, y, x)."""
        z, y, x = (part.stop - part.start for part in self.box)
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self.data.dtype)

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of the box, shape (z, y, x); only that much is read."""
        parts = key if isinstance(key, tuple) else (key,)
        inside = [part.indices(n) for part, n in zip((*parts, *[slice(None)] * 3)[:3], self.shape, strict=True)]
        within = tuple(slice(own.start + a, own.start + b) for own, (a, b, _) in zip(self.box, inside, strict=True))
        return np.asarray(self.data[(0,) * (self.data.ndim - 3) + within])

    def crop(self, box: Box) -> LayerVoxels:
        """Return a box of the layer in place of this one."""
        return replace(self, box=box)


def find_voxels(layer: Image | Labels) -> LayerVoxels:
    """Return the voxels of a layer, of its finest level where it has several.

    Raises
    ------
    InputError
        The layer is in colour, or no stack.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(n) for n in data.shape)
    if getattr(layer, "rgb", False):
        raise InputError(f"{layer.name}: expected grey values, found colours; convert the image to grey first")
    if len(shape) < 3:
        raise InputError(
            f"{layer.name}: expected a stack with the axes z, y and x, found a single picture of {shape}; open the "
            "whole stack as one layer"
        )
    if any(n != 1 for n in shape[:-3]):
        raise InputError(
            f"{layer.name}: expected the axes z, y and x, found {len(shape)} axes of {shape}; take one channel and "
            "time: right-click the layer, Split Stack"
        )
    if np.dtype(data.dtype).kind not in "uif":
        raise InputError(f"{layer.name}: expected numbers, found {data.dtype}; convert the image to 8 bits first")
    z, y, x = (slice(0, n) for n in shape[-3:])
    return LayerVoxels(data, (z, y, x), layer.name)


def find_voxel_size(layer: Image | Labels) -> VoxelSize | None:
    """Return the size of a layer's voxels in nm, (z, y, x): from its scale and units, else from its file, else None."""
    if layer.ndim < 3:
        return None
    stated = voxel_size_from(layer.scale[-3:].tolist(), [str(unit) for unit in layer.units[-3:]])
    path = layer.source.path
    if stated is not None or path is None or not Path(path).is_file():
        return stated
    from segment.volumes import open_volume

    try:
        with open_volume(path) as volume:
            return volume.voxel_nm if volume.shape == find_voxels(layer).shape else None
    except InputError:  # a format that only napari reads
        return None


def place_like(layer: Image | Labels, start: Sequence[int]) -> dict[str, Any]:
    """Return what a new layer of three axes needs to lie on a box of another.

    Parameters
    ----------
    layer : Image or Labels
        The other.
    start : sequence of int
        First voxel of the box, (z, y, x).

    Returns
    -------
    dict
        Arguments of `napari.layers.Image` and `Labels`.
    """
    world = layer.data_to_world((0,) * (layer.ndim - 3) + tuple(start))
    placed: dict[str, Any] = {
        "scale": layer.scale[-3:],
        "translate": np.asarray(layer.affine.inverse(world))[-3:],
        "units": layer.units[-3:],
        "axis_labels": layer.axis_labels[-3:],
    }
    if layer.ndim == 3:  # with more axes they would mix with these three
        placed |= {"rotate": layer.rotate, "shear": layer.shear, "affine": layer.affine.affine_matrix}
    return placed


def view_box(layer: Image, dims: Dims) -> Box:
    """Return the part of a layer that the canvas shows, and all of the axis that looks into the screen.

    Raises
    ------
    InputError
        The view is in 3-D, or shows nothing of the layer.
    """
    if dims.ndisplay != 2:
        raise InputError("region: the view is in 3-D, where what is seen is no box; switch to 2-D, or draw a rectangle")
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
    first, last = layer.corner_pixels * factors
    displayed = [axis - (dims.ndim - layer.ndim) for axis in dims.displayed]
    shape = find_voxels(layer).shape
    before = layer.ndim - 3
    sides = [slice(0, n) for n in shape]
    for axis in (axis - before for axis in displayed if axis >= before):
        step = factors[axis + before]
        sides[axis] = _clip(first[axis + before], last[axis + before] + step, shape[axis])
        if sides[axis].stop - sides[axis].start <= step < shape[axis]:
            raise InputError(f"region: nothing of {layer.name} is in view; move there, or choose another region")
    z, y, x = sides
    return z, y, x


def shapes_box(layer: Image, shapes: Shapes) -> Box:
    """Return the box around what is drawn in a shapes layer: the selected shapes, or all where none is.

    Along an axis that the shapes do not extend along, it is as long as the image.

    Raises
    ------
    InputError
        There are no shapes, or they lie beside the image.
    """
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    if not len(chosen):
        raise InputError(f"region: nothing is drawn in {shapes.name}; draw a rectangle around what to segment")
    shape = find_voxels(layer).shape
    corners = np.array(
        [
            layer.world_to_data(shapes.data_to_world(vertex))[-3:]
            for index in chosen
            for vertex in shapes.data[index][:, -3:]
        ]
    )
    n_drawn = min(3, shapes.ndim)
    sides = [slice(0, n) for n in shape]
    for axis in range(3 - n_drawn, 3):
        low, high = corners[:, axis].min(), corners[:, axis].max()
        if high - low > 1e-6:
            sides[axis] = _clip(np.floor(low + 0.5), np.floor(high + 0.5) + 1, shape[axis])
        if sides[axis].start >= sides[axis].stop:
            raise InputError(f"region: {shapes.name} lies beside {layer.name}; draw a rectangle on the image")
    z, y, x = sides
    return z, y, x


def limit_slices(box: Box, first: int, last: int) -> Box:
    """Return the part of a box between two slices along z, both of them included.

    Raises
    ------
    InputError
        There is none.

    Examples
    --------
    >>> limit_slices((slice(0, 60), slice(0, 9), slice(0, 9)), 10, 19)[0]
    slice(10, 20, None)
    """
    z = slice(max(box[0].start, first), min(box[0].stop, last + 1))
    if z.start >= z.stop:
        raise InputError(
            f"slices {first} to {last}: the region has slices {box[0].start} to {box[0].stop - 1}; choose some of these"
        )
    return z, *box[1:]


def as_unsigned(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return whole numbers from 0 on as an unsigned type, without changing them.

    Raises
    ------
    VolumeError
        They are no whole numbers, or some are below 0.
    """
    if values.dtype.kind == "u":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind != "i":
        raise VolumeError(f"{name}: expected whole numbers, found {values.dtype}; convert it to 8 or 16 bits first")
    if values.min(initial=0) < 0:
        raise VolumeError(f"{name}: expected numbers from 0 on, found {values.min()}; convert it to unsigned numbers")
    return values.astype(f"u{values.dtype.itemsize}")


def _clip(start: float, stop: float, n: int) -> slice:
    return slice(max(0, min(int(start), n)), max(0, min(int(stop), n)))
