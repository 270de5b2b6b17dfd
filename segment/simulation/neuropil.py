"""Where things are in simulated neuropil: cells as tubes around random curves that share all the space between them.

Everything is smooth on a lattice of nodes that are farther apart than voxels; cubic B-splines carry it to the voxels,
so that a volume costs little more than the arithmetic on its voxels, whatever their size. Lengths are in nm; position
(0, 0, 0) is the middle of the first voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Box = tuple[slice, slice, slice]
Points = NDArray[np.float64]  # (n, 3), nm, (z, y, x)

# Lengths without a source are our choice: to look like the EPFL training volume.
DENDRITE_RADIUS_NM = (140.0, 260.0)  # calibre that a tube has at least
DENDRITE_SHARE = 0.4  # of the space, before axons fill the rest
AXON_RADIUS_NM = (40.0, 110.0)
WOBBLE_NM = 25.0  # SD of the unevenness of a cell's surface
STEP_NM = 40.0  # between the points of a curve
EXACT_NM = 40.0  # distances from cell membranes are right up to this; where they are larger, they are at least this

_NODE_NM = 40.0  # a shape is smoothed with an SD of 0.58 of this
_PAD_NM = 320.0  # shapes are made so far beyond the volume, so that its faces look like its middle
_REACH_NM = 250.0  # a cell is thought of no farther than this from its tube
_MARGIN_NM = 20.0  # left free between tubes
_LONGEST_STEPS = 75  # of half a curve
_SHORTEST_POINTS = 4  # of a curve; a hole that holds no longer one goes to the cells around it
_BENDS = np.array([[0.15], [0.2], [0.3], [0.3], [0.5], [0.5], [0.8], [0.8]])  # around an obstacle, if need be
_TRIES = 60  # in a row, of fitting one more tube in


class Lattice:
    """Nodes around and within a volume, and the way from them to its voxels.

    Parameters
    ----------
    shape : tuple of int
        Voxels along z, y and x.
    voxel_nm : tuple of float
        Edges of a voxel in nm, (z, y, x).
    """

    def __init__(self, shape: tuple[int, int, int], voxel_nm: tuple[float, float, float]) -> None:
        self.shape = shape
        self.voxel_nm = voxel_nm
        self.extent_nm = np.multiply(shape, voxel_nm)
        self._splines = [
            _make_spline(n, edge / _NODE_NM, _PAD_NM / _NODE_NM) for n, edge in zip(shape, voxel_nm, strict=True)
        ]
        self.nodes = tuple(int(spline.first[-1]) + 4 + math.ceil(_PAD_NM / _NODE_NM) for spline in self._splines)

    def box(self, low_nm: NDArray[np.float64], high_nm: NDArray[np.float64]) -> Box:
        """Return the nodes of a box, cut at the border of the lattice."""
        first = np.clip(np.floor(self._to_nodes(low_nm)), 0, self.nodes).astype(int)
        last = np.clip(np.ceil(self._to_nodes(high_nm)) + 1, 0, self.nodes).astype(int)
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])

    def positions(self, box: Box) -> Points:
        """Return the positions of the nodes of a box, shape (n, 3)."""
        axes = [(np.arange(part.start, part.stop) - 1.0) * _NODE_NM - _PAD_NM for part in box]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def nearest(self, points: Points) -> tuple[NDArray[np.intp], ...]:
        """Return the indices of the nodes nearest to points; a point outside gets the border's."""
        nodes = np.rint(self._to_nodes(points)).astype(np.intp)
        return tuple(np.clip(nodes[..., axis], 0, self.nodes[axis] - 1) for axis in range(3))

    def holds(self, points: Points) -> NDArray[np.bool_]:
        """Whether points are inside the lattice."""
        return np.all((points >= -_PAD_NM) & (points < self.extent_nm + _PAD_NM), axis=-1)

    def to_voxels(self, values: NDArray[np.float32], box: Box) -> tuple[NDArray[np.float32], Box]:
        """Interpolate the values at the nodes of a box.

        Parameters
        ----------
        values : ndarray, shape of the box, float32
            Values at the nodes, taken as the coefficients of cubic B-splines.
        box : tuple of slice
            The nodes.

        Returns
        -------
        voxels : ndarray, float32
            Values at all voxels that these nodes determine.
        where : tuple of slice
            These voxels; slices may be empty.
        """
        where, parts = [], []
        for spline, part in zip(self._splines, box, strict=True):
            start, stop = np.searchsorted(spline.first, (part.start, part.stop - 3)).tolist()
            where.append(slice(start, max(start, stop)))
            parts.append(_Spline(spline.first[where[-1]] - part.start, spline.weights[where[-1]]))
        return _interpolate(values, parts), (where[0], where[1], where[2])

    def _to_nodes(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points + _PAD_NM) / _NODE_NM + 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Spline:
    """Cubic B-splines along one axis: for each voxel the first of its four nodes, (n,), and their weights, (n, 4)."""

    first: NDArray[np.intp]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """The curve in the middle of a cell.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Along the curve, `STEP_NM` apart.
    radii : ndarray, shape (n,)
        Of the tube around each.
    """

    points: Points
    radii: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Space, divided between cells.

    Parameters
    ----------
    lattice : Lattice
        Where.
    tubes : list of Tube
        One a cell.
    labels : ndarray, shape (z, y, x), int32
        The cell that a voxel belongs to, as an index of `tubes`.
    distance : ndarray, shape (z, y, x), float32
        Distance of a voxel from the nearest other cell's border, nm.
    node_labels, node_distance : ndarray, shape of the lattice
        The same at the nodes.
    """

    lattice: Lattice
    tubes: list[Tube]
    labels: NDArray[np.int32]
    distance: NDArray[np.float32]
    node_labels: NDArray[np.int32]
    node_distance: NDArray[np.float32]


def grow_cells(rng: np.random.Generator, lattice: Lattice) -> Cells:
    """Fill space with dendrites and axons, without gaps.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    lattice : Lattice
        The space.

    Returns
    -------
    Cells

    Notes
    -----
    A cell is where the distance from its tube's surface is smaller than that from any other's (an additively weighted
    Voronoi diagram of curves), plus a wobble.
    """
    tubes: list[Tube] = []
    fields: list[tuple[NDArray[np.float32], Box]] = []
    tract = 1.2 * _unit(rng.standard_normal(3))  # most neurites run more or less along it
    border = np.full(lattice.nodes, np.float32(1e4))  # distance from the nearest tube's surface
    positions = lattice.positions((slice(0, lattice.nodes[0]), slice(0, lattice.nodes[1]), slice(0, lattice.nodes[2])))

    def grow(start: Points, radius: float, steps: int, bulge: float) -> bool:
        """Add a tube, if there is room for a curve of some length."""

        def is_free(points: Points) -> NDArray[np.bool_]:
            return lattice.holds(points) & (border[lattice.nearest(points)] > radius + _MARGIN_NM)

        points = _grow_curve(rng, start, tract, is_free, steps)
        if len(points) < _SHORTEST_POINTS:
            return False
        waves = np.cumsum(rng.uniform(0.2, 0.6, len(points))) + rng.uniform(0.0, 2.0 * np.pi)
        tube = Tube(points, radius * (1.0 + bulge * np.sin(waves)))
        field, box = make_field(rng, lattice, tube, reach_nm=_REACH_NM, wobble_nm=WOBBLE_NM)
        np.minimum(border[box], field, out=border[box])
        tubes.append(tube)
        fields.append((field, box))
        return True

    # The first one starts within the volume: a small volume has a cell that is large enough for a mitochondrion.
    grow(rng.uniform(0.0, lattice.extent_nm), rng.uniform(*DENDRITE_RADIUS_NM), _LONGEST_STEPS, 0.12)
    for radii, steps, bulge, share in (
        (DENDRITE_RADIUS_NM, _LONGEST_STEPS, 0.12, DENDRITE_SHARE),
        (AXON_RADIUS_NM, _LONGEST_STEPS // 2, 0.25, 1.0),
    ):
        failures = 0
        while failures < _TRIES and np.mean(border < _MARGIN_NM) < share:
            radius = rng.uniform(*radii)
            free = np.flatnonzero(border > radius + _MARGIN_NM)
            grown = bool(free.size) and grow(positions[rng.choice(free)], radius, steps, bulge)
            failures = 0 if grown else failures + 1
    labels, distance, node_labels, node_distance = _divide(lattice, fields, border)
    return Cells(lattice, tubes, labels, distance, node_labels, node_distance)


def make_field(
    rng: np.random.Generator, lattice: Lattice, tube: Tube, *, reach_nm: float, wobble_nm: float
) -> tuple[NDArray[np.float32], Box]:
    """Return the distance from a tube's surface at the nodes around it, negative inside.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the wobble.
    lattice : Lattice
        Where.
    tube : Tube
        The points and the radius around each.
    reach_nm : float
        How far around the tube to go; distances end there.
    wobble_nm : float
        SD of a smooth random change.

    Returns
    -------
    field : ndarray, shape of the box, float32
    box : tuple of slice
    """
    around = tube.radii.max() + reach_nm
    box = lattice.box(tube.points.min(axis=0) - around, tube.points.max(axis=0) + around)
    distance, index = cKDTree(tube.points).query(lattice.positions(box))
    field = (distance - tube.radii[index]).reshape([part.stop - part.start for part in box])
    rough = ndimage.gaussian_filter(rng.standard_normal(field.shape), 1.2, mode="wrap")
    field += wobble_nm * rough * (2.0 * math.sqrt(math.pi) * 1.2) ** 1.5  # the filter leaves 1 over this of the SD
    return np.minimum(field, reach_nm).astype(np.float32), box


def make_noise(
    rng: np.random.Generator, shape: Sequence[int], voxel_nm: Sequence[float], grain_nm: float
) -> NDArray[np.float32]:
    """Return smooth Gaussian noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    shape : sequence of int
        Voxels along z, y and x.
    voxel_nm : sequence of float
        Edges of a voxel in nm.
    grain_nm : float
        Distance between independent values in nm, or the voxel's edge where that is larger.

    Returns
    -------
    ndarray, shape (z, y, x), float32
        Mean 0, SD 1.
    """
    steps = [min(1.0, edge / grain_nm) for edge in voxel_nm]
    splines = [_make_spline(n, step, rng.uniform()) for n, step in zip(shape, steps, strict=True)]
    nodes = rng.standard_normal([int(spline.first[-1]) + 4 for spline in splines], dtype=np.float32)
    return _interpolate(nodes, splines) * np.float32(3.0)  # the splines leave a third of the SD


def _grow_curve(
    rng: np.random.Generator, start: Points, along: Points, is_free: Callable[[Points], NDArray[np.bool_]], steps: int
) -> Points:
    """Walk both ways from a point, bending a little at each step, as long as there is room."""
    heading = _unit(along + rng.standard_normal(3))
    halves = []
    for direction in (heading, -heading):
        half = [start]
        while len(half) <= steps:
            turned = _unit(direction + _BENDS * rng.standard_normal((len(_BENDS), 3)))
            ahead = half[-1] + STEP_NM * turned
            free = np.flatnonzero(is_free(ahead))
            if not free.size:
                break
            direction = turned[free[0]]
            half.append(ahead[free[0]])
        halves.append(half)
    return np.array(halves[1][:0:-1] + halves[0])


def _divide(
    lattice: Lattice, fields: list[tuple[NDArray[np.float32], Box]], border: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Give each voxel and each node to the nearest tube: labels, distances from the border."""
    results: list[NDArray] = []
    for shape, at_voxels in ((lattice.shape, True), (lattice.nodes, False)):
        nearest = np.full(shape, np.float32(_REACH_NM))
        second = nearest.copy()
        labels = np.zeros(shape, np.int32)
        for index, (field, box) in enumerate(fields):
            values, where = field, box
            if at_voxels:
                near = _shrink(field < border[box] + 2.0 * EXACT_NM, box)
                inner = tuple(slice(n.start - b.start, n.stop - b.start) for n, b in zip(near, box, strict=True))
                values, where = lattice.to_voxels(field[inner], near)
            first = nearest[where]
            np.minimum(second[where], np.maximum(first, values), out=second[where])
            labels[where][values < first] = index
            np.minimum(first, values, out=first)
        second -= nearest
        second *= 0.5
        results += [labels, second]
    return results[0], results[1], results[2], results[3]


def _shrink(relevant: NDArray[np.bool_], box: Box) -> Box:
    """Return the part of a box around what is relevant, with the nodes that its splines need."""
    parts = []
    for axis, part in enumerate(box):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(relevant.any(axis=others))
        if not found.size:
            return slice(box[0].start, box[0].start), box[1], box[2]
        parts.append(slice(part.start + max(found[0] - 2, 0), min(part.start + found[-1] + 3, part.stop)))
    return parts[0], parts[1], parts[2]


def _make_spline(n: int, step: float, offset: float) -> _Spline:
    """Return the spline from nodes to n voxels that are `step` nodes apart, the first of them at node 1 + `offset`."""
    at = np.arange(n) * step + offset
    first = np.floor(at).astype(np.intp)
    t = at - first
    cubic = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    return _Spline(first, cubic.astype(np.float32))


def _interpolate(values: NDArray[np.float32], splines: Sequence[_Spline]) -> NDArray[np.float32]:
    """Go from nodes to voxels, along x first, where there are few values, and along z last, where whole slices add up.

    Not as a product of matrices, whose threads would compete with others for a busy machine.
    """
    for axis in (2, 1, 0):
        spline = splines[axis]
        column = [-1 if other == axis else 1 for other in range(3)]
        total = np.take(values, spline.first, axis) * spline.weights[:, 0].reshape(column)
        for node in (1, 2, 3):
            part = np.take(values, spline.first + node, axis)
            part *= spline.weights[:, node].reshape(column)
            total += part
        values = total
    return values


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
