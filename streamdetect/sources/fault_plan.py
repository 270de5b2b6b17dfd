"""A fault plan: what goes wrong in a stream that is played, and when.

A plan is a TOML file with a seed and a table for each fault::

    seed = 7

    [[faults]]
    kind = "gap"
    onset = 10.0
    duration = 2.0

    [[faults]]
    kind = "line-noise"
    onset = 15.0
    duration = 10.0
    channels = ["C3", "Cz"]
    amplitude_uv = 80.0

Onsets and durations are in s of the recording, counted from its first sample. Without ``channels`` a fault befalls all.
"""

from __future__ import annotations

import json
import tomllib
from itertools import pairwise
from os import PathLike
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamdetect.errors import InputError

Channels = tuple[Annotated[str, Field(min_length=1)], ...]
Duration = Annotated[float, Field(gt=0)]
Amplitude = Annotated[float, Field(gt=0)]


class _Table(BaseModel):
    """A table of the file: immutable, finite, and without a field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Fault(_Table):
    onset: Annotated[float, Field(ge=0)]


class Gap(_Fault):
    """Samples are left out: a cable is pulled, a network drops packets."""

    kind: Literal["gap"] = "gap"
    duration: Duration


class Duplicates(_Fault):
    """A stretch is sent again right after its end, with the same time stamps; receivers here know 10 s again."""

    kind: Literal["duplicates"] = "duplicates"
    duration: Duration


class ClockJump(_Fault):
    """The time stamps jump ahead by ``jump_s``, or back where it is negative, and stay there.

    A jump ahead of less than 10 minutes looks like lost samples: time stamps do not tell one from the other.
    """

    kind: Literal["clock-jump"] = "clock-jump"
    jump_s: float


class Restart(_Fault):
    """The stream leaves the network and comes back after ``duration``; what was due meanwhile is lost.

    It comes back with the same or a new source id, and with the channels ``ch_names`` of the recording, where given.
    """

    kind: Literal["restart"] = "restart"
    duration: Duration
    source_id: Literal["same", "new"] = "same"
    ch_names: Channels = ()


class Drift(_Fault):
    """Samples come faster than the nominal rate by ``ppm`` parts in a million, or slower where it is negative."""

    kind: Literal["drift"] = "drift"
    duration: Duration
    ppm: Annotated[float, Field(gt=-500_000, lt=1_000_000)]


class NotANumber(_Fault):
    """Samples are NaN."""

    kind: Literal["nan"] = "nan"
    duration: Duration
    channels: Channels = ()


class Flat(_Fault):
    """A channel is held at ``level_uv``: an electrode that has come off."""

    kind: Literal["flat"] = "flat"
    duration: Duration
    channels: Channels = ()
    level_uv: float = 0.0


class Railed(_Fault):
    """A channel sits at the end of the amplifier's range, by default that of 16 bits of 0.1 µV."""

    kind: Literal["railed"] = "railed"
    duration: Duration
    channels: Channels = ()
    level_uv: float = 3276.7


class LineNoise(_Fault):
    """The mains' hum: a sine of ``amplitude_uv`` (its peak) is added."""

    kind: Literal["line-noise"] = "line-noise"
    duration: Duration
    channels: Channels = ()
    amplitude_uv: Amplitude
    frequency: Annotated[float, Field(gt=0)] = 50.0


class Muscle(_Fault):
    """Noise above 20 Hz of ``amplitude_uv`` (its standard deviation) is added, another in each channel."""

    kind: Literal["muscle"] = "muscle"
    duration: Duration
    channels: Channels = ()
    amplitude_uv: Amplitude


class Steps(_Fault):
    """The level jumps up and down by ``amplitude_uv`` in turn, every ``interval_s``: a loose contact."""

    kind: Literal["steps"] = "steps"
    duration: Duration
    channels: Channels = ()
    amplitude_uv: Amplitude
    interval_s: Duration = 1.0


StreamFault = Gap | Duplicates | ClockJump | Restart | Drift
ChannelFault = NotANumber | Flat | Railed | LineNoise | Muscle | Steps
Fault = StreamFault | ChannelFault


class FaultPlan(_Table):
    """What goes wrong, and when.

    Parameters
    ----------
    seed : int
        Seed of the noise, 0 or above.
    faults : tuple of Fault
        Those of channels may overlap as they like. Of gaps, duplicates, clock jumps and restarts each is over before
        the next begins, and so it is with drifts.

    Examples
    --------
    >>> FaultPlan(faults=(Gap(onset=10.0, duration=2.0),)).seed
    0
    """

    seed: Annotated[int, Field(ge=0)] = 0
    faults: tuple[Annotated[Fault, Field(discriminator="kind")], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> FaultPlan:
        for kinds in ((Gap, Duplicates, ClockJump, Restart), (Drift,)):
            one_by_one = sorted((fault for fault in self.faults if isinstance(fault, kinds)), key=lambda f: f.onset)
            for before, after in pairwise(one_by_one):
                if after.onset < end_of(before):
                    raise ValueError(
                        f"faults: {after.kind} at {after.onset:g} s begins before {before.kind} at {before.onset:g} s "
                        f"is over; expected it at {end_of(before):g} s or later"
                    )
        return self


def end_of(fault: Fault) -> float:
    """Return when a fault is over, in s."""
    return fault.onset if isinstance(fault, ClockJump) else fault.onset + fault.duration


def span_of(fault: Fault, sfreq: float) -> tuple[int, int]:
    """Return a fault's first sample, and the first after it."""
    return round(fault.onset * sfreq), round(end_of(fault) * sfreq)


def read_plan(path: str | PathLike[str]) -> FaultPlan:
    """Read a plan from a TOML file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    FaultPlan

    Raises
    ------
    InputError
        The file cannot be read, is no TOML, or a field in it is missing, unknown or out of range.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise InputError(f"fault plan: {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"fault plan: {path} is not valid TOML: {error}") from error
    try:
        return FaultPlan.model_validate(document)
    except ValidationError as error:
        raise InputError(f"fault plan: {path}: {_describe_invalid(error)}") from error


def _describe_invalid(error: ValidationError) -> str:
    """Say in one line which field is at fault, and why."""
    first = error.errors(include_url=False)[0]
    where = "".join(f" {part + 1}" if isinstance(part, int) else f" {part}" for part in first["loc"])
    where = where.lstrip().replace("faults ", "fault ", 1)
    what = first["msg"].removeprefix("Value error, ")
    found = first["input"]
    if isinstance(found, str | int | float) and first["type"] != "extra_forbidden":
        what += f", found {found!r}"
    return f"{where}: {what}" if where else what


def plan_to_toml(plan: FaultPlan) -> str:
    """Write a plan as the TOML from which `read_plan` makes the same plan.

    Examples
    --------
    >>> print(plan_to_toml(FaultPlan(seed=1, faults=(Flat(onset=2.0, duration=3.0, channels=("C3",)),))))
    seed = 1
    <BLANKLINE>
    [[faults]]
    kind = "flat"
    onset = 2.0
    duration = 3.0
    channels = ["C3"]
    """
    tables = [f"seed = {plan.seed}"]
    for fault in plan.faults:
        fields = {"kind": fault.kind} | fault.model_dump(mode="json", exclude_defaults=True)
        # Numbers, texts and lists of texts are written in TOML as they are in JSON.
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
        tables.append("\n".join(["[[faults]]", *lines]))
    return "\n\n".join(tables)
