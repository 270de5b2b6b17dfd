"""The feature sets that training knows by name, alone or joined with ``+``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from streamdetect.errors import InputError
from streamdetect.scoring.scalp import make_montage
from streamdetect.settings import (
    AmplitudeSettings,
    BlockSettings,
    FeatureSettings,
    FilterSettings,
    NormaliserSettings,
    PowerSettings,
    to_samples,
)

HOP_S = 0.02
ADAPTIVE = "adaptive"
TIME_CONSTANT_S = 30.0  # shorter ones follow the cues of a cued recording; see docs/METHOD.md
N_NEIGHBOURS = 4  # of the small Laplacian, McFarland et al. 1997
N_DELAYS = 10
N_COSINES = 4  # level, slope, curvature and one more: further ones lost score on held-out series of three subjects

_LOW_PASS = FilterSettings(None, 30.0)
_BANDS = tuple(FilterSettings(low, high, 2) for low, high in ((4.0, 8.0), (8.0, 13.0), (13.0, 30.0)))
_LOW_PASS_BANK = tuple(FilterSettings(None, high, 2) for high in (0.5, 1.0, 2.0, 3.0, 5.0, 9.0, 15.0, 30.0))
_NARROW_BANDS = tuple(
    FilterSettings(low, high, 2)
    for low, high in ((4, 8), (8, 10), (10, 13), (13, 18), (18, 24), (24, 30), (30, 45), (55, 95))
)
_WIDE_BANDS = tuple(FilterSettings(low, high, 2) for low, high in ((8, 13), (13, 30), (30, 100)))


class _Block(NamedTuple):
    """How to make the settings of a part of a feature set: window length in s, sampling rate in Hz → blocks."""

    window_s: float
    make: Callable[[float, float], tuple[BlockSettings, ...]]
    help: str


def _power(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    return (PowerSettings((_LOW_PASS,), to_samples(window_s, sfreq), log=True),)


def _bands(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    """Pfurtscheller and Lopes da Silva 1999, doi:10.1016/S1388-2457(99)00141-8."""
    return (PowerSettings(_BANDS, to_samples(window_s, sfreq), log=True),)


def _low_pass_bank(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    return (AmplitudeSettings(_fitting(_LOW_PASS_BANK, sfreq), reference="average"),)


def _mrcp(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    """Shibasaki and Hallett 2006, doi:10.1016/j.clinph.2006.04.025: slow, and widest over the central channels."""
    n_window = to_samples(window_s, sfreq)
    delays = tuple(np.unique(np.arange(N_DELAYS) * n_window // N_DELAYS).tolist())
    n_cosines = min(N_COSINES, len(delays))
    low = (FilterSettings(None, 10.0, 2),)
    return tuple(AmplitudeSettings(low, delays, n_cosines, reference) for reference in ("average", "laplacian"))


def _erd(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    return (
        PowerSettings(_fitting(_NARROW_BANDS, sfreq), to_samples(window_s, sfreq), log=True, reference="laplacian"),
    )


def _wide(window_s: float, sfreq: float) -> tuple[BlockSettings, ...]:
    return (PowerSettings(_fitting(_WIDE_BANDS, sfreq), to_samples(window_s, sfreq), log=True, reference="average"),)


BLOCKS = {
    "power": _Block(1.0, _power, "log power below 30 Hz"),
    "bands": _Block(1.0, _bands, "log power in theta, mu and beta"),
    "lowpass": _Block(1.0, _low_pass_bank, "amplitudes below 0.5 to 30 Hz, average reference"),
    "mrcp": _Block(1.0, _mrcp, "course of the slow potentials, average reference and Laplacian"),
    "erd": _Block(0.5, _erd, "log power in narrow bands from theta to gamma, Laplacian"),
    "wide": _Block(0.5, _wide, "log power in mu, beta and gamma, average reference"),
}
FEATURE_SETS = (*BLOCKS, "2019")
# What `auto` tries, in this order; of equal ones it takes the first, so the simpler.
CANDIDATES = ("power", "bands", "lowpass", "erd", "erd+adaptive", "mrcp", "mrcp+wide", "mrcp+erd", "mrcp+erd+adaptive")


def make_features(
    name: str,
    sfreq: float,
    ch_names: Sequence[str],
    *,
    hop_s: float = HOP_S,
    window_s: float | None = None,
) -> FeatureSettings:
    """Return the settings of a feature set.

    Parameters
    ----------
    name : str
        One of `FEATURE_SETS`, or several joined with ``+``; ``adaptive`` among them adds the normaliser. ``2019``
        stands alone.
    sfreq : float
        Sampling rate in Hz.
    ch_names : sequence of str
        Channels; the Laplacian reference needs to know where they sit.
    hop_s : float
        Seconds between decisions; ``2019`` decides at every sample.
    window_s : float, optional
        Length of every window in s; each block's own by default.

    Returns
    -------
    FeatureSettings

    Raises
    ------
    InputError
        No feature set has this name, a name occurs twice, no filter fits the sampling rate, or a channel's place on the
        head is not known where a Laplacian needs it.

    Examples
    --------
    >>> make_features("power", 500.0, ["C3", "C4"]).hop_samples
    10
    >>> [block.kind for block in make_features("lowpass+bands", 500.0, ["C3", "C4"]).blocks]
    ['amplitude', 'power']
    """
    if name == "2019":
        block = PowerSettings((_LOW_PASS,), to_samples(window_s or 1.0, sfreq), log=False)
        return FeatureSettings("2019", (block,), 1)
    parts = name.split("+")
    unknown = [part for part in parts if part not in BLOCKS and part != ADAPTIVE]
    if unknown or len(set(parts)) < len(parts) or parts == [ADAPTIVE]:
        raise InputError(
            f"--features {name}: {_describe_fault(unknown, parts)}; choose from {', '.join(FEATURE_SETS)} or auto, "
            f"join them with + (2019 stands alone), and add +{ADAPTIVE} for a running normaliser"
        )
    made = [BLOCKS[part] for part in parts if part != ADAPTIVE]
    blocks = tuple(block for one in made for block in one.make(window_s or one.window_s, sfreq))
    return FeatureSettings(
        name,
        blocks,
        to_samples(hop_s, sfreq),
        neighbours=(
            nearest_channels(ch_names, name) if any(block.reference == "laplacian" for block in blocks) else ()
        ),
        normaliser=NormaliserSettings(TIME_CONSTANT_S) if ADAPTIVE in parts else None,
    )


def nearest_channels(ch_names: Sequence[str], features: str) -> tuple[tuple[int, ...], ...]:
    """Return for each channel the four that are nearest to it on the head.

    Parameters
    ----------
    ch_names : sequence of str
        Names in the 10-05 system.
    features : str
        Name of the feature set that needs them, for the message.

    Returns
    -------
    tuple of tuple of int
        Indices into ``ch_names``, nearest first.

    Raises
    ------
    InputError
        Fewer than five channels, or one whose place is not known.

    Examples
    --------
    >>> nearest_channels(["C3", "C1", "Cz", "C2", "C4"], "erd")[0]
    (1, 2, 3, 4)
    """
    places = make_montage(ch_names).get_positions()["ch_pos"]
    unknown = [name for name in ch_names if name not in places]
    if unknown or len(ch_names) <= N_NEIGHBOURS:
        problem = (
            f"no place on the head is known of {', '.join(unknown)}"
            if unknown
            else f"it needs more than {N_NEIGHBOURS} channels, found {len(ch_names)}"
        )
        can_leave_out = unknown and len(ch_names) - len(unknown) > N_NEIGHBOURS
        advice = f"leave out with --exclude {','.join(unknown)}, or choose" if can_leave_out else "choose"
        raise InputError(
            f"--features {features}: {problem}: {advice} features without a Laplacian: power, bands, lowpass or wide"
        )
    positions = np.array([places[name] for name in ch_names])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return tuple(map(tuple, np.argsort(distance, axis=1, kind="stable")[:, :N_NEIGHBOURS].tolist()))


def _fitting(filters: tuple[FilterSettings, ...], sfreq: float) -> tuple[FilterSettings, ...]:
    """Return the filters that lie below half the sampling rate."""
    return tuple(one for one in filters if max(one.l_freq or 0, one.h_freq or 0) < sfreq / 2) or filters[:1]


def _describe_fault(unknown: Sequence[str], parts: Sequence[str]) -> str:
    if unknown:
        return (
            f"there is no {unknown[0] or 'name before or after a +'}" if unknown[0] != "2019" else "2019 stands alone"
        )
    return f"{ADAPTIVE} needs features to normalise" if len(parts) == 1 else "a name occurs twice"
