from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from naive_objects import second_moments
from scipy.spatial.transform import Rotation
from shapes import ball, cylinder, ellipsoid, ellipsoid_surface

from segment.errors import InputError
from segment.objects.measure import estimate_surface, measure_axes, measure_objects, write_measures

CUBIC = (5.0, 5.0, 5.0)
TURNS = [Rotation.random(rng=seed).as_matrix() for seed in range(3)]


@pytest.mark.parametrize(
    ("radius_nm", "voxel_nm", "tolerance"),
    [
        (20.0, CUBIC, 0.01),
        (40.0, CUBIC, 0.01),
        (80.0, CUBIC, 0.01),
        (80.0, (10.0, 5.0, 5.0), 0.03),
        (80.0, (20.0, 5.0, 5.0), 0.03),
        (80.0, (5.0, 5.0, 20.0), 0.03),
    ],
)
def test_surface_of_a_ball(radius_nm, voxel_nm, tolerance):
    area = estimate_surface(ball(radius_nm, voxel_nm), voxel_nm)
    assert area == pytest.approx(4 * np.pi * radius_nm**2, rel=tolerance)


@pytest.mark.parametrize(("voxel_nm", "tolerance"), [(CUBIC, 0.01), ((20.0, 5.0, 5.0), 0.03)])
@pytest.mark.parametrize("turn", TURNS)
def test_surface_of_an_ellipsoid(turn, voxel_nm, tolerance):
    axes = (120.0, 60.0, 45.0)
    area = estimate_surface(ellipsoid(axes, voxel_nm, turn), voxel_nm)
    assert area == pytest.approx(ellipsoid_surface(axes), rel=tolerance)


def test_surface_of_cylinders_and_of_flat_faces():
    exact = 2 * np.pi * 50 * 300 + 2 * np.pi * 50**2
    for turn in TURNS:
        assert estimate_surface(cylinder(50.0, 300.0, CUBIC, turn), CUBIC) == pytest.approx(exact, rel=0.03)
    assert estimate_surface(cylinder(50.0, 300.0), CUBIC) == pytest.approx(exact * 0.96, rel=0.02)
    cube = estimate_surface(np.ones((40, 40, 40), bool), CUBIC)
    assert cube / (6 * 200**2) == pytest.approx(0.913, abs=0.005)  # the bias that the docstring states


def test_surface_scales_with_the_voxel_and_counts_holes():
    solid = ball(60.0)
    assert estimate_surface(solid, (10.0, 10.0, 10.0)) == pytest.approx(4 * estimate_surface(solid, CUBIC))
    hollow = solid.copy()
    core = ball(30.0)
    edge = (solid.shape[0] - core.shape[0]) // 2
    hollow[tuple(slice(edge, edge + n) for n in core.shape)] &= ~core
    assert estimate_surface(hollow, CUBIC) == pytest.approx(
        estimate_surface(solid, CUBIC) + estimate_surface(core, CUBIC)
    )


@pytest.mark.parametrize(("voxel_nm", "tolerance"), [(CUBIC, 0.01), ((20.0, 5.0, 5.0), 0.03)])
@pytest.mark.parametrize("turn", TURNS)
def test_axes_of_an_ellipsoid_are_its_own(turn, voxel_nm, tolerance):
    found = measure_axes(ellipsoid((120.0, 70.0, 45.0), voxel_nm, turn), voxel_nm)
    np.testing.assert_allclose(found, (240.0, 140.0, 90.0), rtol=tolerance)


def test_axes_of_a_cylinder():
    # Second moments: length² / 12 along it, radius² / 4 across.
    found = measure_axes(cylinder(50.0, 400.0), CUBIC)
    np.testing.assert_allclose(found, 2 * np.sqrt(5 * np.array([400**2 / 12, 50**2 / 4, 50**2 / 4])), rtol=0.02)


def test_axes_are_those_of_the_literal_second_moments():
    mask = np.random.default_rng(0).random((3, 4, 5)) < 0.4
    voxel_nm = (9.0, 4.0, 5.0)
    moments = second_moments(np.argwhere(mask).tolist(), voxel_nm)
    expected = 2 * np.sqrt(5 * np.linalg.eigvalsh(moments)[::-1])
    # The oracle sees 4 points along each side of a voxel: a sixteenth of side² / 12 is between them.
    np.testing.assert_allclose(measure_axes(mask, voxel_nm), expected, rtol=0.01)
    assert measure_axes(np.ones((1, 1, 1), bool), CUBIC) == pytest.approx((np.sqrt(5 / 3) * 5,) * 3)


def test_everything_about_one_object():
    labels = np.zeros((10, 20, 40), np.uint32)
    labels[2:5, 4:8, 10:30] = 1
    (found,) = measure_objects(labels, (10.0, 5.0, 2.0))
    assert (found.label, found.volume_voxels, found.volume_nm3) == (1, 240, 24_000.0)
    assert (found.centroid_z_voxel, found.centroid_y_voxel, found.centroid_x_voxel) == (3.0, 5.5, 19.5)
    assert (found.centroid_z_nm, found.centroid_y_nm, found.centroid_x_nm) == (30.0, 27.5, 39.0)
    assert (found.box_z_start_voxel, found.box_y_start_voxel, found.box_x_start_voxel) == (2, 4, 10)
    assert (found.box_z_stop_voxel, found.box_y_stop_voxel, found.box_x_stop_voxel) == (5, 8, 30)
    lengths = np.array([40.0, 30.0, 20.0])  # nm, along x, z and y
    axes = lengths * np.sqrt(5 / 3)
    np.testing.assert_allclose((found.major_axis_nm, found.middle_axis_nm, found.minor_axis_nm), axes)
    assert found.elongation == pytest.approx(4 / 3)
    assert found.flatness == pytest.approx(3 / 2)
    assert not found.touches_border


@pytest.mark.parametrize("voxel", [(0, 3, 3), (6, 3, 3), (3, 0, 3), (3, 6, 3), (3, 3, 0), (3, 3, 6)])
def test_each_face_of_the_volume_is_a_border(voxel):
    labels = np.zeros((7, 7, 7), np.uint32)
    labels[voxel] = 1
    assert measure_objects(labels, CUBIC)[0].touches_border
    inside = np.zeros((9, 9, 9), np.uint32)
    inside[1:-1, 1:-1, 1:-1] = labels
    assert not measure_objects(inside, CUBIC)[0].touches_border


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_any_numbers_are_labels(dtype):
    rng = np.random.default_rng(1)
    dense = rng.integers(0, 5, (6, 7, 8)).astype(dtype)
    numbers = np.array([0, 3, 200, 7, 11], dtype)
    if np.dtype(dtype).itemsize == 8:
        numbers[2] = 2**63 + 5
    sparse = numbers[dense]
    expected = {int(numbers[each.label]): each for each in measure_objects(dense, CUBIC)}
    found = measure_objects(sparse, CUBIC)
    assert [each.label for each in found] == sorted(expected)
    for each in found:
        other = expected[each.label]
        assert (each.volume_voxels, each.surface_nm2, each.centroid_z_nm) == (
            other.volume_voxels,
            other.surface_nm2,
            other.centroid_z_nm,
        )
    np.testing.assert_array_equal([each.label for each in found], np.unique(sparse)[1:].tolist())


def test_neighbours_do_not_count_and_every_step_is_told():
    labels = np.zeros((8, 8, 16), np.uint32)
    labels[2:6, 2:6, 2:8] = 1
    labels[2:6, 2:6, 8:14] = 2
    told = []
    first, second = measure_objects(labels, CUBIC, on_object=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    alone = measure_objects((labels == 1).astype(np.uint32), CUBIC)[0]
    assert first == alone
    assert second.surface_nm2 == pytest.approx(alone.surface_nm2)


def test_nothing_to_measure():
    assert measure_objects(np.zeros((3, 3, 3), np.uint32), CUBIC) == []


def test_csv_has_units_and_every_digit_that_matters():
    labels = np.zeros((5, 5, 5), np.uint32)
    labels[1:3, 1:3, 1:3] = 123_456_789
    file = io.StringIO()
    write_measures(file, measure_objects(labels, (12345.678, 1000.0, 1000.0)))
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert row["label"] == "123456789"
    assert float(row["volume_nm3"]) == pytest.approx(8 * 12345.678e6, rel=1e-9)
    assert row["touches_border"] == "false"
    plain = {"label", "elongation", "flatness", "touches_border"}
    assert all(name.endswith(("_nm", "_nm2", "_nm3", "_voxel", "_voxels")) for name in row.keys() - plain)


@pytest.mark.parametrize(
    ("labels", "voxel_nm", "words"),
    [
        (np.zeros((3, 3), np.uint32), CUBIC, "z, y, x"),
        (np.zeros((3, 3, 3), bool), CUBIC, "unsigned integers"),
        (np.zeros((3, 3, 3), np.float32), CUBIC, "unsigned integers"),
        (np.zeros((3, 3, 3), np.uint32), (5.0, 0.0, 5.0), "voxel_nm"),
    ],
)
def test_bad_input_is_refused(labels, voxel_nm, words):
    with pytest.raises(InputError, match=words):
        measure_objects(labels, voxel_nm)
