"""``streamdetect calibrate``: a cued session on a live stream, from the electrodes to a working model."""

from __future__ import annotations

import dataclasses
import math
import secrets
import shlex
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import (
    FEATURES_HELP,
    check_outputs,
    n_cores,
    needs_extra,
    say,
    split_names,
    table_console,
    write_json,
)
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal
from streamdetect.errors import InputError, StreamError

if TYPE_CHECKING:
    from rich.console import Console

    from streamdetect.calibration.cues import Cue
    from streamdetect.calibration.recorder import Recorder
    from streamdetect.calibration.session import EndReason
    from streamdetect.calibration.signal_check import ChannelCheck
    from streamdetect.sinks.lsl import MarkerOutlet
    from streamdetect.sources.lsl import LSLSource

CHECK_S = 5.0  # of signal to look at: nine windows of a second, for a median
INSTRUCTIONS = (
    "Sit comfortably and look at this screen.\n"
    'At "{event}" move, and go on moving until "rest" comes. At "rest" keep still.'
)


def calibrate(
    out: Annotated[Path, typer.Option(metavar="M.onnx", help="The model file to write.", show_default=False)],
    stream: Annotated[
        str,
        typer.Option(metavar="QUERY", help="Name, type or source id of the stream, or an LSL predicate (name='X')."),
    ] = "type='EEG'",
    event: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the cue to move, and of what the model detects.")
    ] = "movement",
    trials: Annotated[int, typer.Option(metavar="N", help="Movements to ask for.", min=5, max=1000)] = 30,
    movement_s: Annotated[float, typer.Option(metavar="S", help="Length of each.", min=0.5, max=60.0)] = 3.0,
    rest_s: Annotated[str, typer.Option(metavar="LOW,HIGH", help="Range that each rest is drawn from.")] = "2,4",
    countdown: Annotated[float, typer.Option(metavar="S", help="Before the first cue.", min=0.0, max=600.0)] = 10.0,
    sound: Annotated[bool, typer.Option(help="Ring the terminal's bell with each cue.")] = True,
    ignore_signal_check: Annotated[
        bool, typer.Option("--ignore-signal-check", help="Go on with a signal that the check finds bad.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the recording of an earlier session of this name.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to look for the stream.", min=0.0)] = 10.0,
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the signal (microvolts, volts, …) if the stream tells none or a wrong one."),
    ] = None,
    channels: Annotated[str | None, typer.Option(metavar="A,B", help="Take these channels only.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these channels out of the model.")] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help=FEATURES_HELP)] = "auto",
    false_alarms_per_min: Annotated[
        float, typer.Option(metavar="N", help="What the threshold may cost on held-out parts of the session.", min=0.0)
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the cues' times and of training; a new one by default.", min=0, max=2**32 - 1),
    ] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.html", help="Also write a report with figures.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Calibrate a model at the desk: check the signal, give cues, record, train.

    Each cue goes out as it is shown, as the text "rest" or NAME on the LSL marker stream M-cues. Signal and cues are
    kept in M-calibration_raw.fif, however the session ends; MNE reads it, and so does train.
    """
    with needs_extra("train"):
        from streamdetect.training.choose import make_trainers
        from streamdetect.training.trainer import TrainingSettings
    from streamdetect.calibration.cues import draw_cues
    from streamdetect.calibration.recorder import Recorder
    from streamdetect.cli.train import model_files, train_and_export
    from streamdetect.settings import EventSettings
    from streamdetect.sources.recording import read_recording

    recording = out.with_name(f"{out.stem}-calibration_raw.fif")
    check_outputs((), **model_files(out), recording=recording, report=report, json=json)
    if recording.exists() and not overwrite:
        raise InputError(
            f"--out {out}: {recording} holds an earlier session; choose another name, or replace it with --overwrite"
        )
    # Two sessions of one seed would have their cues at the same times, which the clock could then learn.
    seed = secrets.randbelow(2**32) if seed is None else seed
    cues = draw_cues(event, n_trials=trials, movement_s=movement_s, rest_s=_parse_range(rest_s), seed=seed)
    settings = TrainingSettings(
        events=(EventSettings(event, (event,)),),
        features=features,
        false_alarms_per_min=false_alarms_per_min,
        seed=seed,
        n_jobs=jobs or n_cores(),
    )
    console = table_console(json)
    with ExitStack() as stack:
        source, markers = _connect(stack, stream, split_names(channels), timeout, unit, f"{out.stem}-cues")
        stop = stack.enter_context(stop_on_signal())
        ch_names = _leave_out(source, split_names(exclude))
        make_trainers(ch_names, source.info.sfreq, settings)  # refuses unknown features now, not after the session
        checks = _check_signal(source, ch_names, console, ignore_signal_check, stop)
        recorder = Recorder(source.info)
        lost: StreamError | None = None
        ended: EndReason = "stopped"
        try:
            ended = _give_cues(source, recorder, cues, markers, countdown, sound, stop)
        except StreamError as error:
            lost = error
        finally:  # whatever ends it, a fault of the program included
            is_kept = _save(recorder, recording, f"streamdetect calibrate, {trials} trials, seed {seed}")
    if lost is not None or ended == "stopped":
        passed_on = _given(channels=channels, exclude=exclude, features=features)
        again = shlex.join(["streamdetect", "train", str(recording), "--event", event, *passed_on, "--out", str(out)])
        advice = f"to train on what was kept:  {again}" if is_kept else "no cue has any signal, so nothing was kept"
        if lost is not None:
            raise StreamError(f"{lost}; {advice}") from lost
        say(f"Stopped; {advice}")
        raise typer.Exit(EXIT_INTERRUPTED)
    figures = train_and_export(
        [read_recording(recording)],
        settings,
        out,
        channels=split_names(channels),
        exclude=split_names(exclude),
        report=report,
        console=console,
    )
    calibration = {
        "stream": source.stream.name,
        "recording": str(recording),
        "seed": seed,
        "n_cues": len(recorder.annotations),
        "seconds": _seconds(recorder),
        "n_lost": recorder.n_lost,
        "n_gaps": recorder.n_gaps,
        "signal_check": [_finite(dataclasses.asdict(one)) for one in checks],
    }
    write_json(json, figures | {"calibration": calibration})


def _parse_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--rest-s {text}: expected LOW,HIGH in s, such as 2,4") from error
    return low, high


def _connect(
    stack: ExitStack, query: str, channels: tuple[str, ...], timeout_s: float, unit: str | None, cue_stream: str
) -> tuple[LSLSource, MarkerOutlet]:
    """Connect to the signal, and put the cues' stream on the network early, so that others find it in time."""
    from streamdetect.sinks.lsl import MarkerOutlet
    from streamdetect.sources.lsl import LSLSource
    from streamdetect.sources.lsl_config import quiet_liblsl
    from streamdetect.sources.lsl_streams import local_clock

    quiet_liblsl()
    say(f"Looking for stream {query} (up to {timeout_s:g} s) …")
    source = LSLSource(query, channels or None, timeout_s=timeout_s, unit=unit, clock=local_clock)
    stack.enter_context(source)
    say(f"Connected to {source.stream}. Cues go out as the marker stream {cue_stream}.")
    return source, stack.enter_context(closing(MarkerOutlet(cue_stream)))


def _leave_out(source: LSLSource, exclude: tuple[str, ...]) -> tuple[str, ...]:
    from streamdetect.sources.channels import pick_channels

    available = source.info.ch_names
    left_out = set(pick_channels(available, exclude, where=f"--exclude: stream {source.info.name!r}"))
    kept = tuple(name for index, name in enumerate(available) if index not in left_out)
    if not kept:
        raise InputError(f"--exclude {','.join(exclude)}: leaves no channel of {source.info.name}; name fewer")
    return kept


def _check_signal(
    source: LSLSource, ch_names: Sequence[str], console: Console, ignore: bool, stop: threading.Event
) -> tuple[ChannelCheck, ...]:
    """Print the signal check, and refuse a signal that is badly wrong."""
    from streamdetect.calibration.session import collect_excerpt
    from streamdetect.calibration.signal_check import check_signal, describe_faults, describe_rate, signal_table
    from streamdetect.sources.lsl_streams import local_clock

    say(f"Checking {CHECK_S:g} s of signal; sit still …")
    excerpt = collect_excerpt(source, CHECK_S, clock=local_clock, stop=stop)
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    info = source.info
    fault = describe_rate(excerpt.data.shape[1], excerpt.sfreq, info.sfreq)
    checks: tuple[ChannelCheck, ...] = ()
    if excerpt.data.shape[1] >= info.sfreq:
        rows = [info.ch_names.index(name) for name in ch_names]
        checks = check_signal(excerpt.data[rows], ch_names, info.sfreq)
        console.print(signal_table(checks))
        fault = fault or describe_faults(checks)
    if fault and not ignore:
        raise InputError(f"signal check: {fault}")
    if fault:
        say(f"signal check: {fault.partition(';')[0]}; going on all the same")
    return checks


def _give_cues(
    source: LSLSource,
    recorder: Recorder,
    cues: Sequence[Cue],
    markers: MarkerOutlet,
    countdown_s: float,
    sound: bool,
    stop: threading.Event,
) -> EndReason:
    from streamdetect.calibration.cues import REST
    from streamdetect.calibration.session import run_session
    from streamdetect.cli.cue_screen import CueScreen
    from streamdetect.sources.lsl_streams import local_clock

    (event,) = {cue.name for cue in cues} - {REST}
    instructions = INSTRUCTIONS.format(event=event)
    with CueScreen(len(cues) // 2, sound=sound, clock=local_clock) as screen:
        return run_session(
            source,
            recorder,
            cues,
            countdown_s=countdown_s,
            show=lambda cue, index: screen.show(cue, (index + 1) // 2),
            push=markers.push,
            clock=local_clock,
            stop=stop,
            on_countdown=lambda remaining_s: screen.count_down(instructions, remaining_s),
        )


def _save(recorder: Recorder, path: Path, description: str) -> bool:
    """Write what was recorded, and say whether there was anything; one more Ctrl-C does not cut it short."""
    n_cues = len(recorder.annotations)
    if not n_cues:
        return False
    with stop_on_signal():
        recorder.save(path, description)
    lost = f", {recorder.n_lost} samples lost in {recorder.n_gaps} gaps" if recorder.n_gaps else ""
    say(f"Kept {_seconds(recorder):.0f} s with {n_cues} cues in {path}{lost}.")
    return True


def _seconds(recorder: Recorder) -> float:
    return recorder.n_times / recorder.info.sfreq


def _given(channels: str | None, exclude: str | None, features: str) -> list[str]:
    """Return the options that were given, for the command that trains on the recording later."""
    options = {"--channels": channels, "--exclude": exclude, "--features": None if features == "power" else features}
    return [part for name, value in options.items() if value is not None for part in (name, value)]


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON has no word for, by None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }
