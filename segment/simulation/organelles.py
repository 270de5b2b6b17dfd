"""What is in simulated cells, where it fits and how it is painted: mitochondria, and what must not be taken for them.

So that dark does not yet mean mitochondrion there are cells with dark cytoplasm, dense bodies, postsynaptic densities,
vesicles and endoplasmic reticulum. Lengths are in nm; a size without a source is our choice, to look like the EPFL
training volume (Lucchi, Li, Fua, CVPR 2013), and so are the grey levels: those before shading, blur and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from segment.simulation.neuropil import STEP_NM, Box, Cells, Lattice, Points, Tube, make_field, make_noise

Voxel = tuple[int, int, int]

SHEET_NM = (6.5, 5.0)  # from the middle of the cleft to the middle of a membrane, and the SD of its darkness
MITOCHONDRION_RADIUS_NM = (85.0, 210.0)
MITOCHONDRION_LENGTH_NM = (250.0, 1600.0)
TUBULAR_SHARE = 0.6  # of the mitochondria; the others are ellipsoids
MITOCHONDRIA_SHARE = (0.065, 0.095)  # of all voxels; 0.056 or 0.070 in the EPFL volume, depending on the annotation
KEPT_SHARE = 0.85  # of a mitochondrion's shape: one that is squeezed more is drawn again
SPECK_NM3 = 1e6  # no less of a mitochondrion at the border of the volume
ENVELOPE_NM = ((4.0, 3.5), (16.0, 4.0))  # depth of the outer and of the inner membrane, and the SD of their darkness
CRISTA_SPACING_NM = (30.0, 45.0)
DENSITY_RADIUS_NM = (110.0, 220.0)  # textbooks: postsynaptic densities are 250 to 500 across and 25 to 50 thick
DENSITY_DEPTH_NM = 35.0
SYNAPSES_PER_UM3 = 5.0  # more than in cortex, so that a small volume has some
VESICLE_RADIUS_NM = 20.0  # Takamori et al. 2006, doi:10.1016/j.cell.2006.10.030
VESICLE_RIM_NM = (4.0, 5.0)  # depth of its darkest part, and the SD of the darkness
VESICLES_TRIED = 700  # a synapse; those without room are left out
CLOUD_NM = 140.0  # SD of the vesicles' distance from the synapse, along each axis
DENSE_BODIES_PER_UM3 = 5.0  # lysosomes and the like
DENSE_BODY_RADIUS_NM = (45.0, 110.0)
TUBULES_PER_UM3 = 60.0  # pieces of endoplasmic reticulum
TUBULE_RADIUS_NM = (16.0, 32.0)
TUBULE_LENGTH_NM = (40.0, 350.0)
GAP_NM = 16.0  # between an organelle and the middle of a cleft or another organelle

# Grey levels: one value, a mean and an SD between cells or organelles, or a range.
CYTOPLASM = (163.0, 9.0)
DARK_CYTOPLASM = (133.0, 8.0)
DARK_SHARE = 0.1  # of the cells
MEMBRANE = 84.0
MATRIX = (119.0, 5.0)
CRISTA = 92.0
DENSE_BODY = (86.0, 116.0)
DENSITY = 74.0
VESICLE = 90.0
TEXTURE = ((9.0, 18.0), (6.0, 60.0))  # SD in grey levels and grain in nm


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is painted so far, and where there is room.

    Parameters
    ----------
    cells : Cells
        Which cell a voxel belongs to.
    levels : ndarray, shape (n_cells,), float32
        Grey level of each cell's cytoplasm.
    texture, image : ndarray, shape (z, y, x), float32
        The mottle of everything, and the grey levels; changed as things are painted.
    room : ndarray, shape (z, y, x), float32
        Distance in nm from the cell's border and from the organelles in it, negative inside these; changed likewise.
    """

    cells: Cells
    levels: NDArray[np.float32]
    texture: NDArray[np.float32]
    image: NDArray[np.float32]
    room: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """An organelle's place.

    Parameters
    ----------
    cell : int
        The cell that it is in.
    where : tuple of slice
        Voxels around it.
    depth : ndarray, shape of these voxels, float32
        Depth below its surface in nm, negative outside.
    n_voxels : int
        How many are inside.
    kept : float
        Their share of those that its shape would have, were there room in the cell.
    """

    cell: int
    where: Box
    depth: NDArray[np.float32]
    n_voxels: int
    kept: float


def paint_cells(rng: np.random.Generator, cells: Cells) -> Scene:
    """Paint cytoplasm and cell membranes."""
    lattice = cells.lattice
    dark = rng.random(len(cells.tubes)) < DARK_SHARE
    levels = np.where(dark, rng.normal(*DARK_CYTOPLASM, dark.size), rng.normal(*CYTOPLASM, dark.size))
    texture = np.zeros(lattice.shape, dtype=np.float32)
    for sd, grain_nm in TEXTURE:
        texture += np.float32(sd) * make_noise(rng, lattice.shape, lattice.voxel_nm, grain_nm)
    image = levels.astype(np.float32)[cells.labels]
    image += texture
    _darken(image, _bell(cells.distance, *SHEET_NM), MEMBRANE)
    return Scene(cells, levels.astype(np.float32), texture, image, cells.distance.copy())


def place_densities(rng: np.random.Generator, scene: Scene) -> list[tuple[int, Points]]:
    """Paint postsynaptic densities on cell membranes.

    Returns
    -------
    list of tuple
        For each, the cell across the membrane, where vesicles belong, and the position of the middle.
    """
    lattice, labels = scene.cells.lattice, scene.cells.labels
    boutons: list[tuple[int, Points]] = []
    wanted = _count(rng, lattice, SYNAPSES_PER_UM3)
    for post in _draw_voxels(rng, lattice, 3000 * wanted):
        if len(boutons) == wanted:
            break
        if scene.room[post] > SHEET_NM[0]:
            continue
        center = np.multiply(post, lattice.voxel_nm)
        inside, owners, rooms = _look_up(scene, center + rng.normal(0.0, 60.0, (64, 3)))
        others = owners[inside & (owners != labels[post]) & (rooms > VESICLE_RADIUS_NM)]
        if others.size < 16:  # nothing across that could hold vesicles
            continue
        radius = rng.uniform(*DENSITY_RADIUS_NM)
        where = _box(lattice, center - radius, center + radius)
        weight = np.clip((radius - _distance(lattice, where, center, center)) / 30.0, 0.0, 1.0)
        weight *= np.clip((DENSITY_DEPTH_NM - scene.room[where]) / 12.0, 0.0, 1.0)
        weight[labels[where] != labels[post]] *= 0.3  # the other side is a little dark too
        _darken(scene.image[where], weight, DENSITY)
        boutons.append((int(np.bincount(others).argmax()), center))
    return boutons


def place_mitochondria(rng: np.random.Generator, scene: Scene) -> NDArray[np.bool_]:
    """Put mitochondria into cells until `MITOCHONDRIA_SHARE` of the volume is reached.

    Returns
    -------
    ndarray, shape (z, y, x), bool
        True in mitochondria; never empty.
    """
    lattice = scene.cells.lattice
    mitochondria = np.zeros(lattice.shape, dtype=bool)
    least, most = (share * mitochondria.size for share in MITOCHONDRIA_SHARE)
    speck = min(least / 4, SPECK_NM3 / float(np.prod(lattice.voxel_nm)))
    total = 0
    spare: Body | None = None  # of those that do not fit, the one that comes nearest to the share
    sites = _find_sites(scene.cells)
    for _ in range(60 + math.ceil(150 * _volume_um3(lattice))):
        cell, site = sites[rng.integers(len(sites))]
        tube = _draw_mitochondrion(rng, scene.cells, cell, site)
        if total > 0 and total + 0.8 * _expect(lattice, tube) > most:
            continue
        body = _fit_mitochondrion(rng, scene, tube, cell)
        if body.n_voxels == 0:
            continue
        if total + body.n_voxels > most or body.n_voxels < speck or body.kept < KEPT_SHARE:
            if spare is None or abs(body.n_voxels - most) < abs(spare.n_voxels - most):
                spare = body
            continue
        _paint_mitochondrion(rng, scene, body)
        mitochondria[body.where] |= body.depth > 0
        total += body.n_voxels
        if total >= least:
            break
    if spare is not None and total < least / 2:  # a volume that is small against a mitochondrion
        body = _keep_in_room(scene, spare.where, spare.depth, spare.cell)
        if total == 0 or total + body.n_voxels < 2 * most:
            _paint_mitochondrion(rng, scene, body)
            mitochondria[body.where] |= body.depth > 0
    return mitochondria


def place_dense_bodies(rng: np.random.Generator, scene: Scene) -> None:
    """Put lysosomes and other dark bodies with a single membrane into cells."""
    lattice = scene.cells.lattice
    wanted = _count(rng, lattice, DENSE_BODIES_PER_UM3)
    for voxel in _draw_voxels(rng, lattice, 60 * wanted):
        radius = min(rng.uniform(*DENSE_BODY_RADIUS_NM), float(scene.room[voxel]) - GAP_NM)
        if radius < 0.7 * DENSE_BODY_RADIUS_NM[0]:
            continue
        body = _fit_capsule(rng, scene, voxel, radius, rng.uniform(0.0, 1.2) * radius)
        inside = body.depth > 0
        grey = rng.uniform(*DENSE_BODY) + 1.6 * scene.texture[body.where][inside]
        _darken(grey, _bell(body.depth[inside], 5.0, 5.0), MEMBRANE)
        scene.image[body.where][inside] = grey
        _take_room(scene, body)
        wanted -= 1
        if wanted == 0:
            break


def place_tubules(rng: np.random.Generator, scene: Scene) -> None:
    """Put pieces of endoplasmic reticulum, dark around and bright within, into cells."""
    lattice = scene.cells.lattice
    wanted = _count(rng, lattice, TUBULES_PER_UM3)
    for voxel in _draw_voxels(rng, lattice, 20 * wanted):
        radius = rng.uniform(*TUBULE_RADIUS_NM)
        if scene.room[voxel] < radius + 10.0:
            continue
        body = _fit_capsule(rng, scene, voxel, radius, rng.uniform(*TUBULE_LENGTH_NM))
        _darken(scene.image[body.where], 0.8 * _bell(body.depth, 4.0, 4.5), MEMBRANE)
        _take_room(scene, body)
        wanted -= 1
        if wanted == 0:
            break


def place_vesicles(rng: np.random.Generator, scene: Scene, boutons: list[tuple[int, Points]]) -> None:
    """Put vesicles, small spheres with a dark rim, near synapses."""
    lattice = scene.cells.lattice
    reach = VESICLE_RADIUS_NM + 8.0
    half = np.ceil(np.divide(reach, lattice.voxel_nm)).astype(int)
    around = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), axis=-1).reshape(-1, 3)
    for cell, center in boutons:
        points = center + rng.normal(0.0, CLOUD_NM, (VESICLES_TRIED, 3))
        inside, owners, rooms = _look_up(scene, points)
        points = points[inside & (owners == cell) & (rooms > VESICLE_RADIUS_NM + 6.0)]
        if not len(points):
            continue
        crowded = cKDTree(points).query_pairs(1.9 * VESICLE_RADIUS_NM, output_type="ndarray")
        points = np.delete(points, np.unique(crowded[:, 1]), axis=0)
        voxels = np.rint(points / lattice.voxel_nm).astype(int)[:, None] + around
        distance = np.linalg.norm(voxels * lattice.voxel_nm - points[:, None], axis=-1).astype(np.float32)
        used = (distance < reach) & np.all((voxels >= 0) & (voxels < lattice.shape), axis=-1)
        depth, sd = VESICLE_RIM_NM
        weight = _bell(distance[used], VESICLE_RADIUS_NM - depth, sd)
        grey = scene.levels[cell] + weight * (np.float32(VESICLE) - scene.levels[cell])
        index = np.ravel_multi_index(tuple(voxels[used].T), lattice.shape)
        np.minimum.at(scene.image.reshape(-1), index, grey)


def _find_sites(cells: Cells) -> list[tuple[int, int]]:
    """Return the cells, and the points of their curves, that have room for a mitochondrion in the volume."""
    sites: list[tuple[int, int]] = []
    rooms: list[float] = []
    for cell, tube in enumerate(cells.tubes):
        nodes = cells.lattice.nearest(tube.points)
        near = np.all((tube.points > -150.0) & (tube.points < cells.lattice.extent_nm + 150.0), axis=1)
        found = np.flatnonzero(near & (cells.node_labels[nodes] == cell))
        sites += [(cell, int(site)) for site in found]
        rooms += cells.node_distance[nodes][found].tolist()
    enough = min(MITOCHONDRION_RADIUS_NM[0] + GAP_NM, max(rooms))  # where all cells are thin, the thickest has to do
    return [site for site, room in zip(sites, rooms, strict=True) if room >= enough]


def _draw_mitochondrion(rng: np.random.Generator, cells: Cells, cell: int, site: int) -> Tube:
    """Draw a mitochondrion that follows its cell, not always in the middle."""
    points = cells.tubes[cell].points
    rooms = cells.node_distance[cells.lattice.nearest(points)]
    thickest = float(rooms[site]) - GAP_NM
    radius = min(rng.uniform(*MITOCHONDRION_RADIUS_NM), thickest)
    tubular = rng.random() < TUBULAR_SHARE
    half = rng.uniform(*MITOCHONDRION_LENGTH_NM) / 2.0 if tubular else radius * rng.uniform(1.0, 1.8)
    steps = max(int((half - radius) / STEP_NM), 0)
    narrow = np.flatnonzero(rooms < 0.7 * radius)
    first = max(site - steps, narrow[narrow < site].max(initial=-1) + 1)
    last = min(site + steps, narrow[narrow > site].min(initial=len(points)) - 1)
    along = np.arange(first, last + 1)
    taper = 1.0 - rng.uniform(0.1, 0.35) * ((along - site) / (steps + 1)) ** 2
    direction = rng.standard_normal(3)
    aside = direction / np.linalg.norm(direction) * rng.uniform(0.0, thickest - radius + 10.0)
    return Tube(points[along] + aside, radius * taper)


def _expect(lattice: Lattice, tube: Tube) -> float:
    """Return roughly how many voxels of the volume a tube takes."""
    around = tube.radii[:, None]
    seen = np.all((tube.points > -around) & (tube.points < lattice.extent_nm + around), axis=1)
    return float(np.pi * STEP_NM * np.sum(tube.radii[seen] ** 2) / np.prod(lattice.voxel_nm))


def _fit_mitochondrion(rng: np.random.Generator, scene: Scene, tube: Tube, cell: int) -> Body:
    field, box = make_field(rng, scene.cells.lattice, tube, reach_nm=120.0, wobble_nm=10.0)
    outside, where = scene.cells.lattice.to_voxels(field, box)
    return _keep_in_room(scene, where, -outside, cell)


def _fit_capsule(rng: np.random.Generator, scene: Scene, voxel: Voxel, radius: float, length: float) -> Body:
    """Return the place of a straight capsule that starts at a voxel, in a random direction."""
    lattice = scene.cells.lattice
    start = np.multiply(voxel, lattice.voxel_nm)
    direction = rng.standard_normal(3)
    end = start + length * direction / np.linalg.norm(direction)
    around = radius + GAP_NM
    where = _box(lattice, np.minimum(start, end) - around, np.maximum(start, end) + around)
    depth = np.float32(radius) - _distance(lattice, where, start, end)
    return _keep_in_room(scene, where, depth, int(scene.cells.labels[voxel]))


def _keep_in_room(scene: Scene, where: Box, depth: NDArray[np.float32], cell: int) -> Body:
    """Cut a shape back to where its cell has room, `GAP_NM` from what is there."""
    wanted = int(np.count_nonzero(depth > 0))
    depth = np.minimum(depth, scene.room[where] - np.float32(GAP_NM))
    depth[scene.cells.labels[where] != cell] = -np.inf
    n_voxels = int(np.count_nonzero(depth > 0))
    return Body(cell, where, depth, n_voxels, n_voxels / max(wanted, 1))


def _take_room(scene: Scene, body: Body) -> None:
    np.minimum(scene.room[body.where], -body.depth, out=scene.room[body.where])  # +inf in other cells


def _paint_mitochondrion(rng: np.random.Generator, scene: Scene, body: Body) -> None:
    """Paint the matrix, cristae across it in parts, and the two membranes around it."""
    lattice = scene.cells.lattice
    inside = np.nonzero(body.depth > 0)
    depth = body.depth[inside]
    direction = rng.standard_normal(3)
    edges = np.multiply(lattice.voxel_nm, direction / np.linalg.norm(direction)).astype(np.float32)
    across = edges[0] * inside[0] + edges[1] * inside[1] + edges[2] * inside[2]
    bend, patches = (make_noise(rng, body.depth.shape, lattice.voxel_nm, grain)[inside] for grain in (110.0, 140.0))
    phase = 2.0 * np.pi / rng.uniform(*CRISTA_SPACING_NM) * across + 1.8 * bend
    cristae = np.clip(0.35 + np.cos(phase), 0.0, 1.0) * np.clip(0.9 + patches, 0.0, 1.0)
    cristae *= np.clip((depth - 20.0) / 10.0, 0.0, 1.0)  # within the inner membrane
    grey = rng.normal(*MATRIX) + 0.7 * scene.texture[body.where][inside]
    _darken(grey, cristae, CRISTA)
    for middle, sd in ENVELOPE_NM:
        _darken(grey, _bell(depth, middle, sd), MEMBRANE)
    scene.image[body.where][inside] = grey
    _take_room(scene, body)


def _bell(values: NDArray[np.float32], middle: float, sd: float) -> NDArray[np.float32]:
    return np.exp(-0.5 * ((values - np.float32(middle)) / np.float32(sd)) ** 2)


def _darken(image: NDArray, weight: NDArray, level: float) -> None:
    """Move an image towards a grey level, in place."""
    image += weight * (np.float32(level) - image)


def _volume_um3(lattice: Lattice) -> float:
    return float(np.prod(lattice.extent_nm)) * 1e-9


def _count(rng: np.random.Generator, lattice: Lattice, per_um3: float) -> int:
    """Return how many there are in the volume: the number expected, rounded at random, and at least one."""
    return max(1, math.floor(per_um3 * _volume_um3(lattice) + rng.random()))


def _draw_voxels(rng: np.random.Generator, lattice: Lattice, n: int) -> list[Voxel]:
    return [(z, y, x) for z, y, x in rng.integers(0, lattice.shape, (n, 3)).tolist()]


def _box(lattice: Lattice, low_nm: Points, high_nm: Points) -> Box:
    """Return the voxels of a box, cut at the border of the volume."""
    first = np.clip(np.floor(low_nm / lattice.voxel_nm), 0, lattice.shape).astype(int)
    last = np.clip(np.ceil(high_nm / lattice.voxel_nm) + 1, 0, lattice.shape).astype(int)
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def _distance(lattice: Lattice, where: Box, start: Points, end: Points) -> NDArray[np.float32]:
    """Return the distance in nm of the voxels of a box from the straight line between two points."""
    axes = [np.arange(part.start, part.stop) * edge for part, edge in zip(where, lattice.voxel_nm, strict=True)]
    z, y, x = ((axis - at).astype(np.float32) for axis, at in zip(np.ix_(*axes), start, strict=True))
    line = (end - start).astype(np.float32)
    share = (z * line[0] + y * line[1] + x * line[2]) / max(float(line @ line), 1e-6)
    share = np.clip(share, 0.0, 1.0)
    return np.sqrt((z - share * line[0]) ** 2 + (y - share * line[1]) ** 2 + (x - share * line[2]) ** 2)


def _look_up(scene: Scene, points: Points) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.float32]]:
    """Return, for each point, whether it is in the volume, its cell and its room."""
    lattice = scene.cells.lattice
    voxels = np.rint(points / lattice.voxel_nm).astype(int)
    inside = np.all((voxels >= 0) & (voxels < lattice.shape), axis=-1)
    index = tuple(np.where(inside[:, None], voxels, 0).T)
    return inside, scene.cells.labels[index], scene.room[index]
