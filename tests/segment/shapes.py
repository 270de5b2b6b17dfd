"""Solids of known volume and surface, as masks."""

from __future__ import annotations

import numpy as np


def grid_nm(reach_nm, voxel_nm, centre_nm=(0.0, 0.0, 0.0)):
    """Return positions in nm about a centre, shape (z, y, x, 3), out to a reach along each axis."""
    axes = [
        np.arange(-int(reach / side) - 2, int(reach / side) + 3) * side - centre
        for reach, side, centre in zip(np.broadcast_to(reach_nm, 3), voxel_nm, centre_nm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def ball(radius_nm, voxel_nm=(5.0, 5.0, 5.0), centre_nm=(1.3, 0.7, 2.1)):
    return (grid_nm(radius_nm, voxel_nm, centre_nm) ** 2).sum(axis=-1) <= radius_nm**2


def ellipsoid(semi_axes_nm, voxel_nm=(5.0, 5.0, 5.0), rotation=None):
    """Rotate about the middle by a matrix, where one is given."""
    rotation = np.eye(3) if rotation is None else rotation
    points = grid_nm(max(semi_axes_nm), voxel_nm, (1.3, 0.7, 2.1)) @ rotation
    return ((points / np.array(semi_axes_nm)) ** 2).sum(axis=-1) <= 1


def ellipsoid_surface(semi_axes_nm, n=800):
    """Integrate the surface element over a grid of angles."""
    a, b, c = semi_axes_nm
    u, v = np.linspace(0, np.pi, n)[:, None], np.linspace(0, 2 * np.pi, n)[None]
    element = np.sqrt(
        (b * c * np.sin(u) ** 2 * np.cos(v)) ** 2
        + (a * c * np.sin(u) ** 2 * np.sin(v)) ** 2
        + (a * b * np.sin(u) * np.cos(u)) ** 2
    )
    return float(np.trapezoid(np.trapezoid(element, v[0], axis=1), u[:, 0]))


def cylinder(radius_nm, length_nm, voxel_nm=(5.0, 5.0, 5.0), rotation=None):
    """Return a cylinder along z, before it is rotated."""
    rotation = np.eye(3) if rotation is None else rotation
    points = grid_nm(np.hypot(radius_nm, length_nm / 2), voxel_nm, (1.3, 0.7, 2.1)) @ rotation
    inside = np.abs(points[..., 0]) <= length_nm / 2
    return inside & (points[..., 1] ** 2 + points[..., 2] ** 2 <= radius_nm**2)


def two_balls(distance_nm, radius_nm=60.0, voxel_nm=(5.0, 5.0, 5.0)):
    """Two balls whose centres lie apart along x."""
    points = grid_nm((radius_nm, radius_nm, radius_nm + distance_nm / 2), voxel_nm)
    offset = np.array([0, 0, distance_nm / 2])
    return (((points - offset) ** 2).sum(axis=-1) <= radius_nm**2) | (
        ((points + offset) ** 2).sum(axis=-1) <= radius_nm**2
    )
