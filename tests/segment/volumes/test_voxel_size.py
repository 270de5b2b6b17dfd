from __future__ import annotations

import math

import pytest

from segment.volumes import parse_voxel_size
from segment.volumes.voxel_size import voxel_size_from
from streamdetect.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", (5, 5, 5)), ("40,4.6,5", (40, 4.6, 5)), (" 40, 5 ,5 ", (40, 5, 5)), ("4e1,5,5", (40, 5, 5))],
)
def test_a_voxel_size_is_one_number_or_three(text, size):
    assert parse_voxel_size(text) == size


@pytest.mark.parametrize("text", ["", "5,5", "5,5,5,5", "5;5;5", "0", "5,-5,5", "nan", "inf,5,5", "5nm", "5,,5"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError) as refusal:
        parse_voxel_size(text)
    assert str(refusal.value).startswith(f"--voxel-size {text}: expected Z,Y,X in nm")


@pytest.mark.parametrize(
    ("size", "unit", "nm"),
    [
        (5, "nm", 5),
        (5, "nanometers", 5),
        (5, "Nanometre", 5),
        (0.005, "um", 5),
        (0.005, "\u00b5m", 5),  # the micro sign
        (0.005, "\u03bcm", 5),  # the Greek letter
        (0.0046, "microns", 4.6),
        (0.005, "micrometre", 5),
        (50, "\u00c5", 5),  # the letter
        (50, "\u212b", 5),  # the sign
        (50, "A", 5),
        (50, "angstroms", 5),
        (5e-6, "mm", 5),
        (5e-7, "cm", 5),
        (5e-9, "m", 5),
        (5000, "pm", 5),
    ],
)
def test_units_become_nm(size, unit, nm):
    assert voxel_size_from([size] * 3, [unit] * 3) == (nm, nm, nm)


@pytest.mark.parametrize(
    ("sizes", "units"),
    [
        ((5, 5, None), ("nm",) * 3),
        ((5, 5, 0), ("nm",) * 3),
        ((5, 5, -5), ("nm",) * 3),
        ((5, 5, math.nan), ("nm",) * 3),
        ((5, 5, math.inf), ("nm",) * 3),
        ((5, 5, 5), ("nm", "nm", "pixel")),
        ((5, 5, 5), ("nm", "nm", None)),
        ((5, 5, 5), ("nm", "nm", "")),
    ],
)
def test_a_size_is_unknown_unless_all_three_are_known(sizes, units):
    assert voxel_size_from(sizes, units) is None
