"""The size of a voxel in nm, from the units that files have it in."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from segment.errors import InputError

VoxelSize = tuple[float, float, float]  # nm, (z, y, x)

DIGITS = 7  # that are kept: files store float32 or rounded fractions

_NM = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "μm": 1e3,  # the Greek letter, which is what NFKC makes of the micro sign
    "micron": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "m": 1e9,
    "meter": 1e9,
}


def parse_voxel_size(text: str) -> VoxelSize:
    """Read a voxel size as ``--voxel-size`` takes it.

    Parameters
    ----------
    text : str
        ``Z,Y,X`` in nm, or one number for all three.

    Returns
    -------
    tuple of float
        Size in nm, (z, y, x).

    Raises
    ------
    InputError
        It is neither one nor three numbers above 0.

    Examples
    --------
    >>> parse_voxel_size("40,5,5")
    (40.0, 5.0, 5.0)
    >>> parse_voxel_size("5")
    (5.0, 5.0, 5.0)
    """
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not all(0 < size < math.inf for size in sizes):
        raise InputError(f"--voxel-size {text}: expected Z,Y,X in nm, numbers above 0, such as 40,5,5, or one for all")
    z, y, x = sizes
    return z, y, x


def voxel_size_from(sizes: Sequence[float | None], units: Sequence[str | None]) -> VoxelSize | None:
    """Return a voxel size in nm, or None unless all three sides are known.

    Parameters
    ----------
    sizes : sequence of float or None
        Along (z, y, x); what is not above 0 is unknown.
    units : sequence of str or None
        Of each: a symbol or a name, in the singular or the plural; any other is unknown.

    Examples
    --------
    >>> voxel_size_from((0.04, 0.005, 0.005), ("micron", "µm", "micrometers"))
    (40.0, 5.0, 5.0)
    >>> voxel_size_from((1, 1, 1), ("pixel", "pixel", "pixel"))
    """
    sides = []
    for size, unit in zip(sizes, units, strict=True):
        in_nm = _NM.get(_plain(unit)) if unit else None
        if size is None or in_nm is None or not 0 < size < math.inf:
            return None
        sides.append(float(f"{size * in_nm:.{DIGITS}g}"))
    z, y, x = sides
    return z, y, x


def _plain(unit: str) -> str:
    """Return a unit in the singular and in American spelling, the micro sign and the ångström sign as letters."""
    unit = unicodedata.normalize("NFKC", unit.strip())
    if unit in ("A", "Å"):
        return "å"
    unit = unit.lower().replace("metre", "meter")
    return unit.removesuffix("s")
