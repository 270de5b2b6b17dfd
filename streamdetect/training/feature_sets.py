"""The feature sets that training knows by name."""

from __future__ import annotations

from collections.abc import Callable

from streamdetect.errors import InputError
from streamdetect.settings import FeatureSettings, FilterSettings, to_samples

_LOW_PASS = FilterSettings(None, 30.0)
_BANDS = tuple(FilterSettings(low, high, 2) for low, high in ((4.0, 8.0), (8.0, 13.0), (13.0, 30.0)))


def _features_2019(sfreq: float) -> FeatureSettings:
    """Raw average power below 30 Hz, a decision at every sample (Oschmann 2019; see docs/METHOD.md)."""
    return FeatureSettings("2019", (_LOW_PASS,), to_samples(1.0, sfreq), 1, log=False)


def _power(sfreq: float) -> FeatureSettings:
    """Logarithm of the average power below 30 Hz, 50 decisions a second."""
    return FeatureSettings("power", (_LOW_PASS,), to_samples(1.0, sfreq), to_samples(0.02, sfreq), log=True)


def _bands(sfreq: float) -> FeatureSettings:
    """Logarithm of the average power in theta, mu and beta, where movement shows.

    Pfurtscheller and Lopes da Silva 1999, doi:10.1016/S1388-2457(99)00141-8.
    """
    return FeatureSettings("bands", _BANDS, to_samples(1.0, sfreq), to_samples(0.02, sfreq), log=True)


FEATURE_SETS: dict[str, Callable[[float], FeatureSettings]] = {
    "power": _power,
    "bands": _bands,
    "2019": _features_2019,
}


def make_features(name: str, sfreq: float) -> FeatureSettings:
    """Return the settings of a feature set.

    Parameters
    ----------
    name : str
        ``power``, ``bands`` or ``2019``.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    FeatureSettings

    Raises
    ------
    InputError
        No feature set has this name.

    Examples
    --------
    >>> make_features("power", 500.0).hop_samples
    10
    """
    if name not in FEATURE_SETS:
        raise InputError(f"--features {name}: no such feature set; choose from {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name](sfreq)
