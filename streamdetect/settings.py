"""The settings of each stage, as one ONNX file carries them.

Plain frozen dataclasses without a library behind them: the stages take them, `stages/model.py` validates them when a
file is read. All durations are stored in samples, so that a setting means the same whatever the chunk size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

SFREQ_TOLERANCE = 1e-3  # relative; clocks of amplifiers differ by less, sampling rates that people choose by more

_STRICT = {"extra": "forbid"}  # read by pydantic when a model file is validated


def to_samples(seconds: float, sfreq: float) -> int:
    """Convert a duration to samples, at least one.

    Parameters
    ----------
    seconds : float
        Duration in s.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    int
        ``max(1, round(seconds * sfreq))``.

    Examples
    --------
    >>> to_samples(0.02, 500.0), to_samples(0.0001, 500.0)
    (10, 1)
    """
    return max(1, round(seconds * sfreq))


@dataclass(frozen=True)
class HealthSettings:
    """When samples are not to be trusted.

    Parameters
    ----------
    max_gap_samples : int
        A longer run of lost or non-finite samples resets filters and windows.
    flat_samples : int
        A channel whose value has not changed for this many samples is flat; 0 switches the rule off.
    """

    max_gap_samples: int
    flat_samples: int

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if self.max_gap_samples < 0 or self.flat_samples < 0:
            raise ValueError("max_gap_samples and flat_samples must not be negative")


@dataclass(frozen=True)
class FilterSettings:
    """One causal Butterworth filter.

    Parameters
    ----------
    l_freq, h_freq : float or None
        Edges of the pass band in Hz, as MNE: only ``h_freq`` is a low-pass, only ``l_freq`` a high-pass, both a
        band-pass.
    order : int
        Order of the Butterworth prototype.
    """

    l_freq: float | None
    h_freq: float | None
    order: int = 4

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if self.l_freq is None and self.h_freq is None:
            raise ValueError("a filter needs l_freq, h_freq or both")
        if any(freq is not None and freq <= 0 for freq in (self.l_freq, self.h_freq)):
            raise ValueError("l_freq and h_freq must be above 0 Hz")
        if self.l_freq is not None and self.h_freq is not None and self.l_freq >= self.h_freq:
            raise ValueError(f"l_freq ({self.l_freq:g} Hz) must be below h_freq ({self.h_freq:g} Hz)")
        if not 1 <= self.order <= 10:
            raise ValueError(f"order must be 1 to 10, found {self.order}")

    @property
    def label(self) -> str:
        """The pass band in words, such as ``0-30 Hz``."""
        high = "" if self.h_freq is None else f"{self.h_freq:g}"
        return f"{self.l_freq or 0:g}-{high} Hz"


@dataclass(frozen=True)
class FeatureSettings:
    """Average power of each filter's output of each channel in a sliding window.

    Parameters
    ----------
    name : str
        Name of the feature set, such as ``power`` or ``2019``.
    filters : tuple of FilterSettings
        The bank; features are ordered filter by filter, within a filter channel by channel.
    window_samples, hop_samples : int
        Length of the window, and distance between decisions.
    log : bool
        Take the base-10 logarithm of the power (dB / 10 re 1 µV²); raw power in µV² otherwise.
    """

    name: str
    filters: tuple[FilterSettings, ...]
    window_samples: int
    hop_samples: int
    log: bool

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if not self.filters:
            raise ValueError("a feature set needs at least one filter")
        if self.window_samples < 1 or self.hop_samples < 1:
            raise ValueError("window_samples and hop_samples must be at least 1")


@dataclass(frozen=True)
class DecisionSettings:
    """When a probability becomes a detection.

    Parameters
    ----------
    threshold : float
        Smallest probability that counts, 0 to 1.
    dwell_samples : int
        The threshold must be held for this long; 0 detects at once.
    refractory_samples : int
        No further detection for this long after one.
    """

    threshold: float
    dwell_samples: int
    refractory_samples: int

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be 0 to 1, found {self.threshold}")
        if self.dwell_samples < 0 or self.refractory_samples < 0:
            raise ValueError("dwell_samples and refractory_samples must not be negative")


@dataclass(frozen=True)
class EventSettings:
    """An event that a model detects, under the name it has in decisions.

    Parameters
    ----------
    name : str
        Name in decisions and scores.
    descriptions : tuple of str
        The recordings' annotations that count as this event.
    """

    name: str
    descriptions: tuple[str, ...]

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if not self.name or not self.descriptions:
            raise ValueError("an event needs a name and at least one description")

    @classmethod
    def parse(cls, text: str) -> EventSettings:
        """Read ``NAME`` or ``NAME=DESCRIPTION,DESCRIPTION`` as given on the command line.

        Examples
        --------
        >>> EventSettings.parse("movement=T1,T2")
        EventSettings(name='movement', descriptions=('T1', 'T2'))
        >>> EventSettings.parse("HandStart").descriptions
        ('HandStart',)
        """
        name, has_list, listed = text.partition("=")
        descriptions = listed.split(",") if has_list else [name]
        return cls(name.strip(), tuple(part.strip() for part in descriptions if part.strip()))
