"""From a mask to numbered objects: connected components, without specks, and touching objects split where they narrow.

Objects are numbered from 1 in the order in which their first voxel comes along z, then y, then x.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Literal, TypeAlias, get_args

import cc3d
import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError

Labels: TypeAlias = NDArray[np.unsignedinteger[Any]]  # 0 is background

Connectivity = Literal[6, 18, 26]  # voxels that touch by a face; by an edge too; by a corner too
NECK_NM = 30.0  # leaves 31 of the 36 mitochondria of the EPFL training volume whole, which their annotators did not cut

_UINT32_MAX = int(np.iinfo(np.uint32).max)
_THICK = 8
_RANK = {6: 1, 18: 2, 26: 3}  # how scikit-image counts connectivity


def label_objects(
    mask: NDArray[np.bool_],
    *,
    connectivity: Connectivity = 26,
    min_voxels: int = 0,
    neck_nm: float | None = None,
    voxel_nm: tuple[float, float, float] | None = None,
) -> tuple[Labels, int]:
    """Find the objects of a mask and number them.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        The foreground.
    connectivity : {26, 18, 6}
        Which voxels belong together: those that share a face (6), an edge (18), or a corner (26).
    min_voxels : int
        Leave out objects of fewer voxels.
    neck_nm : float, optional
        Split objects at necks, see `split_objects`; not by default. More than 0 nm.
    voxel_nm : tuple of float, optional
        Voxel size in nm, (z, y, x); needed to split.

    Returns
    -------
    labels : ndarray of uint32, shape (z, y, x)
        0 is background. uint64 where there are more than 2**32 - 1 objects.
    n_objects : int
        The highest label.

    Raises
    ------
    InputError
        The mask has no three axes or is not boolean, there is no such connectivity, a number is out of range, or
        `neck_nm` is given without a voxel size.

    Notes
    -----
    Holds the mask, 1 byte a voxel, and the labels, 4 bytes a voxel, in memory. Specks are left out before a split, and
    parts that a split makes too small after it: no object is smaller than `min_voxels`.
    `segment.objects.blockwise.label_volume` does the same to files of any size.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.array([[[True, False, False, True], [False, True, False, True]]])
    >>> labels, n_objects = label_objects(mask)
    >>> labels
    array([[[1, 0, 0, 2],
            [0, 1, 0, 2]]], dtype=uint32)
    >>> label_objects(mask, connectivity=6)[1]
    3
    """
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise InputError(f"mask: must be boolean with the axes z, y, x, found {mask.dtype} with {mask.ndim} axes")
    check_options(connectivity, min_voxels)
    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32), 0
    labels, n_objects = connect_voxels(mask, connectivity)
    labels, n_objects = drop_small(labels, n_objects, min_voxels)
    if neck_nm is not None:
        voxel_nm = check_neck(neck_nm, voxel_nm)
        labels, n_objects = split_objects(labels, n_objects, voxel_nm, neck_nm=neck_nm, connectivity=connectivity)
        labels, n_objects = drop_small(labels, n_objects, min_voxels)
    if labels.dtype == np.uint64 and n_objects <= _UINT32_MAX:
        labels = labels.astype(np.uint32)
    return labels, n_objects


def check_options(connectivity: int, min_voxels: int) -> None:
    """Refuse what `label_objects` cannot use.

    Raises
    ------
    InputError
        There is no such connectivity, or the number is below 0.
    """
    if connectivity not in get_args(Connectivity):
        raise InputError(f"connectivity must be 6, 18 or 26, found {connectivity}")
    if min_voxels < 0:
        raise InputError(f"min_voxels must be 0 or more, found {min_voxels}")


def check_neck(neck_nm: float, voxel_nm: tuple[float, float, float] | None) -> tuple[float, float, float]:
    """Return the voxel size that a split needs, or refuse.

    Raises
    ------
    InputError
        It is not known, or `neck_nm` or a side of the voxel is not above 0.
    """
    if voxel_nm is None:
        raise InputError("neck_nm: objects are split by distances in nm, which needs the voxel size: give voxel_nm")
    if not neck_nm > 0 or not all(side > 0 for side in voxel_nm):
        raise InputError(f"neck_nm and voxel_nm must be above 0 nm, found {neck_nm} and {voxel_nm}")
    return voxel_nm


def drop_small(labels: Labels, n_objects: int, min_voxels: int) -> tuple[Labels, int]:
    """Leave out small objects and number the others anew, in the same order.

    Parameters
    ----------
    labels : ndarray of uint32 or uint64, shape (z, y, x)
        0 to `n_objects`; changed in place.
    n_objects : int
        The highest label.
    min_voxels : int
        An object of fewer voxels is left out.

    Returns
    -------
    labels : ndarray, shape (z, y, x)
        The same array.
    n_objects : int
        How many are left.

    Examples
    --------
    >>> import numpy as np
    >>> drop_small(np.array([[[1, 0, 2, 2, 0, 3, 3]]], np.uint32), 3, 2)
    (array([[[0, 0, 1, 1, 0, 2, 2]]], dtype=uint32), 2)
    """
    if min_voxels <= 1 or n_objects == 0:
        return labels, n_objects
    sizes = cc3d.statistics(labels, no_slice_conversion=True)["voxel_counts"]
    is_kept = sizes[: n_objects + 1] >= min_voxels
    is_kept[0] = False
    new = np.where(is_kept, np.cumsum(is_kept), 0).astype(labels.dtype)
    return _renumber(labels, new), int(np.count_nonzero(is_kept))


def split_objects(
    labels: Labels,
    n_objects: int,
    voxel_nm: tuple[float, float, float],
    *,
    neck_nm: float = NECK_NM,
    connectivity: Connectivity = 26,
) -> tuple[Labels, int]:
    """Split objects at necks: by a watershed of the distance to their edge.

    Parameters
    ----------
    labels : ndarray of uint32 or uint64, shape (z, y, x)
        Connected objects, 0 to `n_objects`; changed in place.
    n_objects : int
        The highest label.
    voxel_nm : tuple of float
        Voxel size in nm, (z, y, x).
    neck_nm : float
        How much narrower than the parts on both of its sides, in nm of radius, a neck must be to be cut. Smaller values
        cut more.
    connectivity : {26, 18, 6}
        With which the objects were found.

    Returns
    -------
    labels : ndarray, shape (z, y, x)
        The same array, numbered anew in the order of the first voxels; each voxel of an object stays in an object.
    n_objects : int
        How many there are now.

    Raises
    ------
    InputError
        `neck_nm` or a side of the voxel is not above 0.

    Notes
    -----
    Works on one object at a time, in its bounding box: about 60 bytes for each voxel of the largest box. The edge of
    the volume is no edge of an object, so that an object cut by it is as wide there as what is left of it.

    References
    ----------
    P. Soille, Morphological Image Analysis, 2nd ed., Springer 2003: dynamics (h-maxima) and watershed of the distance
    function. Basins of all maxima are merged here by the same rule, which needs one flooding and no rounding.
    """
    check_neck(neck_nm, voxel_nm)
    if n_objects == 0:
        return labels, 0
    n_found = n_objects
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    for label in range(1, n_objects + 1):
        # With a voxel of background around it, except where the volume ends.
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in boxes[label])
        inside = labels[box]
        parts, n_parts = split_object(inside == label, voxel_nm, neck_nm, connectivity)
        for part in range(2, n_parts + 1):  # the first keeps its label
            n_found += 1
            inside[parts == part] = n_found
    return _order_by_first_voxel(labels, n_found), n_found


def connect_voxels(mask: NDArray[np.bool_], connectivity: Connectivity) -> tuple[Labels, int]:
    """Return labels and their number; cc3d numbers an array in C order by the first voxels."""
    # While it works, cc3d may need a provisional label for each voxel.
    dtype = np.uint32 if mask.size <= _UINT32_MAX else np.uint64
    mask = np.ascontiguousarray(mask)
    # cc3d 4.1 allots too few labels for 26 neighbours in thin boolean arrays, and stops with an error (found with sides
    # of 1 and 3); its way for numbers is slower and has them.
    values = mask.view(np.uint8) if min(mask.shape) < _THICK else mask
    labels, n_objects = cc3d.connected_components(values, connectivity=connectivity, out_dtype=dtype, return_N=True)
    return labels, int(n_objects)


def split_object(
    mask: NDArray[np.bool_], voxel_nm: tuple[float, float, float], neck_nm: float, connectivity: Connectivity
) -> tuple[NDArray[np.int32], int]:
    """Return the parts of one object, numbered from 1, and how many there are."""
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    whole = mask.astype(np.int32)
    if mask.all():  # no edge to be far from
        return whole, 1
    distance = distance_transform_edt(mask, sampling=voxel_nm).astype(np.float32)
    if distance.max() <= neck_nm:
        return whole, 1
    rank = _RANK[connectivity]
    peaks, n_peaks = cc3d.connected_components(
        local_maxima(distance, connectivity=rank) & mask, connectivity=connectivity, out_dtype=np.uint32, return_N=True
    )
    if n_peaks < 2:
        return whole, 1
    # Flooding takes the connectivity of the object, or what hangs on by a corner would stay dry.
    basins = watershed(-distance, peaks.astype(np.int32), mask=mask, connectivity=rank)
    summits = np.zeros(n_peaks + 1, np.float32)
    np.maximum.at(summits, basins[mask], distance[mask])
    part_of, n_parts = _merge_basins(summits, *_find_passes(basins, distance, rank), neck_nm)
    return part_of[basins], n_parts


def _find_passes(
    basins: NDArray[np.int32], distance: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs of basins that touch, shape (n, 2), and the highest pass between each, shape (n,), in nm."""
    pairs, heights = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    for step in product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0) or np.abs(step).sum() > rank:
            continue  # each neighbour once
        here = tuple(slice(max(0, -by), min(0, -by) or None) for by in step)
        there = tuple(slice(max(0, by), min(0, by) or None) for by in step)
        meets = np.nonzero((basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0))
        pairs.append(np.stack([basins[here][meets], basins[there][meets]], axis=1).astype(np.int64))
        heights.append(np.minimum(distance[here][meets], distance[there][meets]))
    found, pair_of = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0, return_inverse=True)
    highest = np.zeros(len(found), np.float32)
    np.maximum.at(highest, pair_of, np.concatenate(heights))
    return found, highest


def _merge_basins(
    summits: NDArray[np.float32], pairs: NDArray[np.int64], passes: NDArray[np.float32], neck_nm: float
) -> tuple[NDArray[np.int32], int]:
    """Join basins whose lower summit is less than `neck_nm` above the pass between them, highest passes first.

    Returns the part of each basin, shape (n_basins + 1,), and the number of parts.
    """
    parent = list(range(len(summits)))

    def find(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = parent[parent[basin]]
            basin = parent[basin]
        return basin

    for index in np.argsort(-passes, kind="stable"):
        low, high = sorted((find(basin) for basin in pairs[index].tolist()), key=lambda basin: float(summits[basin]))
        if summits[low] - passes[index] < neck_nm:
            parent[low] = high  # the root of a part is its highest summit
    roots = np.array([find(basin) for basin in range(len(summits))])
    _, part_of = np.unique(roots, return_inverse=True)  # basin 0 is the background, its own root, and stays 0
    return part_of.astype(np.int32), int(part_of.max())


def _order_by_first_voxel(labels: Labels, n_objects: int) -> Labels:
    """Renumber objects, in place, by their first voxel along z, then y, then x."""
    first = np.zeros(n_objects + 1, np.int64)
    for z in range(len(labels) - 1, -1, -1):  # backwards: what is written last is the first voxel
        plane = labels[z].ravel()
        where = np.flatnonzero(plane)[::-1]
        first[plane[where]] = where + z * plane.size
    new = np.zeros(n_objects + 1, labels.dtype)
    new[1 + np.argsort(first[1:], kind="stable")] = np.arange(1, n_objects + 1)
    return _renumber(labels, new)


def _renumber(labels: Labels, new: NDArray) -> Labels:
    """Replace each label by its new one, in place, a slice at a time."""
    for plane in labels:
        plane[...] = new[plane]
    return labels
