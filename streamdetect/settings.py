"""The settings of each stage, as one ONNX file carries them.

Plain frozen dataclasses: the stages take them, pydantic validates them when a file is read (`stages/metadata.py`).
All durations are stored in samples, so that a setting means the same whatever the chunk size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

SFREQ_TOLERANCE = 1e-3  # relative; clocks of amplifiers differ by less, sampling rates that people choose by more

# How channels are referenced: as the recording has them; to their average (CAR); or to the mean of the four nearest of
# each, the small Laplacian of McFarland et al. 1997, doi:10.1016/S0013-4694(97)00022-2.
Reference = Literal["as recorded", "average", "laplacian"]
REFERENCES: tuple[str, ...] = get_args(Reference)

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
class ChannelHealthSettings:
    """How bad channels are found, and how many are repaired.

    Parameters
    ----------
    block_samples : int
        Channels are judged block by block. A multiple of the hop lets decisions keep their grid when one is repaired.
    max_repaired : int
        Decisions are invalid while more channels than these are bad; 0 repairs none.
    positions : tuple of (float, float, float) or None
        For each channel its direction from the centre of the head (x to the right, y to the nose, z to the vertex;
        of any length); None where it is not known: such a channel cannot be repaired.
    lag_samples : int
        How long after its block a verdict comes into force, less than a block: time to judge it between two chunks. A
        multiple of the hop, too.
    """

    block_samples: int
    max_repaired: int
    positions: tuple[tuple[float, float, float] | None, ...]
    lag_samples: int = 0

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if self.block_samples < 1:
            raise ValueError(f"block_samples must be at least 1, found {self.block_samples}")
        if not 0 <= self.lag_samples < self.block_samples:
            raise ValueError(f"lag_samples must be 0 to {self.block_samples - 1}, found {self.lag_samples}")
        if self.max_repaired < 0:
            raise ValueError(f"max_repaired must not be negative, found {self.max_repaired}")
        if any(one is not None and not any(one) for one in self.positions):
            raise ValueError("positions: a direction needs a length; null stands for one that is not known")


@dataclass(frozen=True)
class HealthSettings:
    """When samples are not to be trusted.

    Parameters
    ----------
    max_gap_samples : int
        A longer run of lost or non-finite samples resets filters and windows.
    flat_samples : int
        A channel whose value has not changed for this many samples is flat, and decisions are invalid; 0 switches the
        rule off. Not looked at where ``channels`` is given: its rules know flat channels, too.
    channels : ChannelHealthSettings or None
        Rules that find bad channels, to be repaired; None for none.
    """

    max_gap_samples: int
    flat_samples: int
    channels: ChannelHealthSettings | None = None

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
class PowerSettings:
    """Average power of each filter's output of each channel in a sliding window.

    Parameters
    ----------
    filters : tuple of FilterSettings
        The bank; features are ordered filter by filter, within a filter channel by channel.
    window_samples : int
        Length of the window.
    log : bool
        Take the base-10 logarithm of the power (dB / 10 re 1 µV²); raw power in µV² otherwise.
    reference : str
        One of `REFERENCES`, applied before the filters.
    """

    filters: tuple[FilterSettings, ...]
    window_samples: int
    log: bool
    reference: Reference = "as recorded"
    kind: Literal["power"] = "power"

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        _check_bank(self.filters, self.reference)
        if self.window_samples < 1:
            raise ValueError("window_samples must be at least 1")

    @property
    def labels(self) -> tuple[str, ...]:
        """What each channel gives, in order."""
        return tuple(one.label + _reference_suffix(self.reference) for one in self.filters)

    @property
    def description(self) -> str:
        """The block in words."""
        unit = "log10 of the average power" if self.log else "average power"
        return f"{unit} in {_list_bands(self.filters)}, referenced {self.reference}"


@dataclass(frozen=True)
class AmplitudeSettings:
    """The filtered signal itself, now and at chosen delays, in µV.

    Parameters
    ----------
    filters : tuple of FilterSettings
        The bank.
    delays_samples : tuple of int
        How long before the decision each value is taken; ascending, 0 is the decision's own sample.
    n_cosines : int
        0 for the values themselves; otherwise so many coefficients of the orthonormal cosine transform (DCT-II) over
        the delays, from the latest value to the earliest: level, slope, curvature and so on. They are less correlated
        than the values, so that a shrunken covariance loses less of the slow potentials' shape.
    reference : str
        One of `REFERENCES`, applied before the filters.

    Notes
    -----
    Features are ordered filter by filter, within a filter by delay or cosine, within those channel by channel.
    """

    filters: tuple[FilterSettings, ...]
    delays_samples: tuple[int, ...] = (0,)
    n_cosines: int = 0
    reference: Reference = "as recorded"
    kind: Literal["amplitude"] = "amplitude"

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        _check_bank(self.filters, self.reference)
        if not self.delays_samples or min(self.delays_samples) < 0:
            raise ValueError("delays_samples needs at least one delay, and none below 0")
        if sorted(set(self.delays_samples)) != list(self.delays_samples):
            raise ValueError("delays_samples must be ascending and different")
        if not 0 <= self.n_cosines <= len(self.delays_samples):
            raise ValueError(f"n_cosines must be 0 to the number of delays, found {self.n_cosines}")

    @property
    def window_samples(self) -> int:
        """Samples that a feature looks back on, its own included; the filters' memory comes on top."""
        return self.delays_samples[-1] + 1

    @property
    def labels(self) -> tuple[str, ...]:
        """What each channel gives, in order."""
        taken = (
            [f"cosine {k}" for k in range(self.n_cosines)]
            if self.n_cosines
            else [f"{n} samples before" if n else "now" for n in self.delays_samples]
        )
        suffix = _reference_suffix(self.reference)
        return tuple(f"{one.label} amplitude {each}{suffix}" for one in self.filters for each in taken)

    @property
    def description(self) -> str:
        """The block in words."""
        what = (
            f"{self.n_cosines} cosine coefficients over {len(self.delays_samples)} values"
            if self.n_cosines
            else f"value now and at {len(self.delays_samples) - 1} delays"
            if len(self.delays_samples) > 1
            else "value now"
        )
        return f"amplitude in {_list_bands(self.filters)}: {what}, referenced {self.reference}"


BlockSettings = PowerSettings | AmplitudeSettings


@dataclass(frozen=True)
class NormaliserSettings:
    """A running mean and variance of each feature, against drift.

    Parameters
    ----------
    time_constant_s : float
        After so many seconds of valid signal a value's weight in mean and variance has fallen to 1/e.
    mean, variance : tuple of float
        Where each feature's mean and variance begin: those of the training windows. Empty before training.
    """

    time_constant_s: float
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if not self.time_constant_s > 0:
            raise ValueError(f"time_constant_s must be above 0, found {self.time_constant_s}")
        if len(self.mean) != len(self.variance):
            raise ValueError("mean and variance must have one value a feature each")
        if any(value < 0 for value in self.variance):
            raise ValueError("variance must not be negative")


@dataclass(frozen=True)
class FeatureSettings:
    """What is computed of the signal for each decision.

    Parameters
    ----------
    name : str
        Name of the feature set, such as ``power`` or ``2019``.
    blocks : tuple of PowerSettings or AmplitudeSettings
        Their features one after another.
    hop_samples : int
        Distance between decisions.
    neighbours : tuple of tuple of int
        For each channel the indices of those around it, for the Laplacian reference; empty where no block uses it.
    normaliser : NormaliserSettings or None
        Applied to all features; None leaves them as they are.
    """

    name: str
    blocks: tuple[Annotated[BlockSettings, Field(discriminator="kind")], ...]
    hop_samples: int
    neighbours: tuple[tuple[int, ...], ...] = ()
    normaliser: NormaliserSettings | None = None

    __pydantic_config__: ClassVar[dict] = _STRICT

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a feature set needs at least one block")
        if self.hop_samples < 1:
            raise ValueError("hop_samples must be at least 1")
        if bool(self.neighbours) != any(block.reference == "laplacian" for block in self.blocks):
            raise ValueError("neighbours go with the laplacian reference, and it with them")
        if any(not each for each in self.neighbours):
            raise ValueError("neighbours: each channel needs at least one")

    @property
    def window_samples(self) -> int:
        """Samples that a decision looks back on, beside the filters' memory."""
        return max(block.window_samples for block in self.blocks)

    @property
    def filters(self) -> tuple[FilterSettings, ...]:
        """Every filter of every block."""
        return tuple(one for block in self.blocks for one in block.filters)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each channel gives, in order: the features are these times the channels."""
        return tuple(label for block in self.blocks for label in block.labels)


def _check_bank(filters: tuple[FilterSettings, ...], reference: str) -> None:
    if not filters:
        raise ValueError("a block needs at least one filter")
    if reference not in REFERENCES:
        raise ValueError(f"reference must be one of {', '.join(REFERENCES)}, found {reference}")


def _reference_suffix(reference: str) -> str:
    return "" if reference == "as recorded" else f" {reference}"


def _list_bands(filters: tuple[FilterSettings, ...]) -> str:
    orders = {one.order for one in filters}
    if len(orders) == 1:
        return f"{', '.join(one.label for one in filters)} (order {orders.pop()})"
    return ", ".join(f"{one.label} (order {one.order})" for one in filters)


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
