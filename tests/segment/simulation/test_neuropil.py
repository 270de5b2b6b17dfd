from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segment.simulation.neuropil import Lattice, Tube, grow_cells, make_field, make_noise

SHAPE, VOXEL_NM = (24, 72, 56), (10.0, 5.0, 6.0)


@pytest.fixture(scope="module")
def lattice():
    return Lattice(SHAPE, VOXEL_NM)


@pytest.fixture(scope="module")
def cells(lattice):
    return grow_cells(np.random.default_rng(0), lattice)


def voxel_positions():
    return np.stack(np.meshgrid(*(np.arange(n) * edge for n, edge in zip(SHAPE, VOXEL_NM, strict=True)), indexing="ij"))


def everything(lattice):
    return lattice.box(np.full(3, -1e4), np.full(3, 1e4))


@pytest.mark.parametrize("axis", range(3))
def test_interpolation_keeps_positions(lattice, axis):
    box = everything(lattice)
    values = lattice.positions(box)[:, axis].reshape(lattice.nodes).astype(np.float32)
    voxels, where = lattice.to_voxels(values, box)
    assert where == tuple(slice(0, n) for n in SHAPE)
    np.testing.assert_allclose(voxels, voxel_positions()[axis], atol=1e-2)  # float32 of some 100 nm


def test_part_of_the_nodes_gives_the_same_voxels(lattice):
    values = np.random.default_rng(1).normal(size=lattice.nodes).astype(np.float32)
    whole, _ = lattice.to_voxels(values, everything(lattice))
    box = lattice.box(np.array([0.0, 100.0, -20.0]), np.array([150.0, 330.0, 200.0]))
    part, where = lattice.to_voxels(values[box], box)
    assert part.size > 1000
    assert part.shape == whole[where].shape
    np.testing.assert_array_equal(part, whole[where])


def test_too_few_nodes_give_no_voxels(lattice):
    box = (slice(4, 6), slice(4, 12), slice(4, 12))
    voxels, where = lattice.to_voxels(np.zeros((2, 8, 8), np.float32), box)
    assert voxels.size == 0
    assert np.zeros(SHAPE)[where].shape == voxels.shape


def test_nearest_node(lattice):
    box = everything(lattice)
    positions = lattice.positions(box).reshape(*lattice.nodes, 3)
    index = lattice.nearest(np.array([[11.0, 205.0, 90.0]]))
    assert np.abs(positions[index][0] - [11.0, 205.0, 90.0]).max() <= 20.0


def test_field_is_the_distance_from_a_sphere(lattice):
    tube = Tube(np.array([[100.0, 180.0, 160.0]]), np.array([90.0]))
    field, box = make_field(np.random.default_rng(0), lattice, tube, reach_nm=100.0, wobble_nm=0.0)
    voxels, where = lattice.to_voxels(field, box)
    offsets = voxel_positions()[(slice(None), *where)] - np.array([100.0, 180.0, 160.0])[:, None, None, None]
    radius = np.linalg.norm(offsets, axis=0)
    shell = (radius > 60) & (radius < 150)
    # Splines smooth with an SD of 23 nm, which lifts the distance from a point at radius r by 23² / r.
    np.testing.assert_allclose(voxels[shell], radius[shell] - 90 + 23.0**2 / radius[shell], atol=2.5)


def test_cells_touch_everywhere(cells):
    assert len(np.unique(cells.labels)) >= 4
    assert cells.labels.shape == cells.distance.shape == SHAPE
    assert cells.distance.min() >= 0


def test_distance_vanishes_at_borders_and_only_there(cells):
    border = np.zeros(SHAPE, bool)
    for axis in range(3):
        differs = np.diff(cells.labels, axis=axis) != 0
        pad = [(0, 0)] * 3
        for side in ((1, 0), (0, 1)):
            pad[axis] = side
            border |= np.pad(differs, pad)
    assert np.percentile(cells.distance[border], 99) < 11.0  # half a diagonal of a voxel, and the steepest slope is 1
    away = ndimage.distance_transform_edt(~border, sampling=VOXEL_NM)
    assert np.percentile(cells.distance[away > 35], 2) > 12.0
    assert np.corrcoef(cells.distance[away < 40], away[away < 40])[0, 1] > 0.8


def test_voxels_and_nodes_agree(cells, lattice):
    voxels = np.random.default_rng(0).integers(0, SHAPE, (400, 3))
    nodes = lattice.nearest(voxels * np.array(VOXEL_NM))
    deep = cells.distance[tuple(voxels.T)] > 30
    assert deep.sum() > 50
    assert np.mean(cells.labels[tuple(voxels.T)][deep] == cells.node_labels[nodes][deep]) > 0.9


@pytest.mark.parametrize("grain_nm", [5.0, 40.0])
def test_noise_has_its_scale_and_grain(grain_nm):
    noise = make_noise(np.random.default_rng(0), (40, 80, 160), (20.0, 10.0, 5.0), grain_nm)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1.0) < 0.1
    for axis, edge_nm in enumerate((20.0, 10.0, 5.0)):
        moved = np.moveaxis(noise, axis, 0)
        grain = max(grain_nm, edge_nm)
        far = round(5 * grain / edge_nm)
        assert abs(np.corrcoef(moved[far:].ravel(), moved[:-far].ravel())[0, 1]) < 0.15
        if grain >= 4 * edge_nm:
            near = round(grain / 4 / edge_nm)
            assert np.corrcoef(moved[near:].ravel(), moved[:-near].ravel())[0, 1] > 0.8
