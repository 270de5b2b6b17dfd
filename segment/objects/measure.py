"""Size, surface and shape of numbered objects, in nm.

Every quantity is defined at `ObjectShape`; the tests hold them against spheres, ellipsoids and cylinders.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.objects.blocks import Grid, Shape, choose_blocks
from segment.objects.sums import PAIRS, STEPS, ObjectSum, SumsOfVolume, sum_block
from segment.volumes.voxel_size import VoxelSize


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """What is measured of one object; the names are the columns of the CSV file.

    Parameters
    ----------
    label : int
        Its number in the volume.
    volume_voxels : int
        How many voxels bear it.
    volume_nm3 : float
        The same in nm³.
    surface_nm2 : float
        Surface area in nm², see `estimate_surface`. Where the border of the volume cuts the object, the cut counts.
    centroid_z_voxel, centroid_y_voxel, centroid_x_voxel : float
        Mean position, in voxels; the centre of the volume's first voxel is 0, 0, 0.
    centroid_z_nm, centroid_y_nm, centroid_x_nm : float
        The same in nm.
    box_z_start_voxel, box_y_start_voxel, box_x_start_voxel : int
        First voxel of the bounding box.
    box_z_stop_voxel, box_y_stop_voxel, box_x_stop_voxel : int
        One past the last voxel of the bounding box.
    major_axis_nm, middle_axis_nm, minor_axis_nm : float
        Lengths, tip to tip, of the axes of the ellipsoid with the same second moments, see `measure_axes`.
    elongation : float
        Major by middle axis: 1 for a sphere and a disc, high for a rod.
    flatness : float
        Middle by minor axis: 1 for a sphere and a round rod, high for a disc.
    touches_border : bool
        True where a voxel of it lies on a face of the volume: the rest of it may be outside.
    """

    label: int
    volume_voxels: int
    volume_nm3: float
    surface_nm2: float
    centroid_z_voxel: float
    centroid_y_voxel: float
    centroid_x_voxel: float
    centroid_z_nm: float
    centroid_y_nm: float
    centroid_x_nm: float
    box_z_start_voxel: int
    box_y_start_voxel: int
    box_x_start_voxel: int
    box_z_stop_voxel: int
    box_y_stop_voxel: int
    box_x_stop_voxel: int
    major_axis_nm: float
    middle_axis_nm: float
    minor_axis_nm: float
    elongation: float
    flatness: float
    touches_border: bool


def measure_objects(
    labels: NDArray[np.unsignedinteger],
    voxel_nm: VoxelSize,
    *,
    on_object: Callable[[int, int], None] | None = None,
) -> list[ObjectShape]:
    """Measure every object of a label volume.

    Parameters
    ----------
    labels : ndarray of unsigned integers, shape (z, y, x)
        0 is background; all voxels with the same number are one object, connected or not.
    voxel_nm : tuple of float
        Voxel size in nm, (z, y, x).
    on_object : callable, optional
        Called after each object with how many are done and how many there are.

    Returns
    -------
    list of ObjectShape
        In the order of the labels.

    Raises
    ------
    InputError
        The labels have no three axes or are no unsigned integers, or a side of the voxel is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.zeros((4, 4, 8), np.uint32)
    >>> labels[1:3, 1:3, 1:7] = 5
    >>> (rod,) = measure_objects(labels, (10.0, 5.0, 5.0))
    >>> rod.label, rod.volume_voxels, rod.volume_nm3, rod.centroid_x_nm, rod.touches_border
    (5, 24, 6000.0, 17.5, False)
    """
    if labels.ndim != 3 or labels.dtype.kind != "u":
        raise InputError(
            f"labels: must be unsigned integers with the axes z, y, x, found {labels.dtype} with {labels.ndim} axes"
        )
    if not all(side > 0 for side in voxel_nm):
        raise InputError(f"voxel_nm must be above 0 nm along each axis, found {voxel_nm}")
    if labels.size == 0:
        return []
    grid = choose_blocks(labels.shape)
    total = SumsOfVolume(labels.dtype)
    for index in range(len(grid)):
        total.add(sum_block(labels[grid.box(index, below=1, above=1)], grid, index))
    sums = total.result()
    measured = []
    for each in sums:
        measured.append(measure_object(each, labels.shape, voxel_nm))
        if on_object is not None:
            on_object(len(measured), len(sums.labels))
    return measured


def measure_object(found: ObjectSum, shape: Shape, voxel_nm: VoxelSize) -> ObjectShape:
    """Work out what is measured of an object.

    Parameters
    ----------
    found : ObjectSum
    shape : tuple of int
        Of the volume, (z, y, x).
    voxel_nm : tuple of float
        Voxel size in nm, (z, y, x).
    """
    z, y, x = _centroid(found)
    major, middle, minor = _axes(found, voxel_nm)
    return ObjectShape(
        label=found.label,
        volume_voxels=found.n_voxels,
        volume_nm3=found.n_voxels * math.prod(voxel_nm),
        surface_nm2=_surface(found, voxel_nm),
        centroid_z_voxel=z,
        centroid_y_voxel=y,
        centroid_x_voxel=x,
        centroid_z_nm=z * voxel_nm[0],
        centroid_y_nm=y * voxel_nm[1],
        centroid_x_nm=x * voxel_nm[2],
        box_z_start_voxel=found.start[0],
        box_y_start_voxel=found.start[1],
        box_x_start_voxel=found.start[2],
        box_z_stop_voxel=found.stop[0],
        box_y_stop_voxel=found.stop[1],
        box_x_stop_voxel=found.stop[2],
        major_axis_nm=major,
        middle_axis_nm=middle,
        minor_axis_nm=minor,
        elongation=major / middle,
        flatness=middle / minor,
        touches_border=0 in found.start or any(stop == n for stop, n in zip(found.stop, shape, strict=True)),
    )


def estimate_surface(mask: NDArray[np.bool_], voxel_nm: VoxelSize) -> float:
    """Estimate the surface area of an object from how often lines in 13 directions cross its edge.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        The object; what is outside the array is background.
    voxel_nm : tuple of float
        Voxel size in nm, (z, y, x).

    Returns
    -------
    float
        nm².

    Notes
    -----
    The mean over all directions of the area of a surface's projections, counted with multiplicity, is half of its area
    (Crofton). Here the directions are those from a voxel to its 26 neighbours, each weighted with its part of the
    sphere, so that voxels may be longer than wide.

    Error, measured: within 1 % for spheres of a radius of 4 voxels and more, and for smooth round objects, where voxels
    are cubes; within 3 % where they are up to 4 times as long as wide. Flat faces along the axes come out too small: by
    8.7 % for a cube of cubic voxels (4 % for a cylinder along an axis), by up to 20 % for longer voxels. A triangle
    mesh of a mask, by marching cubes, is 9 % too large for spheres at any resolution, 12 to 25 % for longer voxels.

    References
    ----------
    G. Lehmann and D. Legland, Efficient N-dimensional surface estimation using Crofton formula and run-length encoding,
    Insight Journal 2012; C. Lang, J. Ohser and R. Hilfer, On the analysis of spatial binary images, J. Microscopy 203,
    303-313, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> z, y, x = np.ogrid[-25:26, -25:26, -25:26]
    >>> sphere = z**2 + y**2 + x**2 <= 20**2
    >>> round(estimate_surface(sphere, (1.0, 1.0, 1.0)) / (4 * np.pi * 20**2), 2)
    1.0
    """
    return _surface(_sum_mask(mask), voxel_nm)


def measure_axes(mask: NDArray[np.bool_], voxel_nm: VoxelSize) -> tuple[float, float, float]:
    """Return the lengths of the axes of the ellipsoid with the second moments of an object.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        The object; one voxel at least.
    voxel_nm : tuple of float
        Voxel size in nm, (z, y, x).

    Returns
    -------
    major, middle, minor : float
        From tip to tip, in nm: 2 √(5 λ), λ the eigenvalues of the covariance of position within the object. Each voxel
        counts as a box, not as a point, so that an object one voxel thick has a thickness.

    Notes
    -----
    `elongation`, major by middle, and `flatness`, middle by minor, are then the ratios that ITK calls so in its
    ``ShapeLabelObject``.

    Examples
    --------
    >>> import numpy as np
    >>> major, middle, minor = measure_axes(np.ones((1, 1, 6), bool), (5.0, 5.0, 5.0))
    >>> round(float(major / middle), 6), round(float(middle / minor), 6)
    (6.0, 1.0)
    """
    return _axes(_sum_mask(mask), voxel_nm)


def write_measures(file: TextIO, objects: Iterable[ObjectShape]) -> None:
    """Write measured objects as CSV, a row each, with a header; true and false for `touches_border`.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    objects : iterable of ObjectShape

    Examples
    --------
    >>> import io
    >>> file = io.StringIO()
    >>> write_measures(file, [])
    >>> file.getvalue()[:40]
    'label,volume_voxels,volume_nm3,surface_n'
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field.name for field in fields(ObjectShape)])
    for each in objects:
        writer.writerow([_as_text(value) for value in astuple(each)])


def _sum_mask(mask: NDArray[np.bool_]) -> ObjectSum:
    """Return what is added up over a mask of some foreground, as of one object."""
    shape = mask.shape
    (found,) = sum_block(mask.view(np.uint8), Grid(shape, shape), 0)
    return found


def _centroid(found: ObjectSum) -> list[float]:
    """Return the mean position in voxels along z, y, x."""
    return [total / found.n_voxels for total in found.position]


def _surface(found: ObjectSum, voxel_nm: VoxelSize) -> float:
    return float(sum(n * nm2 for n, nm2 in zip(found.crossings, _crossing_areas(voxel_nm), strict=True)))


def _axes(found: ObjectSum, voxel_nm: VoxelSize) -> tuple[float, float, float]:
    covariance = np.diag([side**2 / 12 for side in voxel_nm])  # of a box about its centre
    n, position = found.n_voxels, found.position
    for (a, b), product_sum in zip(PAIRS, found.products, strict=True):
        # Whole numbers until here, of any size: nothing is lost far from the origin.
        mean = (n * product_sum - position[a] * position[b]) / n**2 * voxel_nm[a] * voxel_nm[b]
        covariance[a, b] += mean
        if a != b:
            covariance[b, a] += mean
    minor, middle, major = 2 * np.sqrt(5 * np.linalg.eigvalsh(covariance))
    return float(major), float(middle), float(minor)


@lru_cache(maxsize=16)
def _crossing_areas(voxel_nm: VoxelSize) -> tuple[float, ...]:
    """Return how many nm² of surface a crossing along each of the 13 `STEPS` to a neighbour stands for."""
    from scipy.spatial import SphericalVoronoi

    both = np.concatenate([STEPS, np.negative(STEPS)])
    vectors = both * np.array(voxel_nm, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    # Equal areas of the sphere; both senses of a direction are one line, hence twice.
    weights = 2 * SphericalVoronoi(vectors / lengths[:, None]).calculate_areas() / (4 * np.pi)
    nm2 = 2 * weights * np.prod(voxel_nm) / lengths  # a line along a step has volume by length to itself
    return tuple(nm2[: len(STEPS)].tolist())


def _as_text(value: bool | int | float) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else f"{value:.10g}" if isinstance(value, float) else str(value)
    )
