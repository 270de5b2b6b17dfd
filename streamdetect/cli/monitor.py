"""``streamdetect monitor``: a model on a live stream."""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamdetect.cli.console import check_outputs, say, write_json
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal

if TYPE_CHECKING:
    from streamdetect.monitor import MonitorSummary, Status

_QUIET_S = 2.0  # without a sample for this long the status line says so


def monitor(
    model: Annotated[str, typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model.")],
    stream: Annotated[
        str,
        typer.Option(metavar="QUERY", help="Name, type or source id of the stream, or an LSL predicate (name='X')."),
    ] = "type='EEG'",
    journal: Annotated[
        Path | None, typer.Option(metavar="F.jsonl", help="Write decisions and detections to this file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a journal that exists.")] = False,
    duration: Annotated[float | None, typer.Option(help="End after this many seconds of signal.", min=0.0)] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to look for the stream.", min=0.0)] = 10.0,
    idle_timeout: Annotated[
        float | None, typer.Option(help="End after this many seconds without a sample; else wait.", min=0.0)
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the signal (microvolts, volts, …) if the stream tells none or a wrong one."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Flag events in a live LSL stream.

    Detections go out as the LSL marker stream MODEL-detections, probabilities as MODEL-probabilities.
    """
    from streamdetect.cli.status_line import StatusLine
    from streamdetect.detector import Detector
    from streamdetect.monitor import monitor as run_monitor
    from streamdetect.sinks.journal import Journal
    from streamdetect.sinks.lsl import MarkerOutlet, ProbabilityOutlet
    from streamdetect.sources.lsl import LSLSource
    from streamdetect.sources.lsl_config import quiet_liblsl
    from streamdetect.sources.lsl_streams import local_clock

    check_outputs((model, journal), json=json)
    detector = Detector.load(model)
    metadata = detector.model.metadata
    quiet_liblsl()
    with ExitStack() as stack:
        book = stack.enter_context(closing(Journal(journal, overwrite=overwrite))) if journal else None
        say(f"Looking for stream {stream} (up to {timeout:g} s) …")
        source = stack.enter_context(
            LSLSource(stream, detector.ch_names, metadata.sfreq, timeout_s=timeout, unit=unit, clock=local_clock)
        )
        say(f"Connected to {source.stream}.")
        decisions_per_s = metadata.sfreq / metadata.features.hop_samples
        probabilities = ProbabilityOutlet(f"{metadata.name}-probabilities", detector.event_names, decisions_per_s)
        markers = MarkerOutlet(f"{metadata.name}-detections")
        sinks = (stack.enter_context(closing(probabilities)), stack.enter_context(closing(markers)))
        line = stack.enter_context(StatusLine())
        stop = stack.enter_context(stop_on_signal())
        summary = run_monitor(
            source,
            detector,
            sinks,
            journal=book,
            clock=local_clock,
            duration_s=duration,
            idle_timeout_s=idle_timeout,
            on_status=lambda status: line.show(lambda: format_status(status, line.width)),
            stop=stop,
        )
    lines = _describe_summary(summary, source.stream.name)
    if journal is not None:
        lines.append(f"Journal: {journal}")
    typer.echo("\n".join(lines), err=json is not None and str(json) == "-")
    write_json(json, {"stream": source.stream.name, "model": metadata.name, **dataclasses.asdict(summary)})
    if summary.reason == "stopped":
        raise typer.Exit(EXIT_INTERRUPTED)


def format_status(status: Status, width: int) -> str:
    """Put how a session stands into one line.

    Parameters
    ----------
    status : Status
        How it stands.
    width : int
        Characters that fit; the less probable events are left out where they do not.

    Returns
    -------
    str
    """
    if status.seconds_since_last_sample > _QUIET_S:
        return f"{status.seconds:.0f} s  no sample for {status.seconds_since_last_sample:.0f} s, waiting"
    head = f"{status.seconds:.0f} s  {status.sfreq:.1f} Hz"
    tail = ""
    if status.detection is not None and status.detection_age_s is not None:
        tail += f"  last {status.detection.event} {max(0.0, status.detection_age_s):.1f} s ago"
    if status.delay_s is not None and status.delay_s >= 0:
        tail += f"  delay {1000 * status.delay_s:.1f} ms"
    if status.reason or all(math.isnan(value) for value in status.probability.values()):
        return f"{head}  no decision: {status.reason or 'no samples yet'}{tail}"
    ranked = sorted(status.probability.items(), key=lambda item: -item[1])
    shown = [f"{event} {value:.2f}" for event, value in ranked]
    middle = "  ".join(shown)
    while len(shown) > 1 and len(head) + 2 + len(middle) + len(tail) > width:
        shown.pop()
        middle = "  ".join(shown) + f"  +{len(ranked) - len(shown)}"
    return f"{head}  {middle}{tail}"


def _describe_summary(summary: MonitorSummary, stream: str) -> list[str]:
    endings = {"duration": "the duration was reached", "idle": "no more samples came", "stopped": "stopped"}
    lines = [
        f"{summary.seconds:.1f} s of {stream}: {endings.get(summary.reason, summary.reason)}.",
        f"{summary.n_samples} samples, {summary.n_lost} lost in {summary.n_gaps} gaps.",
        f"{summary.n_decisions} decisions, {summary.n_invalid} of them invalid.",
        *(f"{event}: {count} detections" for event, count in summary.detections.items()),
    ]
    median, p99 = summary.delay_s["median"], summary.delay_s["p99"]
    if median is not None and p99 is not None and median >= 0:  # time stamps of faster play run ahead of the clock
        lines.append(f"Delay from sample to decision: median {1000 * median:.2f} ms, 99 % {1000 * p99:.2f} ms.")
    return lines
