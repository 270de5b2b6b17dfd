"""The health document of a monitor, as it comes over LSL."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from streamdetect.errors import InputError


class _Strict(BaseModel):  # about what is known: fields that a later version adds are passed over
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Delay(_Strict):
    """From a sample to its decision, in ms."""

    median: float | None
    p99: float | None


class Event(_Strict):
    """An event's threshold, and how often it was detected."""

    threshold: float
    detections: int


class Channel(_Strict):
    """What is wrong with a channel; nothing where there are no reasons."""

    name: str
    reasons: list[str]
    repaired: bool


class HealthDocument(_Strict):
    """What `streamdetect.status.health_document` made."""

    schema_version: Literal[1]
    state: Literal["running", "waiting", "ended"]
    model: str
    stream: str
    source_id: str
    time: float | None
    seconds: float
    sfreq: float
    effective_sfreq: float | None
    jitter_ms: float | None
    n_samples: int
    n_lost: int
    n_repeated: int
    n_gaps: int
    n_restarts: int
    n_clock_jumps: int
    seconds_since_last_sample: float
    delay_ms: Delay
    load: float
    n_decisions: int
    n_invalid: int
    reason: str
    events: dict[str, Event]
    channels: list[Channel]
    warnings: list[str]

    @property
    def bad_channels(self) -> dict[str, Channel]:
        """The channels with something wrong, by name."""
        return {channel.name: channel for channel in self.channels if channel.reasons}


def parse_health(text: str) -> HealthDocument:
    """Read a health document.

    Raises
    ------
    InputError
        It is none, or of another version; the message names the field.
    """
    try:
        return HealthDocument.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "document"
        raise InputError(
            f"health document: {field}: {first['msg']}; run the monitor and the dashboard of one version"
        ) from error
