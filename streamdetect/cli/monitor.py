"""``streamdetect monitor``: models on live streams."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, say, write_json
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal
from streamdetect.errors import InputError

if TYPE_CHECKING:
    from streamdetect.session import Session
    from streamdetect.sessions import Wish
    from streamdetect.status import MonitorSummary, Status

EXIT_IN_PART = 3
_ENDINGS = {"duration": "the duration was reached", "idle": "no more samples came", "lost": "the stream was lost"}


def monitor(
    model: Annotated[
        list[str],
        typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model; one for each --stream."),
    ],
    stream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUERY",
            help="Name, type or source id of the stream, or an LSL predicate (name='X'); may be given several times.",
            show_default="type='EEG'",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What the outlets are called, one for each session; else after the model."),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="F.jsonl", help="Write decisions and detections; F-NAME.jsonl each of several streams."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="F.xdf", help="Record the stream, the detections and the probabilities; F-NAME.xdf as above."
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Show the live page, of the first stream where there are several.")
    ] = False,
    duration: Annotated[float | None, typer.Option(help="End after this many seconds of signal.", min=0.0)] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to look for the stream.", min=0.0)] = 10.0,
    idle_timeout: Annotated[
        float | None, typer.Option(help="End after this many seconds without a sample; else wait.", min=0.0)
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the signal (microvolts, volts, …) if the stream tells none or a wrong one."),
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option("--realtime", help="Run before all other programs, where the system lets this user; on Linux."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only warnings, errors and the address of the dashboard.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="F.log", help="Append what happens, with the time, to this file.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Flag events in live LSL streams.

    Detections go out as the LSL marker stream NAME-detections, probabilities as NAME-probabilities, health as JSON as
    NAME-health; NAME is the model's name unless --name gives another.
    """
    from streamdetect.cli.dashboard_process import dashboard_beside
    from streamdetect.cli.live_view import format_statuses, render
    from streamdetect.cli.status_line import StatusLine
    from streamdetect.monitor import run_sessions
    from streamdetect.realtime import claim_realtime
    from streamdetect.sessions import files_of, open_sessions
    from streamdetect.sources.lsl_config import quiet_liblsl
    from streamdetect.sources.lsl_streams import local_clock

    check_outputs(model, journal=journal, record=record, log_file=log_file, json=json)
    wishes = pair(stream or ["type='EEG'"], model, name or [])
    quiet_liblsl()
    tell = (lambda text: None) if quiet else say
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        if log_file is not None:
            stack.enter_context(_log_to(log_file))
        with stop.interrupting():
            sessions = stack.enter_context(
                open_sessions(
                    wishes,
                    journal=journal,
                    record=record,
                    overwrite=overwrite,
                    timeout_s=timeout,
                    unit=unit,
                    duration_s=duration,
                    idle_timeout_s=idle_timeout,
                    tell=tell,
                )
            )
        if dashboard:
            stack.enter_context(dashboard_beside(sessions[0].name))
        if not quiet:
            for session in sessions:
                tell(f"Connected to {session.source.info.name}: {session.name} begins.")
            line = stack.enter_context(StatusLine())

            def say_how(statuses: Sequence[Status]) -> None:
                line.show(lambda: format_statuses(statuses), lambda: render(statuses))

        if realtime:  # last: what was started before may wait for the monitor
            claim_realtime()
        run_sessions(sessions, clock=local_clock, on_status=None if quiet else say_how, stop=stop)
    if not quiet:
        lines = _describe(sessions)
        for what, path in (("Journal", journal), ("Recording", record)):
            if files := files_of(path, [session.name for session in sessions]):
                lines.append(f"{what}: {', '.join(map(str, files))}")
        typer.echo("\n".join(lines), err=json is not None and str(json) == "-")
    figures = [_figures(session) for session in sessions]
    write_json(json, figures[0] if len(figures) == 1 else {"sessions": figures})
    errors = [session.error for session in sessions if session.error is not None]
    if len(errors) == len(sessions):
        raise errors[0]
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if errors:
        raise typer.Exit(EXIT_IN_PART)


def pair(streams: Sequence[str], models: Sequence[str], names: Sequence[str]) -> list[Wish]:
    """Match streams, models and names by their order; one stream or one model serves for all of the other.

    Parameters
    ----------
    streams, models : sequence of str
        At least one each.
    names : sequence of str
        One a session, or none.

    Returns
    -------
    list of Wish

    Raises
    ------
    InputError
        The numbers do not fit.
    """
    from streamdetect.sessions import Wish

    n = max(len(streams), len(models))
    if not {len(streams), len(models)} <= {1, n}:
        raise InputError(
            f"--stream is given {len(streams)} times and --model {len(models)} times; give one model for all streams, "
            "one stream for all models, or as many of each"
        )
    if len(names) not in (0, n):
        raise InputError(f"--name is given {len(names)} times for {n} sessions; give one for each, or none")
    streams, models = (list(given) * (n if len(given) == 1 else 1) for given in (streams, models))
    return [Wish(*one) for one in itertools.zip_longest(streams, models, names)]


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Append what the package logs to a file, and keep what is only news off standard error."""
    try:
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--log-file {path}: cannot be written: {error.strerror or error}") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package, root = logging.getLogger("streamdetect"), logging.getLogger()
    before = package.level, [handler.level for handler in root.handlers]
    package.setLevel(logging.INFO)
    for handler in root.handlers:
        handler.setLevel(max(handler.level, logging.WARNING))
    package.addHandler(file)
    try:
        yield
    finally:
        package.removeHandler(file)
        file.close()
        package.setLevel(before[0])
        for handler, level in zip(root.handlers, before[1], strict=True):
            handler.setLevel(level)


def _figures(session: Session) -> dict[str, Any]:
    return {
        "name": session.name,
        "stream": session.source.info.name,
        "model": session.detector.model.metadata.name,
        **dataclasses.asdict(session.finish()),
    }


def _describe(sessions: Sequence[Session]) -> list[str]:
    """Return what is told of each session at the end: several lines for one, a line each for several."""
    if len(sessions) == 1:
        return _describe_one(sessions[0].finish(), sessions[0].source.info.name)
    return [
        f"{session.name}: {' '.join(_describe_one(session.finish(), session.source.info.name))}" for session in sessions
    ]


def _describe_one(summary: MonitorSummary, stream: str) -> list[str]:
    jumps = f", {summary.n_clock_jumps} clock jumps" if summary.n_clock_jumps else ""
    repeated = f" {summary.n_repeated} more had come before and were left out." if summary.n_repeated else ""
    lines = [
        f"{summary.seconds:.1f} s of {stream}: {_ENDINGS.get(summary.reason, summary.reason)}.",
        f"{summary.n_samples} samples, {summary.n_lost} lost in {summary.n_gaps} gaps{jumps}.{repeated}",
        f"{summary.n_decisions} decisions, {summary.n_invalid} of them invalid.",
        *(f"{event}: {count} detections." for event, count in summary.detections.items()),
    ]
    median, p99 = summary.delay_s["median"], summary.delay_s["p99"]
    if median is not None and p99 is not None and median >= 0:  # time stamps of faster play run ahead of the clock
        lines.append(f"Delay from sample to decision: median {1000 * median:.2f} ms, 99 % {1000 * p99:.2f} ms.")
    return lines + [f"Warning: {warning}" for warning in summary.warnings]
