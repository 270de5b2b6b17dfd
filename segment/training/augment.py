"""Random patches of a volume, changed in the ways in which FIB-SEM stacks differ from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segment.errors import InputError

# How much the grey values of a patch are changed, in units in which the volume's percentiles are -1 and 1. Our choice:
# about what sets the slices and the microscopes of published FIB-SEM stacks apart.
BRIGHTNESS = 0.2
CONTRAST = 1.3
NOISE = 0.15
BLUR_SIGMA = 1.2  # pixels
NOISE_SHARE, BLUR_SHARE = 0.3, 0.2  # of the patches


@dataclass(frozen=True, eq=False)
class Slab:
    """A run of slices to train on.

    Parameters
    ----------
    image : ndarray of uint8 or uint16, shape (z, y, x)
    labels : ndarray of bool, shape (z, y, x)
    """

    image: NDArray[np.uint8 | np.uint16]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class Plane:
    """Patches of one shape, cut from the slices along one axis of one slab."""

    slab: int
    axis: int
    height: int
    width: int
    weight: float


def list_planes(slabs: Sequence[Slab], patch: int, stride: int, axes: str) -> list[Plane]:
    """List the ways in which patches can be cut.

    Parameters
    ----------
    slabs : sequence of Slab
    patch : int
        Side of a square patch, a multiple of ``stride``. Where a slab is thinner, a patch of about as many pixels
        that is longer.
    stride : int
        Height and width of a patch are multiples of it.
    axes : str
        Which of the axes ``z``, ``y`` and ``x`` slices are cut along.

    Returns
    -------
    list of Plane
        Weighted by the voxels of the slab; where patches are thinner than asked for, by as much less, since more of
        each is close to a border.

    Raises
    ------
    InputError
        No slab is large enough for one patch.
    """
    planes = []
    for index, slab in enumerate(slabs):
        for axis in ("zyx".index(name) for name in axes):
            rows, columns = (n for other, n in enumerate(slab.image.shape) if other != axis)
            height, width = min(patch, rows // stride * stride), min(patch, columns // stride * stride)
            if min(height, width) < min(patch, 2 * stride):
                continue
            weight = slab.image.size * min(height, width) / patch
            if height < patch:
                width = min(columns, patch * patch // height) // stride * stride
            elif width < patch:
                height = min(rows, patch * patch // width) // stride * stride
            planes.append(Plane(index, axis, height, width, weight))
    if not planes:
        shapes = ", ".join("×".join(map(str, slab.image.shape)) for slab in slabs)
        raise InputError(f"patch: no patch of {patch}² pixels fits into the training slices ({shapes} voxels)")
    return planes


def draw_batch(
    slabs: Sequence[Slab],
    planes: Sequence[Plane],
    size: int,
    offsets: Sequence[int],
    intensity: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw patches of one random plane, and change them at random.

    Parameters
    ----------
    slabs, planes
        As for `list_planes`.
    size : int
        Patches.
    offsets : sequence of int
        Slices that become channels, relative to the one whose labels are taken; the edge slice is repeated.
    intensity : tuple of float
        Grey values that become -1 and 1.
    rng : numpy.random.Generator

    Returns
    -------
    image : ndarray of float32, shape (size, height, width, len(offsets))
    labels : ndarray of float32, shape (size, height, width, 1)
        0 or 1.
    """
    weights = np.array([plane.weight for plane in planes])
    plane = planes[int(rng.choice(len(planes), p=weights / weights.sum()))]
    image = np.moveaxis(slabs[plane.slab].image, plane.axis, 0)
    labels = np.moveaxis(slabs[plane.slab].labels, plane.axis, 0)
    n_slices, rows, columns = image.shape
    x = np.empty((size, plane.height, plane.width, len(offsets)), np.float32)
    y = np.empty((size, plane.height, plane.width, 1), np.float32)
    for i in range(size):
        center = int(rng.integers(n_slices))
        top, left = int(rng.integers(rows - plane.height + 1)), int(rng.integers(columns - plane.width + 1))
        window = np.s_[top : top + plane.height, left : left + plane.width]
        steps = np.array(offsets) * (1 if rng.random() < 0.5 else -1)  # the stack seen from its other end
        slices = np.clip(center + steps, 0, n_slices - 1)
        turn = _draw_turn(plane.height == plane.width, rng)
        patch = np.stack([image[index][window] for index in slices], axis=-1)
        x[i] = change_intensity(turn(normalise(patch, intensity)), rng)
        y[i, ..., 0] = turn(labels[center][window])
    return x, y


def normalise(image: NDArray[np.uint8 | np.uint16], intensity: tuple[float, float]) -> NDArray[np.float32]:
    """Map grey values to about -1 to 1, at most 2 either way, as the exported graph does.

    Examples
    --------
    >>> normalise(np.array([50, 100, 250], np.uint8), (50.0, 150.0)).tolist()
    [-1.0, 0.0, 2.0]
    """
    low, high = intensity
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
    return np.clip(scaled, -2, 2, out=scaled)


def change_intensity(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change brightness and contrast, and some patches' sharpness and noise.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width, n_slices)
        Normalised.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (height, width, n_slices)
    """
    gain = np.float32(CONTRAST ** rng.uniform(-1, 1))
    image = image * gain + np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    if rng.random() < BLUR_SHARE:
        sigma = rng.uniform(0.3, BLUR_SIGMA)
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3.0)
    if rng.random() < NOISE_SHARE:
        image = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, NOISE))
    return np.clip(image, -2, 2)


def _draw_turn(square: bool, rng: np.random.Generator) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return one of the 8 orientations of a square, or of the 4 of a rectangle that keep its shape."""
    flips = tuple(axis for axis in (0, 1) if rng.random() < 0.5)
    transpose = square and rng.random() < 0.5

    def turn(image: NDArray[Any]) -> NDArray[Any]:
        image = np.flip(image, flips)
        return image.swapaxes(0, 1) if transpose else image

    return turn
