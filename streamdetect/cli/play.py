"""``streamdetect play``: a recording as a live LSL stream."""

from __future__ import annotations

import math
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamdetect.cli.console import check_outputs, say, write_json
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal
from streamdetect.errors import InputError

if TYPE_CHECKING:
    from streamdetect.player import PlayableRecording, PlaySummary
    from streamdetect.sources.fault_plan import FaultPlan

RANDOM = "random"


class Dtype(StrEnum):
    """How the samples travel."""

    float32 = "float32"
    float64 = "float64"


def play(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Any file that MNE reads, XDF, or CSV pair.")],
    speed: Annotated[float, typer.Option(help="How many times faster than real time; inf: as fast as it goes.")] = 1.0,
    name: Annotated[str | None, typer.Option(help="Name of the stream; the file's name without it.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="float32 sends microvolts, float64 volts bit for bit.")] = Dtype.float32,
    wait: Annotated[
        float,
        typer.Option(help="Seconds to wait for a receiver before the first sample; then it starts anyway.", min=0.0),
    ] = 30.0,
    faults: Annotated[
        Path | None,
        typer.Option(metavar="PLAN.toml", help="Play it with the faults of this plan; random makes one by chance."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the faults' noise, in place of the plan's; of a random plan.", min=0)
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Play a recording as a live LSL stream.

    Its events go out as the stream NAME-markers.
    """
    from streamdetect.sources.recording import read_recording

    check_outputs((recording, faults), json=json)
    if seed is not None and faults is None:
        raise InputError(f"--seed {seed}: expected --faults PLAN.toml or --faults random beside it; add one of them")
    plan = None if faults is None or str(faults) == RANDOM else _read_plan(faults, seed)
    opened = read_recording(recording)
    if str(faults) == RANDOM:
        plan = _make_plan(opened, seed or 0)
    stream_live(opened, name or opened.info.name, speed=speed, dtype=dtype.value, wait=wait, plan=plan, json=json)


def stream_live(
    recording: PlayableRecording,
    name: str,
    *,
    speed: float,
    dtype: str,
    wait: float,
    plan: FaultPlan | None = None,
    json: Path | None = None,
) -> None:
    """Play a recording with its progress on stderr; end with code 130 where somebody stops it."""
    from streamdetect.cli.status_line import StatusLine
    from streamdetect.player import play as play_recording
    from streamdetect.sources.faults import apply_faults
    from streamdetect.sources.lsl_config import quiet_liblsl

    if not speed > 0:
        raise InputError(f"--speed {speed:g}: expected a number above 0")
    info = recording.info
    if plan is not None:
        apply_faults(plan, (), info)  # refuse one for other channels before anything is said
    quiet_liblsl()
    say(f"Stream {name}: {info.n_channels} channels, {info.sfreq:g} Hz, {dtype}.")
    if wait > 0:
        say(f"Waiting up to {wait:g} s for a receiver; Ctrl-C stops, --wait 0 starts at once.")

    def describe(n_sent: int, n_all: int) -> str:
        return f"{n_sent / info.sfreq:.1f} of {n_all / info.sfreq:.1f} s sent"

    with stop_on_signal() as stop, StatusLine() as line:
        summary = play_recording(
            recording,
            name=name,
            speed=speed,
            dtype=dtype,
            plan=plan,
            wait_for_consumer_s=None if math.isinf(wait) else wait,
            stop=stop,
            on_progress=lambda n_sent, n_all: line.show(lambda: describe(n_sent, n_all)),
        )
    tell = say if str(json) == "-" else typer.echo
    end = "" if summary.complete else "; stopped before the end"
    tell(f"{summary.n_samples} samples ({summary.seconds:.1f} s) and {summary.n_markers} markers sent{end}.")
    if plan is not None:
        tell(_describe_faults(plan.seed, summary))
    write_json(json, {"stream": name, "seed": None if plan is None else plan.seed, **asdict(summary)})
    if not summary.complete:
        raise typer.Exit(EXIT_INTERRUPTED)


def _read_plan(path: Path, seed: int | None) -> FaultPlan:
    from streamdetect.sources.fault_plan import read_plan

    plan = read_plan(path)
    return plan if seed is None else plan.model_copy(update={"seed": seed})


def _make_plan(recording: PlayableRecording, seed: int) -> FaultPlan:
    """Make a plan by chance, and print it so that it can be kept and changed."""
    from streamdetect.sources.fault_plan import plan_to_toml
    from streamdetect.sources.random_faults import random_plan

    plan = random_plan(seed, recording.n_times / recording.info.sfreq, recording.info.ch_names)
    say(plan_to_toml(plan) + "\n")
    return plan


def _describe_faults(seed: int, summary: PlaySummary) -> str:
    lines = [f"Fault plan, seed {seed}: {summary.n_lost} samples lost in between, {summary.n_repeated} sent twice."]
    for kind, count in summary.faults.items():
        lines.append(f"  {kind}: {count.n_faults}" + (f", {count.n_samples} samples" if count.n_samples else ""))
    return "\n".join(lines)
