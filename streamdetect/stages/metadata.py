"""The JSON document that a model file carries: what it says, and the checks that it passes before it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, model_validator

from streamdetect.model_file import Count, Document, Name, Sha256, check_created, read_document
from streamdetect.settings import (
    ChannelHealthSettings,
    DecisionSettings,
    EventSettings,
    FeatureSettings,
    HealthSettings,
)

METADATA_KEY = "streamdetect"
SCHEMA_VERSION = 2
MIN_BLOCK_S = 0.25  # of a channel rule: a shorter block does not resolve 1.5 to 30 Hz, nor the mains
MAX_SETTING_S = 3600.0  # no window, gap, dwell or refractory time is longer; memory grows with them


class TrainingRecording(Document):
    """A recording that a model was trained on: its file name, SHA-256, and windows in all and for each event."""

    name: Name
    sha256: Sha256
    n_windows: Count
    n_positive: dict[Name, Count]


class Training(Document):
    """Where a model comes from.

    Parameters
    ----------
    recordings : tuple of TrainingRecording
        Every recording that was trained on.
    features : str
        Name of the feature set, as asked for; ``auto`` chose ``features.name``.
    features_tried : dict of str to float
        What ``auto`` tried: the held-out mean AUC of each feature set; empty where a person chose.
    stride_samples : int
        Distance between the windows that were trained on.
    seed : int
        Seed of every random choice.
    versions : dict of str to str
        Package versions.
    command : str
        What was typed; empty where there was no command.
    """

    recordings: tuple[TrainingRecording, ...]
    features: Name
    features_tried: dict[Name, float] = Field(default_factory=dict)
    stride_samples: Annotated[int, Field(ge=1)]
    seed: int
    versions: dict[Name, str]
    command: str = ""


class Clock(Document):
    """The clock-only control: how often each event was going on, by time since the start of a recording.

    Parameters
    ----------
    bin_s : float
        Width of a bin in s.
    rates : dict of str to tuple of float
        For each event the rate of its label in each bin, 0 to 1; empty where it was not measured.
    """

    bin_s: Annotated[float, Field(gt=0)] = 1.0
    rates: dict[Name, tuple[Annotated[float, Field(ge=0, le=1)], ...]] = Field(default_factory=dict)


class ModelMetadata(Document):
    """The JSON document in a model file: all that is needed to run it, and where it comes from.

    Parameters
    ----------
    schema_version : int
        Always 2.
    name : str
        What a person calls the model.
    created : str
        ISO 8601 date and time.
    sfreq : float
        Sampling rate in Hz.
    ch_names : tuple of str
        Channels, in the order of the features.
    health, features, decisions
        Settings of the stages; one of ``decisions`` an event.
    feature_names : tuple of str
        As `name_features` gives them.
    events : tuple of EventSettings
        What is detected, in the order of the graph's columns.
    members : tuple of str
        Outputs of the graph beside ``probability``, each a member of the vote.
    training : Training
        Where the model comes from.
    scores : dict
        Cross-validated scores, and the ``protocol`` that gave them; empty where there are none.
    patterns : dict of str to dict of str to tuple of float
        For each member and event a value a feature, for scalp maps; may be empty.
    clock : Clock
        The clock-only control; may be empty.
    """

    schema_version: Literal[2] = 2
    name: Name
    created: str
    sfreq: Annotated[float, Field(gt=0)]
    ch_names: Annotated[tuple[Name, ...], Field(min_length=1)]
    health: HealthSettings
    features: FeatureSettings
    feature_names: tuple[Name, ...]
    events: Annotated[tuple[EventSettings, ...], Field(min_length=1)]
    decisions: tuple[DecisionSettings, ...]
    members: tuple[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], ...] = ("lda", "rf", "lr")
    training: Training
    scores: dict[str, JsonValue] = Field(default_factory=dict)
    patterns: dict[str, dict[str, tuple[float, ...]]] = Field(default_factory=dict)
    clock: Clock = Clock()

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the events, in the order of the graph's columns."""
        return tuple(event.name for event in self.events)

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Threshold of each event, shape (n_events,)."""
        return np.array([decision.threshold for decision in self.decisions])

    @model_validator(mode="after")
    def _check_fit(self) -> ModelMetadata:
        """Check what no field can know alone; each message starts with the field's name."""
        check_created(self.created)
        _check_unique("ch_names", self.ch_names)
        _check_unique("events", self.event_names)
        _check_unique("members", self.members)
        if not {"probability", "features"}.isdisjoint(self.members):
            raise ValueError("members: 'probability' and 'features' are names of the vote's own input and output")
        for place, block in enumerate(self.features.blocks):
            for index, one in enumerate(block.filters):
                if max(one.l_freq or 0, one.h_freq or 0) >= self.sfreq / 2:
                    where = f"features.blocks[{place}].filters[{index}]"
                    raise ValueError(f"{where}: {one.label} is not below half of sfreq {self.sfreq:g}")
        _check_neighbours(self.features.neighbours, len(self.ch_names))
        if self.health.channels:
            _check_channel_rules(self.health.channels, len(self.ch_names), self.sfreq)
        normaliser = self.features.normaliser
        if normaliser is not None and len(normaliser.mean) != len(self.feature_names):
            expected_n, found_n = len(self.feature_names), len(normaliser.mean)
            raise ValueError(f"features.normaliser: expected a mean of {expected_n} features, found {found_n}")
        expected = name_features(self.features, self.ch_names)
        if self.feature_names != expected:
            raise ValueError(_describe_difference("feature_names", self.feature_names, expected))
        longest = max(
            *(self.features.window_samples, self.features.hop_samples),
            *(self.health.max_gap_samples, self.health.flat_samples),
            self.health.channels.block_samples if self.health.channels else 0,
            *(n for rule in self.decisions for n in (rule.dwell_samples, rule.refractory_samples)),
        )
        if longest > MAX_SETTING_S * self.sfreq:
            raise ValueError(f"a setting of {longest} samples is longer than {MAX_SETTING_S:g} s")
        if len(self.decisions) != len(self.events):
            raise ValueError(f"decisions: expected {len(self.events)}, one an event, found {len(self.decisions)}")
        for index, recording in enumerate(self.training.recordings):
            _check_known(f"training.recordings[{index}].n_positive", recording.n_positive, self.event_names)
        _check_known("clock.rates", self.clock.rates, self.event_names)
        _check_known("patterns", self.patterns, self.members)
        for member, by_event in self.patterns.items():
            _check_known(f"patterns.{member}", by_event, self.event_names)
            for event, values in by_event.items():
                if len(values) != len(expected):
                    raise ValueError(f"patterns.{member}.{event}: expected {len(expected)} values, found {len(values)}")
        if self.scores and not isinstance(self.scores.get("protocol"), str):
            raise ValueError("scores.protocol: scores must say which protocol gave them")
        self.to_json()  # a NaN in the settings of a stage is no JSON
        return self

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelMetadata:
        """Read the document, and refuse one that is not understood in full.

        Parameters
        ----------
        text : str or bytes
            JSON.

        Returns
        -------
        ModelMetadata

        Raises
        ------
        ModelError
            No JSON, a newer schema, or a field that is missing, unknown or out of range; one line that names it.
        """
        return read_document(cls, text, SCHEMA_VERSION)


def name_features(features: FeatureSettings, ch_names: Iterable[str]) -> tuple[str, ...]:
    """Name each feature after what is computed and its channel, in the order in which they are computed.

    Parameters
    ----------
    features : FeatureSettings
        The blocks.
    ch_names : iterable of str
        Channel names.

    Returns
    -------
    tuple of str
        Block by block, within a block what each channel gives, in its order, within that channel by channel.

    Examples
    --------
    >>> from streamdetect.settings import FilterSettings, PowerSettings
    >>> block = PowerSettings((FilterSettings(None, 30.0),), window_samples=500, log=False)
    >>> name_features(FeatureSettings("2019", (block,), hop_samples=10), ["C3", "C4"])
    ('0-30 Hz C3', '0-30 Hz C4')
    """
    channels = tuple(ch_names)
    return tuple(f"{label} {channel}" for label in features.labels for channel in channels)


def _check_channel_rules(rules: ChannelHealthSettings, n_channels: int, sfreq: float) -> None:
    found = len(rules.positions)
    if found != n_channels:
        raise ValueError(f"health.channels.positions: expected {n_channels}, one a channel, found {found}")
    block_s = rules.block_samples / sfreq
    if block_s < MIN_BLOCK_S:
        raise ValueError(f"health.channels.block_samples: expected at least {MIN_BLOCK_S:g} s, found {block_s:g} s")


def _check_neighbours(neighbours: Sequence[Sequence[int]], n_channels: int) -> None:
    if neighbours and len(neighbours) != n_channels:
        raise ValueError(f"features.neighbours: expected those of {n_channels} channels, found {len(neighbours)}")
    for channel, around in enumerate(neighbours):
        if len(set(around)) < len(around) or not all(0 <= one < n_channels and one != channel for one in around):
            raise ValueError(f"features.neighbours[{channel}]: expected other channels of the model, each once")


def _check_unique(field: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{field}: {repeated[0]!r} occurs more than once")


def _check_known(field: str, names: Iterable[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{field}: {unknown[0]!r} is unknown, expected some of {', '.join(known) or 'none'}")


def _describe_difference(field: str, found: Sequence[str], expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"{field}: expected {len(expected)}, found {len(found)}"
    index = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"{field}[{index}]: expected {expected[index]!r}, found {found[index]!r}"
