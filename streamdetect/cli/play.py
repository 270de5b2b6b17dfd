"""``streamdetect play``: a recording as a live LSL stream."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamdetect.cli.console import say
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal


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
    """Play a recording as a live LSL stream, its events as the stream NAME-markers."""
    from streamdetect.cli.status_line import StatusLine
    from streamdetect.player import play as play_recording
    from streamdetect.sources.lsl import quiet_liblsl
    from streamdetect.sources.recording import read_recording

    opened = read_recording(recording)
    stream_name = name or opened.info.name
    quiet_liblsl()
    info = opened.info
    say(f"Stream {stream_name}: {info.n_channels} channels, {info.sfreq:g} Hz, {dtype.value}.")
    if wait > 0:
        say(f"Waiting up to {wait:g} s for a receiver; Ctrl-C stops, --wait 0 starts at once.")

    def describe(n_sent: int, n_all: int) -> str:
        return f"{n_sent / info.sfreq:.1f} of {n_all / info.sfreq:.1f} s sent"

    with stop_on_signal() as stop, StatusLine() as line:
        summary = play_recording(
            opened,
            name=stream_name,
            speed=speed,
            dtype=dtype.value,
            wait_for_consumer_s=None if math.isinf(wait) else wait,
            stop=stop,
            on_progress=lambda n_sent, n_all: line.show(lambda: describe(n_sent, n_all)),
        )
    end = "" if summary.complete else "; stopped before the end"
    typer.echo(f"{summary.n_samples} samples ({summary.seconds:.1f} s) and {summary.n_markers} markers sent{end}.")
    if not summary.complete:
        raise typer.Exit(EXIT_INTERRUPTED)
