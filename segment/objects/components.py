"""Connected components of a volume out of those of its blocks.

A block is labelled together with the first voxels of the blocks after it, along each axis. So two voxels that touch, be
it by a corner, are seen together in some block, and what is left is to find that two labels are of the same voxel: on
the layer that a block shares with the next along an axis. Blocks that meet at an edge or a corner only need nothing
more, as they share voxels with a block between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segment.objects.blocks import Grid, Shape
from segment.objects.instances import Connectivity, Labels, connect_voxels
from segment.objects.runs import NOWHERE, Integers, bound_runs, find_runs, join_boxes

Face = tuple[int, bool]  # the axis, and whether it is the upper one


@dataclass(frozen=True)
class BlockObjects:
    """What is known about the components of one block.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n,)
        Voxels in the block; 0 where a component lies wholly in what the block shares with those after it.
    firsts : ndarray of int64, shape (n,)
        Which voxel of the volume is the first of it in the block, in C order.
    boxes : ndarray of int64, shape (n, 6)
        Of its voxels in the block: starts along z, y, x, then stops.
    faces : dict
        Of each layer shared with another block: the label, 0 to n - 1, of each component of the layer, in an order that
        both blocks find.
    """

    sizes: Integers
    firsts: Integers
    boxes: Integers
    faces: dict[Face, NDArray[np.uint32]] = field(default_factory=dict)


def label_box(
    mask: NDArray[np.bool_], grid: Grid, index: int, connectivity: Connectivity
) -> tuple[Labels, BlockObjects]:
    """Label one block.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        ``grid.box(index, above=1)`` of the volume.
    grid : Grid
    index : int
        Of the block.
    connectivity : {6, 18, 26}

    Returns
    -------
    labels : ndarray of uint32, shape of the block
        From 1; 0 is background.
    objects : BlockObjects
    """
    labels, n = connect_voxels(mask, connectivity)
    faces: dict[Face, NDArray[np.uint32]] = {}
    for axis, at in enumerate(grid.where(index)):
        if at > 0:
            faces[axis, False] = _label_layer(np.moveaxis(labels, axis, 0)[0])
        if grid.after(index, axis) is not None:
            faces[axis, True] = _label_layer(np.moveaxis(labels, axis, 0)[-1])
    box = grid.box(index)
    origin = [part.start for part in box]
    labels = np.ascontiguousarray(labels[tuple(slice(0, part.stop - part.start) for part in box)])
    return labels, BlockObjects(*locate_objects(labels, n, grid.shape, origin), faces)


def locate_objects(
    labels: Labels, n_objects: int, shape: Shape, origin: list[int]
) -> tuple[Integers, Integers, Integers]:
    """Return size, first voxel and bounding box of each label, as in `BlockObjects`.

    Parameters
    ----------
    labels : ndarray, shape (z, y, x)
        0 to `n_objects`.
    n_objects : int
    shape : tuple of int
        Of the volume that they lie in.
    origin : list of int
        Where in it.
    """
    runs = find_runs(labels)
    rows = runs.values.astype(np.int64) - 1
    sizes = np.bincount(rows, runs.lengths, minlength=n_objects).astype(np.int64)
    z, y, x = (part + start for part, start in zip(runs[1:4], origin, strict=True))
    firsts = np.full(n_objects, NOWHERE)
    firsts[rows[::-1]] = ((z * shape[1] + y) * shape[2] + x)[::-1]  # backwards: what is written last is the first voxel
    return sizes, firsts, bound_runs(runs, rows, n_objects, origin)


@dataclass(frozen=True)
class VolumeObjects:
    """The components of a volume.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_blocks + 1,)
        Component ``i`` of block ``b``, counted from 0, is row ``offsets[b] + i`` of those that follow.
    roots : ndarray of int64, shape (n_rows,)
        The row that stands for the whole component.
    sizes, firsts, boxes : ndarray of int64
        As in `BlockObjects`, of the whole component, at its root.
    n_faces : int
        How many layers were looked at.
    """

    offsets: Integers
    roots: Integers
    sizes: Integers
    firsts: Integers
    boxes: Integers
    n_faces: int

    def number(self, min_voxels: int) -> tuple[Integers, Integers]:
        """Give the components of the volume numbers by their first voxels, small ones left out.

        Returns
        -------
        numbers : ndarray of int64, shape (n_rows,)
            Of each block's components; 0 is left out.
        chosen : ndarray of int64, shape (n_objects,)
            The root of number 1, 2 and so on.
        """
        (chosen,) = np.nonzero((self.roots == np.arange(len(self.roots))) & (self.sizes >= min_voxels))
        chosen = chosen[np.argsort(self.firsts[chosen])]
        numbers = np.zeros(len(self.roots), np.int64)
        numbers[chosen] = np.arange(1, len(chosen) + 1)
        return numbers[self.roots], chosen


def merge_blocks(grid: Grid, n_objects: Integers, read: Callable[[int], BlockObjects]) -> VolumeObjects:
    """Join the components of blocks over the layers that they share.

    Parameters
    ----------
    grid : Grid
    n_objects : ndarray of int64, shape (n_blocks,)
        How many components each block has.
    read : callable
        ``read(index)`` returns what is known of a block that has any.

    Notes
    -----
    Holds about 100 bytes for each component of a block, and the layers of the blocks of one row of the grid.
    """
    offsets = np.concatenate([[0], np.cumsum(n_objects)])
    n_rows = int(offsets[-1])
    sizes, firsts, boxes = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty((n_rows, 6), np.int64)
    pairs, n_faces = [np.zeros((0, 2), np.int64)], 0

    def blocks() -> Iterator[tuple[int, BlockObjects]]:
        for index in np.flatnonzero(n_objects).tolist():
            objects = read(index)
            rows = slice(*offsets[index : index + 2])
            sizes[rows], firsts[rows], boxes[rows] = objects.sizes, objects.firsts, objects.boxes
            yield index, objects

    for found in _pairs_of_blocks(grid, offsets, blocks()):
        pairs.append(found)
        n_faces += 1
    roots = _join(n_rows, np.concatenate(pairs))
    (joined,) = np.nonzero(roots != np.arange(n_rows))
    to = roots[joined]
    np.add.at(sizes, to, sizes[joined])
    np.minimum.at(firsts, to, firsts[joined])
    join_boxes(boxes, to, boxes[joined])
    return VolumeObjects(offsets, roots, sizes, firsts, boxes, n_faces)


def _pairs_of_blocks(grid: Grid, offsets: Integers, blocks: Iterator[tuple[int, BlockObjects]]) -> Iterator[Integers]:
    """Yield, for each layer that two blocks share, the pairs of rows that are one component, each pair once."""
    waiting: dict[tuple[int, int], Integers] = {}  # layers, by the block that must have the same and its axis
    for index, objects in blocks:
        for (axis, is_upper), labels in objects.faces.items():
            rows = labels + offsets[index]
            after = grid.after(index, axis)
            if is_upper and after is not None:
                waiting[after, axis] = rows
            elif (index, axis) in waiting:
                yield np.unique(np.stack([waiting.pop((index, axis)), rows], axis=1), axis=0)


def _join(n_rows: int, pairs: Integers) -> Integers:
    """Return the lowest of the rows that pairs join each row with."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    roots = np.arange(n_rows)
    touched, ends = np.unique(pairs, return_inverse=True)
    first, second = ends.reshape(pairs.shape).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(touched),) * 2)
    _, component = connected_components(graph, directed=False)
    _, lowest = np.unique(component, return_index=True)
    roots[touched] = touched[lowest[component]]
    return roots


def _label_layer(labels: Labels) -> NDArray[np.uint32]:
    """Return the label, counted from 0, of each component of a layer; the order depends on its foreground alone."""
    import cc3d

    # Neighbours by an edge in the layer share a face: they have the same label whichever the connectivity.
    numbers, n = cc3d.connected_components(
        np.ascontiguousarray(labels > 0).view(np.uint8), connectivity=4, out_dtype=np.uint32, return_N=True
    )
    found = np.zeros(n + 1, np.uint32)
    found[numbers.ravel()] = labels.ravel()
    return found[1:] - np.uint32(1)
