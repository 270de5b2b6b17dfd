"""The same volume in every format."""

from __future__ import annotations

import struct
import warnings

import h5py
import mrcfile
import numpy as np
import tifffile
import zarr
from PIL import Image

from segment.volumes import create_volume, open_volume

SHAPE = (12, 40, 56)
VOXEL_NM = (5.0, 5.0, 5.0)


def make_values(dtype=np.uint8, shape=SHAPE, seed=0):
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def make_waves(shape):
    """Smooth blobs, some of them dark, on a bright ground with thin dark lines."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    image = 160 + 40 * np.sin(z / 3) * np.sin(y / 5) * np.sin(x / 7)
    image[:, ::10] -= 70
    return image.astype(np.uint8)


def write_volume(path, values, voxel_nm=VOXEL_NM):
    """Write a volume in the format of its name; return the path."""
    with create_volume(path, values.shape, values.dtype, voxel_nm) as writer:
        writer.append(values)
    return path


def read_volume(path):
    """Return all of a volume."""
    with open_volume(path) as volume:
        return volume[:]


def _tiff(**options):
    def write(folder, values):
        path = folder / "stack.tif"
        tifffile.imwrite(path, values, photometric="minisblack", **options)
        return path

    return write


def _tiff_page_by_page(**options):
    def write(folder, values):
        path = folder / "stack.tif"
        with tifffile.TiffWriter(path) as tiff:
            for plane in values:
                tiff.write(plane, photometric="minisblack", **options)
        return path

    return write


def _tiff_by_pillow(folder, values):
    first, *others = [Image.fromarray(plane) for plane in values]
    first.save(folder / "stack.tif", save_all=True, append_images=others)
    return folder / "stack.tif"


def _slices(ending, **options):
    def write(folder, values):
        for index, plane in enumerate(values):
            path = folder / f"slice_{index + 3}{ending}"  # 3 to 14: the order of the names is another
            if ending == ".png":
                Image.fromarray(plane).save(path)
            else:
                tifffile.imwrite(path, plane, photometric="minisblack", **options)
        return folder

    return write


def _hdf5(name="raw", **options):
    def write(folder, values):
        with h5py.File(folder / "stack.h5", "w") as file:
            file.create_dataset(name, data=values, **options)
        return folder / "stack.h5"

    return write


def _hdf5_with_channel(folder, values):
    return _hdf5("exported_data")(folder, values[..., None])


def _mrc(folder, values):
    path = folder / "stack.mrc"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN
        mrcfile.write(path, values.view(np.int8) if values.dtype == np.uint8 else values)
    if values.dtype == np.uint8:  # IMOD's mark, without the flag for signed bytes
        with path.open("r+b") as file:
            file.seek(152)
            file.write(struct.pack("<ii", 1146047817, 0))
    return path


def _zarr_array(zarr_format):
    def write(folder, values):
        zarr.save_array(str(folder / "stack.zarr"), values, zarr_format=zarr_format)
        return folder / "stack.zarr"

    return write


def _ome_zarr(version):
    def write(folder, values):
        return write_ome_zarr(folder / "stack.ome.zarr", values, version)

    return write


def write_ome_zarr(path, values, version="0.5", axes="tczyx", unit="nanometer", scale=(40.0, 4.0, 5.0), **image):
    """Write an image of two levels, whose coarser one holds other values."""
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    values = values.reshape((1,) * (len(axes) - values.ndim) + values.shape)
    chunks = tuple(-(-n // parts) for n, parts in zip(values.shape, (1,) * (len(axes) - 3) + (7, 3, 3), strict=True))
    group.create_array("finest", shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
    group.create_array("coarser", shape=chunks, dtype=values.dtype)[...] = 7
    described = {
        "version": version,
        "axes": [
            {"name": axis, "type": "space", **({"unit": unit} if axis in "zyx" and unit else {})} for axis in axes
        ],
        "datasets": [
            {
                "path": name,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * (len(axes) - 3) + [side * factor for side in scale]}
                ],
            }
            for name, factor in (("finest", 1), ("coarser", 2))
        ],
        **image,
    }
    group.attrs.update(
        {"ome": {"version": version, "multiscales": [described]}} if version == "0.5" else {"multiscales": [described]}
    )
    return path


FORMATS = {
    "tiff": _tiff(),
    "tiff, zlib with predictor": _tiff(compression="zlib", predictor=2, rowsperstrip=16),
    "tiff, zlib, tiles": _tiff(compression="zlib", tile=(16, 32)),
    "tiff, tiles": _tiff(tile=(16, 32)),
    "tiff, packbits": _tiff_by_pillow,
    "tiff, big": _tiff(bigtiff=True),
    "tiff, big-endian": _tiff(byteorder=">"),
    "tiff, big-endian, zlib": _tiff(byteorder=">", compression="zlib"),
    "tiff, ImageJ": _tiff(imagej=True, metadata={"axes": "ZYX"}),
    "tiff, ImageJ, axes not said": _tiff(imagej=True),
    "tiff, ImageJ, one page for all": _tiff(imagej=True, metadata={"axes": "ZYX"}, truncate=True),
    "tiff, OME": _tiff(ome=True, metadata={"axes": "ZYX"}),
    "tiff, OME, zlib": _tiff(ome=True, metadata={"axes": "ZYX"}, compression="zlib"),
    "tiff, OME, time is z": _tiff(ome=True, metadata={"axes": "TYX"}),
    "tiff, page by page": _tiff_page_by_page(contiguous=False),
    "tiff, page by page, plain": _tiff_page_by_page(contiguous=False, metadata=None),
    "tiff, page by page, zlib": _tiff_page_by_page(compression="zlib"),
    "slices, png": _slices(".png"),
    "slices, tif": _slices(".tif"),
    "slices, TIFF, zlib": _slices(".TIFF", compression="zlib"),
    "hdf5": _hdf5(),
    "hdf5, gzip": _hdf5("volumes/raw", chunks=(4, 16, 16), compression="gzip"),
    "hdf5, zyxc": _hdf5_with_channel,
    "mrc": _mrc,
    "zarr 2": _zarr_array(2),
    "zarr 3": _zarr_array(3),
    "ome-zarr 0.4": _ome_zarr("0.4"),
    "ome-zarr 0.5": _ome_zarr("0.5"),
}


def write_as(kind, folder, values):
    """Write a volume in one of the formats, and return its path."""
    return FORMATS[kind](folder, values)
