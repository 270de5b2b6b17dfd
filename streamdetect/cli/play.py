"""``streamdetect play``: a recording as a live LSL stream."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamdetect.cli.console import say
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal
from streamdetect.errors import InputError

if TYPE_CHECKING:
    from streamdetect.player import PlayableRecording


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
) -> None:
    """Play a recording as a live LSL stream.

    Its events go out as the stream NAME-markers.
    """
    from streamdetect.sources.recording import read_recording

    opened = read_recording(recording)
    stream_live(opened, name or opened.info.name, speed=speed, dtype=dtype.value, wait=wait)


def stream_live(recording: PlayableRecording, name: str, *, speed: float, dtype: str, wait: float) -> None:
    """Play a recording with its progress on stderr; end with code 130 where somebody stops it."""
    from streamdetect.cli.status_line import StatusLine
    from streamdetect.player import play as play_recording
    from streamdetect.sources.lsl_config import quiet_liblsl

    if not speed > 0:
        raise InputError(f"--speed {speed:g}: expected a number above 0")
    quiet_liblsl()
    info = recording.info
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
            wait_for_consumer_s=None if math.isinf(wait) else wait,
            stop=stop,
            on_progress=lambda n_sent, n_all: line.show(lambda: describe(n_sent, n_all)),
        )
    end = "" if summary.complete else "; stopped before the end"
    typer.echo(f"{summary.n_samples} samples ({summary.seconds:.1f} s) and {summary.n_markers} markers sent{end}.")
    if not summary.complete:
        raise typer.Exit(EXIT_INTERRUPTED)
