"""What is bright and what is dark in a volume: measured once, never tile by tile, so that no tile shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segment.errors import VolumeError

MAX_SLICES = 32  # of the sample, evenly spaced along z
N_TEXTURE_SLICES = 8  # that `detail_skewness` looks at
TEXTURE_SIDE = 512  # pixels of each, from its middle
FINE, COARSE = 3, 15  # pixels: noise is averaged out, membranes stay; what is larger than they are goes
INVERTED_SKEWNESS = 0.05  # single slices of the EPFL stack have -0.08 to -0.22, and the reverse inverted
MAX_PIXELS = 2**18  # of a slice in the sample, evenly spaced: 8 million voxels at most in all


class Voxels(Protocol):
    """What can be sliced as a volume: a `segment.volumes.Volume`, or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along (z, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Return a part of it."""


def intensity_range(volume: Voxels, percentiles: tuple[float, float] = (1.0, 99.0)) -> tuple[float, float]:
    """Return a low and a high intensity of a whole volume, so that single odd voxels do not count.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
        It is read once, a slice at a time.
    percentiles : tuple of float
        Of the intensities, 0 to 100.

    Returns
    -------
    low, high : float
        In the units of the volume; ``low < high``.

    Raises
    ------
    VolumeError
        The volume holds NaN or infinity, or next to nothing but one intensity.

    Notes
    -----
    From a sample: at most 32 slices, evenly spaced along z with the first and the last among them, and of each every
    k-th pixel along both axes, k the smallest that leaves at most 262,144. The same volume gives the same answer. A
    slice that is damaged is left out, unless all are: what lies in it is told where it is needed.

    Examples
    --------
    >>> intensity_range(np.arange(101, dtype=np.uint8).reshape(1, 1, 101))
    (1.0, 99.0)
    """
    sample = sample_intensities(volume)
    low, high = (float(value) for value in np.percentile(sample, percentiles))
    if not low < high:
        raise VolumeError(
            f"{name_volume(volume)}: next to nothing but the intensity {low:g} (percentiles {percentiles[0]:g} and "
            f"{percentiles[1]:g} are equal): there is nothing to segment; check that it is the right file"
        )
    return low, high


def sample_intensities(volume: Voxels) -> NDArray[Any]:
    """Return the intensities of some evenly spaced voxels, flat; the notes of `intensity_range` say of which.

    Raises
    ------
    VolumeError
        One of them is NaN or infinite, or there are none.
    """
    n_slices, n_rows, n_columns = volume.shape
    if 0 in volume.shape:
        raise VolumeError(f"{name_volume(volume)}: holds no voxels, its shape is {volume.shape}")
    step = max(1, int(np.ceil(np.sqrt(n_rows * n_columns / MAX_PIXELS))))
    while len(range(0, n_rows, step)) * len(range(0, n_columns, step)) > MAX_PIXELS:
        step += 1  # the edges round up
    slices = _read_slices(volume, sample_slices(n_slices, MAX_SLICES), (slice(0, n_rows), slice(0, n_columns)))
    sample = np.concatenate([plane[::step, ::step].ravel() for plane in slices])
    if sample.dtype.kind == "f" and not np.isfinite(sample).all():
        raise VolumeError(f"{name_volume(volume)}: holds NaN or infinity; replace them, or save it as uint8 or uint16")
    return sample


def detail_skewness(volume: Voxels, intensity: tuple[float, float]) -> float:
    """Return whether fine structures are darker or brighter than what is around them.

    Parameters
    ----------
    volume : Volume or ndarray, shape (z, y, x)
    intensity : (float, float)
        Low and high, as `intensity_range` gives them; what is beyond them is clipped.

    Returns
    -------
    float
        Below 0 for thin dark lines on a bright ground, as membranes are in FIB-SEM and as the models know them; above
        0 for the reverse; 0 for a flat image, and about 0 for noise. `INVERTED_SKEWNESS` says from where on it counts.

    Notes
    -----
    From the middle 512 by 512 pixels of at most 8 slices, evenly spaced along z. Detail is the mean of 3 by 3 pixels
    minus that of the 15 by 15 around; its skewness is the mean of its cubes over the cube of its standard deviation.
    The histogram of the intensities themselves says less: with many dark mitochondria it is as skewed one way as it is
    the other way with none.
    """
    from scipy.ndimage import uniform_filter

    n_slices, *plane = volume.shape
    rows, columns = (slice(max(0, (n - TEXTURE_SIDE) // 2), (n + TEXTURE_SIDE) // 2) for n in plane)
    details = []
    for values in _read_slices(volume, sample_slices(n_slices, N_TEXTURE_SLICES), (rows, columns)):
        image = np.clip(values.astype(np.float32), *intensity)
        details.append((uniform_filter(image, FINE) - uniform_filter(image, COARSE)).ravel())
    detail = np.concatenate(details).astype(np.float64)
    detail -= detail.mean()
    spread = float(np.sqrt((detail**2).mean()))
    return float((detail**3).mean()) / spread**3 if spread > 0 else 0.0


def _read_slices(volume: Voxels, indices: list[int], within: tuple[slice, slice]) -> Iterator[NDArray[Any]]:
    """Yield a part of some slices; those that are damaged are left out, as long as others are not."""
    n_read, damage = 0, None
    for z in indices:
        try:
            values = volume[(slice(z, z + 1), *within)][0]
        except VolumeError as error:
            damage = error
            continue
        n_read += 1
        yield values
    if damage is not None and not n_read:
        raise damage


def sample_slices(n_slices: int, n_most: int) -> list[int]:
    """Return evenly spaced indices, the first and the last among them.

    Examples
    --------
    >>> sample_slices(3, 32)
    [0, 1, 2]
    >>> sample_slices(63, 32)[:3]
    [0, 2, 4]
    """
    return [int(z) for z in np.linspace(0, n_slices - 1, min(n_slices, n_most)).round()]


def name_volume(volume: Voxels) -> str:
    """Return what messages call a volume."""
    return str(getattr(volume, "path", None) or "volume")
