"""``streamdetect replay``: a recording through a model, as fast as the machine can."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, progress, say, table_console, write_json

if TYPE_CHECKING:
    from streamdetect.offline import Comparison

DIFFERENT = 1  # as diff: both could be read, and they are not the same


def replay(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Any file that MNE reads, XDF, or CSV pair.")],
    model: Annotated[str, typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model.")],
    out: Annotated[Path | None, typer.Option(metavar="F.csv", help="Write every decision to this file.")] = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="F.jsonl", help="Compare with what monitor decided live on the same recording."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which EEG stream of an XDF file, where it holds several.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Run a model over a recording.

    As fast as the machine can, with the decisions that a live session would make.
    """
    from streamdetect.decisions import join
    from streamdetect.detector import Detector
    from streamdetect.offline import compare_with_journal
    from streamdetect.offline import replay as replay_recording
    from streamdetect.sinks.decisions_csv import DecisionsFile
    from streamdetect.sources.recording import read_recording

    check_outputs((recording, model, journal), out=out, json=json)
    detector = Detector.load(model)
    opened = read_recording(recording, stream=stream)
    blocks = []
    started = time.perf_counter()
    with ExitStack() as stack:
        bar = stack.enter_context(progress())
        task = bar.add_task("replaying", total=opened.n_times)
        file = stack.enter_context(DecisionsFile(out, detector.event_names)) if out is not None else None
        for block in replay_recording(opened, detector):
            if file is not None:
                file.write(block)
            blocks.append(block)
            if len(block):
                bar.update(task, completed=int(block.samples[-1]))
    taken = time.perf_counter() - started
    decisions = join(blocks)
    seconds = opened.n_times / opened.info.sfreq
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
        f"{opened.info.name}: {seconds:.1f} s of signal in {taken:.2f} s ({seconds / taken:.0f} times real time); "
        f"{len(decisions)} decisions, {len(decisions) - n_valid} of them invalid"
    )
    for name, count in counts.items():
        tell(f"{name}: {count} detections")
    if out is not None:
        say(f"wrote {out}")
    different = None
    if journal is not None:
        comparison = compare_with_journal(decisions, journal)
        figures["journal"] = {
            "n_decisions": comparison.n_decisions,
            "n_replayed": comparison.n_replayed,
            "n_different": comparison.n_different,
        }
        different = comparison.n_different > 0
        tell(
            f"{journal}: {_count(comparison)} live decisions, "
            + (f"{comparison.n_different} differ: {comparison.first}" if different else "all equal, bit for bit")
        )
    write_json(json, figures)
    if different:
        raise typer.Exit(DIFFERENT)


def _count(comparison: Comparison) -> str:
    live, replayed = comparison.n_decisions, comparison.n_replayed
    return f"{live}" if live == replayed else f"{live} (of {replayed} in the replay)"
