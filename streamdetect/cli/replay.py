"""``streamdetect replay``: a recording through a model, as fast as the machine can."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, progress, say, table_console, write_json

if TYPE_CHECKING:
    from streamdetect.decisions import Decisions
    from streamdetect.detector import Detector
    from streamdetect.offline import Comparison
    from streamdetect.recorded import SessionReplay

DIFFERENT = 1  # as diff: both could be read, and they are not the same
IN_PART = 3


def replay(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Any file that MNE reads, XDF, or CSV pair.")],
    model: Annotated[str, typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model.")],
    out: Annotated[Path | None, typer.Option(metavar="F.csv", help="Write every decision to this file.")] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="F.jsonl", help="Compare with what monitor decided live, when this was played or recorded."
        ),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which EEG stream of an XDF file, where it holds several.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Run a model over a recording.

    As fast as the machine can, with the decisions that a live session would make. With the journal of a session and the
    XDF file that was recorded of it, the replay starts at the session's first sample and takes what the session took.
    """
    from streamdetect.decisions import join
    from streamdetect.detector import Detector
    from streamdetect.offline import compare_with_journal
    from streamdetect.sinks.decisions_csv import DecisionsFile

    check_outputs((recording, model, journal), out=out, json=json)
    detector = Detector.load(model)
    job = _open(recording, stream, journal, detector)
    blocks = []
    started = time.perf_counter()
    with ExitStack() as stack:
        bar = stack.enter_context(progress())
        task = bar.add_task("replaying", total=job.n_times)
        file = stack.enter_context(DecisionsFile(out, detector.event_names)) if out is not None else None
        for block in job.blocks:
            if file is not None:
                file.write(block)
            blocks.append(block)
            if len(block):
                bar.update(task, completed=int(block.samples[-1]))
    taken = time.perf_counter() - started
    decisions = join([*blocks, detector.flush()])
    seconds = job.n_times / detector.model.metadata.sfreq
    counts = {name: sum(detection.event == name for detection in decisions.detections) for name in detector.event_names}
    n_valid = int(decisions.valid.sum())
    figures: dict[str, Any] = {
        "recording": str(recording),
        "model": detector.model.metadata.name,
        "seconds": seconds,
        "n_decisions": len(decisions),
        "n_invalid": len(decisions) - n_valid,
        "detections": [
            {"event": each.event, "time": each.time, "sample": each.sample, "probability": each.probability}
            for each in decisions.detections
        ],
        "times_real_time": seconds / taken,
    }
    console = table_console(json)
    tell = partial(console.print, soft_wrap=True)
    tell(
        f"{recording.name}: {seconds:.1f} s of signal in {taken:.2f} s ({seconds / taken:.0f} times real time); "
        f"{len(decisions)} decisions, {len(decisions) - n_valid} of them invalid"
    )
    for name, count in counts.items():
        tell(f"{name}: {count} detections")
    if out is not None:
        say(f"wrote {out}")
    exit_code = 0
    if journal is not None:
        comparison = compare_with_journal(decisions, journal, job.session.incomparable if job.session else ())
        figures["journal"] = {
            "n_decisions": comparison.n_decisions,
            "n_replayed": comparison.n_replayed,
            "n_compared": comparison.n_compared,
            "n_different": comparison.n_different,
        }
        tell(f"{journal}: {_describe(comparison)}")
        if job.session and job.session.incomparable:
            tell(
                f"{recording}: lacks samples that the session had, from {job.session.lacking_from_s:.1f} s on: "
                "what depends on them was not compared"
            )
            exit_code = IN_PART
        if comparison.n_different:
            exit_code = DIFFERENT
    write_json(json, figures)
    if exit_code:
        raise typer.Exit(exit_code)


@dataclass(frozen=True)
class _Job:
    """What is replayed: its length in samples, the decisions as they are made, and the session, if it is one's."""

    n_times: int
    blocks: Iterator[Decisions]
    session: SessionReplay | None = None


def _open(recording: Path, stream: str | None, journal: Path | None, detector: Detector) -> _Job:
    from streamdetect.journalled import read_session
    from streamdetect.offline import replay as replay_recording
    from streamdetect.recorded import SessionReplay
    from streamdetect.sources.recording import read_recording
    from streamdetect.sources.xdf_sent import is_xdf, read_all_parts

    if journal is not None and is_xdf(recording) and recording.is_file():
        session = read_session(journal)
        sent = read_all_parts(recording, stream or session.stream, session.source_id, session.unit)
        if sent is not None and session.was_on(sent.stamps):
            replayed = SessionReplay(sent, session, detector)
            return _Job(session.n_times, replayed.run(), replayed)
        say(f"{recording}: not recorded during the session of {journal}; compared from its first sample on")
    opened = read_recording(recording, stream=stream)
    return _Job(opened.n_times, replay_recording(opened, detector))


def _describe(comparison: Comparison) -> str:
    live, replayed = comparison.n_decisions, comparison.n_replayed
    count = f"{live} live decisions" if live == replayed else f"{live} live decisions (of {replayed} in the replay)"
    if comparison.n_different:
        return f"{count}, {comparison.n_different} differ: {comparison.first}"
    if comparison.n_compared < live:
        return f"{count}, {comparison.n_compared} compared, all of them equal, bit for bit"
    return f"{count}, all equal, bit for bit"
