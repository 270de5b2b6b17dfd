"""``streamdetect simulate``: recordings in the Grasp-and-Lift layout, without a subject."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamdetect.cli.console import progress, say


def simulate(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Folder for subjS_seriesK_data.csv and subjS_seriesK_events.csv."),
    ] = None,
    subjects: Annotated[int, typer.Option(metavar="N", help="Subjects, each with traits of their own.", min=1)] = 1,
    series: Annotated[int, typer.Option(metavar="N", help="Series of each subject.", min=1)] = 8,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", help="Length of each series; 34 trials without it.", min=0.25, max=1440.0),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.", min=0)] = 0,
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In place of files: one series as a live LSL stream of this name."),
    ] = None,
    speed: Annotated[float, typer.Option(metavar="X", help="With --stream: times real time.")] = 1.0,
    wait: Annotated[
        float, typer.Option(metavar="S", help="With --stream: seconds to wait for a receiver.", min=0.0)
    ] = 30.0,
    force: Annotated[bool, typer.Option("--force", help="Replace series that are there already.")] = False,
) -> None:
    """Make grasp-and-lift EEG to rehearse with.

    32 channels at 500 Hz, six labelled events a trial, as files or as a live stream.
    """
    from streamdetect.errors import InputError
    from streamdetect.sources.simulate import series_paths, simulate_series, write_series

    if (directory is None) == (stream is None):
        raise InputError("simulate: give either a folder, DIR, or --stream NAME")
    if stream is not None:
        from streamdetect.cli.play import stream_live

        recording = simulate_series(1, 1, seed=seed, minutes=minutes).recording()
        stream_live(recording, stream, speed=speed, dtype="float32", wait=wait)
        return
    assert directory is not None
    wanted = [(subject, number) for subject in range(1, subjects + 1) for number in range(1, series + 1)]
    present = [path for pair in wanted for path in series_paths(directory, *pair) if path.exists()]
    if present and not force:
        more = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise InputError(f"DIR: {present[0]}{more} would be overwritten; choose another folder, or add --force")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"DIR: {directory}: cannot be made a folder: {error.strerror or error}") from error

    seconds, n_trials = 0.0, 0
    with progress() as bar:
        for subject, number in bar.track(wanted, description="simulating"):
            simulated = simulate_series(subject, number, seed=seed, minutes=minutes)
            write_series(simulated, directory)
            seconds += simulated.n_times / simulated.info.sfreq
            n_trials += len(simulated.onsets["HandStart"])
    say(f"{directory}: {len(wanted)} series, {seconds / 60:.1f} min, {n_trials} trials, seed {seed}")
