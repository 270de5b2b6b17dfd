"""Simulated stacks of focused-ion-beam scanning electron microscopy (FIB-SEM), with their mitochondria labelled.

For ``segment demo``, the tests and the benchmarks: a stand-in for real data, never a measure of how good a model is.
Cells (`simulation/neuropil.py`) and what is in them (`simulation/organelles.py`) are painted, then photographed here.
Grey levels and noise are close to those of the EPFL training volume (CA1 hippocampus, 5 nm voxels; Lucchi, Li, Fua,
CVPR 2013) as measured for this project: there the mean is 140 and the SD 30, 109 and 15 in mitochondria, and the SD of
the noise is 8 to 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segment.simulation import organelles
from segment.simulation.neuropil import Lattice, grow_cells, make_noise
from streamdetect.errors import InputError

if TYPE_CHECKING:
    from segment.volumes import VoxelSize

SMALLEST_SHAPE = (4, 32, 32)  # voxels along z, y, x
SMALLEST_EXTENT_NM = 160.0  # along y and x: less would be a part of one organelle
VOXEL_RANGE_NM = (1.0, 100.0)

# The microscope. Our choice, but for the noise.
BLUR_NM = 5.5  # SD along each axis
SHADING = (5.0, 1500.0)  # SD in grey levels and grain in nm
SLICE_JITTER = (0.008, 0.8)  # SD of the gain and of the offset of a slice
NOISE = (68.0, 0.12)  # variance at grey level 0, and its rise with the grey level


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticVolume:
    """A simulated stack and its labels.

    Parameters
    ----------
    image : ndarray, shape (z, y, x), uint8
        Grey levels; membranes and mitochondria are dark.
    mitochondria : ndarray, shape (z, y, x), bool
        True in mitochondria, their outer membrane included.
    voxel_nm : tuple of float
        Edges of a voxel in nm, (z, y, x).
    """

    image: NDArray[np.uint8]
    mitochondria: NDArray[np.bool_]
    voxel_nm: VoxelSize


def simulate_volume(
    shape: tuple[int, int, int], *, voxel_nm: VoxelSize = (5.0, 5.0, 5.0), seed: int = 0
) -> SyntheticVolume:
    """Simulate a FIB-SEM stack of neuropil with labelled mitochondria.

    Parameters
    ----------
    shape : tuple of int
        Voxels along z, y and x; at least 4, 32 and 32, and 160 nm along y and x.
    voxel_nm : tuple of float
        Edges of a voxel in nm, (z, y, x), each from 1 to 100.
    seed : int
        0 or more. The same seed, shape and voxel size give the same volume.

    Returns
    -------
    SyntheticVolume
        5 to 10 % of the voxels are mitochondria. In a volume that is small against a mitochondrion (below about
        0.2 µm³) the share is what the part of one takes; there are always some.

    Raises
    ------
    InputError
        The shape, the voxel size or the seed is outside its range.

    Notes
    -----
    Needs about 40 bytes a voxel while it works.

    Examples
    --------
    >>> volume = simulate_volume((16, 64, 64), seed=1)
    >>> volume.image.shape, volume.image.dtype, bool(volume.mitochondria.any())
    ((16, 64, 64), dtype('uint8'), True)
    """
    _check(shape, voxel_nm, seed)
    # Each ingredient has its own generator: a change of one leaves those that are placed before it as they were.
    rngs = np.random.default_rng(seed).spawn(8)
    scene = organelles.paint_cells(rngs[1], grow_cells(rngs[0], Lattice(shape, voxel_nm)))
    boutons = organelles.place_densities(rngs[2], scene)
    labels = organelles.place_mitochondria(rngs[3], scene)
    organelles.place_dense_bodies(rngs[4], scene)
    organelles.place_vesicles(rngs[5], scene, boutons)
    organelles.place_tubules(rngs[6], scene)
    return SyntheticVolume(_expose(rngs[7], scene.image, voxel_nm), labels, voxel_nm)


def _check(shape: Sequence[int], voxel_nm: Sequence[float], seed: int) -> None:
    least = ", ".join(map(str, SMALLEST_SHAPE))
    if len(shape) != 3 or any(
        not isinstance(n, int | np.integer) or n < low for n, low in zip(shape, SMALLEST_SHAPE, strict=True)
    ):
        raise InputError(
            f"shape: expected whole numbers of voxels (z, y, x) of at least ({least}), found {tuple(shape)}"
        )
    low, high = VOXEL_RANGE_NM
    if len(voxel_nm) != 3 or not all(low <= edge <= high for edge in voxel_nm):
        raise InputError(f"voxel_nm: expected edges (z, y, x) from {low:g} to {high:g} nm, found {tuple(voxel_nm)}")
    extent_nm = min(shape[1] * voxel_nm[1], shape[2] * voxel_nm[2])
    if extent_nm < SMALLEST_EXTENT_NM:
        raise InputError(
            f"shape: expected at least {SMALLEST_EXTENT_NM:g} nm along y and x, found {extent_nm:g}: ask for more"
        )
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, found {seed}")


def _expose(rng: np.random.Generator, image: NDArray[np.float32], voxel_nm: VoxelSize) -> NDArray[np.uint8]:
    """Take the picture: blur, shading, jitter of the slices and noise.

    The noise is Gaussian with a variance that rises with the signal, which approximates Poisson and Gaussian noise
    together (Foi et al. 2008, doi:10.1109/TIP.2008.2001399).
    """
    seen = ndimage.gaussian_filter(image, [BLUR_NM / edge for edge in voxel_nm], truncate=3.0)
    sd, grain_nm = SHADING
    seen += np.float32(sd) * make_noise(rng, image.shape, voxel_nm, grain_nm)
    gain, offset = SLICE_JITTER
    per_slice = (len(seen), 1, 1)
    seen *= rng.normal(1.0, gain, per_slice).astype(np.float32)
    seen += rng.normal(0.0, offset, per_slice).astype(np.float32)
    floor, rise = NOISE
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    noise *= np.sqrt(np.float32(floor) + np.float32(rise) * np.maximum(seen, 0.0))
    seen += noise
    return np.clip(np.rint(seen, out=seen), 0, 255, out=seen).astype(np.uint8)
