"""Where the electrodes of WAY-EEG-GAL sit on the head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Luciw, Jarocka, Edin, Scientific Data 2014, doi:10.1038/sdata.2014.47: 32 ActiCap electrodes, in the files' order.
# fmt: off
GRASP_AND_LIFT_CHANNELS = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8",
    "TP9", "CP5", "CP1", "CP2", "CP6", "TP10", "P7", "P3", "Pz", "P4", "P8", "PO9", "O1", "Oz", "O2", "PO10",
)
# fmt: on

_OLD_NAMES = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}  # of the 10-20 system before 1991


@cache
def _easycap() -> dict[str, NDArray[np.float64]]:
    import mne  # half a second: only when positions are asked for

    # ActiCap is EasyCap's; its positions lie on a sphere, so that distances over the scalp are plain angles.
    return mne.channels.make_standard_montage("easycap-M1").get_positions()["ch_pos"]


def find_electrode(name: str) -> str | None:
    """Return the standard name of an electrode however a stream spells it; None where its place is not known.

    Parameters
    ----------
    name : str
        In any case; dots at the end, as PhysioNet has them, do not matter.

    Returns
    -------
    str or None

    Examples
    --------
    >>> find_electrode("FC5."), find_electrode("FP1"), find_electrode("EMG")
    ('FC5', 'Fp1', None)
    """
    return _spellings().get(name.strip().rstrip(".").lower())


@cache
def _spellings() -> dict[str, str]:
    return {name.lower(): name for name in _easycap()} | _OLD_NAMES


def scalp_directions(ch_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the direction of each electrode from the centre of the head.

    Parameters
    ----------
    ch_names : sequence of str
        Names in the 10-20 system and its extension.

    Returns
    -------
    ndarray, shape (n_channels, 3), float64
        Unit vectors; x to the right, y to the nose, z to the vertex.

    Examples
    --------
    >>> scalp_directions(["Cz", "C3"]).round(1) + 0.0
    array([[ 0. ,  0. ,  1. ],
           [-0.7,  0. ,  0.7]])
    """
    positions = _easycap()
    directions = np.array([positions[name] for name in ch_names])
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def scalp_angles(ch_names: Sequence[str], other_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the distance over the scalp between electrodes, as an angle.

    Parameters
    ----------
    ch_names, other_names : sequence of str
        Names in the 10-20 system and its extension.

    Returns
    -------
    ndarray, shape (len(ch_names), len(other_names)), float64
        Angles in degrees, 0 to 180; 10 degrees are about 1.7 cm.

    Examples
    --------
    >>> scalp_angles(["Cz"], ["Cz", "C3"]).round()
    array([[ 0., 46.]])
    """
    cosines = scalp_directions(ch_names) @ scalp_directions(other_names).T
    return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
