from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from segment.simulation import organelles
from segment.simulation.neuropil import Lattice, grow_cells


@pytest.fixture(scope="module")
def steps():
    """The scene's image before and after each ingredient, and what the ingredients returned."""
    cells = grow_cells(np.random.default_rng(2), Lattice((48, 128, 128), (6.0, 6.0, 6.0)))
    scene = organelles.paint_cells(np.random.default_rng(0), cells)
    images = [scene.image.copy()]
    results = []
    for place in (
        organelles.place_densities,
        organelles.place_mitochondria,
        organelles.place_dense_bodies,
        organelles.place_tubules,
        lambda rng, scene: organelles.place_vesicles(rng, scene, results[0]),
    ):
        results.append(place(np.random.default_rng(len(images)), scene))
        images.append(scene.image.copy())
    changes = [after - before for before, after in pairwise(images)]
    return SimpleNamespace(
        scene=scene,
        cells=cells,
        images=images,
        boutons=results[0],
        mitochondria=results[1],
        densities=changes[0],
        bodies=changes[2],
        tubules=changes[3],
        vesicles=changes[4],
    )


def test_membranes_are_dark(steps):
    cytoplasm = steps.images[0][steps.cells.distance > 25].mean()
    membrane = steps.images[0][np.abs(steps.cells.distance - organelles.SHEET_NM[0]) < 2].mean()
    assert membrane < cytoplasm - 50


def test_each_mitochondrion_is_within_one_cell(steps):
    parts, n_parts = ndimage.label(steps.mitochondria)
    assert n_parts >= 2
    for part in range(1, n_parts + 1):
        assert len(np.unique(steps.cells.labels[parts == part])) == 1
    assert steps.cells.distance[steps.mitochondria].min() >= organelles.GAP_NM


def test_mitochondria_have_a_dark_envelope_and_a_matrix(steps):
    depth = ndimage.distance_transform_edt(np.pad(steps.mitochondria, 1, mode="edge"), sampling=6.0)[1:-1, 1:-1, 1:-1]
    image = steps.images[2]
    envelope, within = image[(depth > 0) & (depth < 20)], image[depth > 35]
    assert envelope.mean() < within.mean() - 10
    assert within.mean() < image[~steps.mitochondria & (steps.cells.distance > 40)].mean() - 25
    assert within.std() > 10  # cristae


def test_other_organelles_are_not_in_mitochondria(steps):
    for change in (steps.bodies, steps.tubules):
        assert (np.abs(change) > 5).sum() > 100
        assert (np.abs(change) > 5)[steps.mitochondria].mean() < 0.01  # rims fade out around a tubule


def test_dense_bodies_are_as_dark_as_mitochondria(steps):
    touched = np.abs(steps.bodies) > 5
    assert steps.images[3][touched].mean() < steps.images[2][steps.mitochondria].mean() + 10


def test_densities_darken_membranes_only(steps):
    touched = steps.densities < -5
    assert touched.sum() > 100
    assert steps.densities.max() < 25  # what is darker than they are, noise of the texture, is lifted
    assert steps.cells.distance[touched].max() < organelles.DENSITY_DEPTH_NM


def test_vesicles_are_in_the_cell_across_the_density(steps):
    touched = steps.vesicles < -20
    assert touched.sum() > 100
    assert steps.vesicles.max() <= 0
    cells = {cell for cell, _ in steps.boutons}
    assert set(np.unique(steps.cells.labels[touched])) <= cells
    assert steps.mitochondria[touched].mean() < 0.01


def test_a_vesicle_is_hollow(steps, monkeypatch):
    monkeypatch.setattr(organelles, "VESICLES_TRIED", 1)
    monkeypatch.setattr(organelles, "CLOUD_NM", 0.0)
    scene = organelles.paint_cells(np.random.default_rng(0), steps.cells)
    middle = np.array(np.unravel_index(steps.cells.distance[8:-8, 8:-8, 8:-8].argmax(), (32, 112, 112))) + 8
    cell = int(steps.cells.labels[tuple(middle)])
    scene.image[:] = scene.levels[cell]
    organelles.place_vesicles(np.random.default_rng(0), scene, [(cell, middle * 6.0)])
    change = scene.image - scene.levels[cell]
    distance = np.linalg.norm((np.indices(change.shape).T - middle).T * 6.0, axis=0)
    assert np.abs(change[distance < 3]).max() < 3
    assert change[(distance > 14) & (distance < 18)].max() < -30
    assert np.all(change[distance > 28] == 0)


def test_a_tubule_ends_at_the_border_of_its_cell(steps, monkeypatch):
    monkeypatch.setattr(organelles, "TUBULES_PER_UM3", 0.0)  # there is always one
    monkeypatch.setattr(organelles, "TUBULE_RADIUS_NM", (30.0, 30.0))
    monkeypatch.setattr(organelles, "TUBULE_LENGTH_NM", (1500.0, 1500.0))  # longer than the volume
    scene = organelles.paint_cells(np.random.default_rng(0), steps.cells)
    for seed in range(3):
        before = scene.image.copy()
        organelles.place_tubules(np.random.default_rng(seed), scene)
        touched = before - scene.image > 5
        assert touched.any()
        assert len(np.unique(steps.cells.labels[touched])) == 1
