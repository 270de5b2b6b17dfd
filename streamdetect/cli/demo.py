"""``streamdetect demo``: the main job from start to finish, on simulated or given recordings."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import check_outputs, n_cores, needs_extra, say, table_console, write_json

if TYPE_CHECKING:
    from streamdetect.detector import Detector
    from streamdetect.sources.recording import Recording


@dataclass(frozen=True)
class _Size:
    """How much is simulated, and how fast it is played."""

    n_series: int
    minutes: float
    speed: float


FULL = _Size(n_series=6, minutes=4.0, speed=8.0)
QUICK = _Size(n_series=3, minutes=1.0, speed=10.0)
FEATURES = "bands"
EVENT = "movement=HandStart,FirstDigitTouch,BothStartLoadPhase,LiftOff,Replace,BothReleased"
STREAM = "streamdetect-demo"


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything that the demo makes.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Less signal; takes about 20 s in place of 90 s.")] = False,
    recording: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Use recordings of your own, at least two; the last one is held out."),
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=DESC,DESC]", help="The events of your recordings, as for train.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.", min=0, max=2**32 - 1)] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Run the main job once, from start to finish.

    Simulates EEG (or takes recordings), trains, exports, streams a held-out series over LSL, detects live, scores, and
    writes a report.
    """
    with needs_extra("train"):
        from streamdetect.training.export import export_model
        from streamdetect.training.fit import train
        from streamdetect.training.trainer import TrainingSettings
    from streamdetect.cli.evaluate import choose_events, open_recordings
    from streamdetect.detector import Detector
    from streamdetect.errors import InputError
    from streamdetect.offline import compare_with_journal
    from streamdetect.scoring.evaluate import evaluate
    from streamdetect.scoring.figures import cut_excerpt
    from streamdetect.scoring.report import write_report
    from streamdetect.scoring.tables import score_table
    from streamdetect.sources.lsl_config import own_lsl_session

    started = time.monotonic()
    size = QUICK if quick else FULL
    if recording and len({path.resolve() for path in recording}) < 2:
        raise InputError("--recording: give at least two, since the last one is held out; repeat the option")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made a folder: {error.strerror or error}") from error
    check_outputs(recording or (), out=out / "demo.onnx", json=json)
    paths = recording or _simulate(out / "recordings", size, seed)
    opened = open_recordings(paths)
    events = choose_events(event or (None if recording else [EVENT]), opened)
    *training, held_out = opened

    say(f"2. training on {', '.join(one.info.name for one in training)}")
    settings = TrainingSettings(events=events, features=FEATURES, seed=seed, n_jobs=n_cores())
    trained = train(training, settings, name="demo", command=shlex.join(["streamdetect", *sys.argv[1:]]))
    model = out / "demo.onnx"
    exported = export_model(trained.estimator, trained.windows, trained.metadata, model)
    say(
        f"3. exported {model} ({exported.n_bytes / 1e6:.1f} MB): ONNX Runtime and scikit-learn differ by at most "
        f"{exported.max_difference:.0e} on {exported.n_windows:,} windows"
    )
    detector = Detector.load(model)
    seconds = held_out.n_times / held_out.info.sfreq
    say(f"4. streaming {held_out.info.name} over LSL at {size.speed:g} times real time, {seconds / size.speed:.0f} s")
    journal = out / "live.jsonl"
    with own_lsl_session():
        live = _detect_live(held_out, detector, size.speed, journal)
    scores, outcomes, controls = evaluate([held_out], detector)
    comparison = compare_with_journal(outcomes[0].decisions, journal)
    say(
        f"   {live['n_decisions']} live decisions, {comparison.n_different} of them other than in a replay; "
        f"{sum(live['detections'].values())} detections"
    )
    scores = {"protocol": "held-out", **scores}
    report = out / "report.html"
    write_report(
        report,
        title=f"Demo on {'given' if recording else 'simulated'} recordings",
        scores=scores,
        outcomes=outcomes,
        metadata=detector.model.metadata,
        controls=controls,
        excerpt=cut_excerpt(held_out, outcomes[0]),
    )
    source = "your recordings" if recording else "SIMULATED recordings"
    console = table_console(json)
    console.print(f"Live detection on {held_out.info.name}, which training did not see ({source}):")
    console.print(score_table(scores, controls))
    taken = time.monotonic() - started
    say(f"5. wrote {report}; all of it took {taken:.0f} s")
    say(_next_command(model, recording is not None))
    write_json(
        json,
        scores
        | {
            "controls": controls,
            "live": live,
            "n_different_from_replay": comparison.n_different,
            "parity": {"max_difference": exported.max_difference, "n_windows": exported.n_windows},
            "seconds_taken": taken,
        },
    )
    if comparison.n_different or comparison.n_decisions != comparison.n_replayed:
        raise RuntimeError(f"live and replayed decisions differ: {comparison.first}")


def _simulate(folder: Path, size: _Size, seed: int) -> list[Path]:
    from streamdetect.sources.simulate import series_paths, simulate_series, write_series

    say(f"1. simulating {size.n_series} series of {size.minutes:g} min (32 channels, 500 Hz) in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    for series in range(1, size.n_series + 1):
        write_series(simulate_series(1, series, seed=seed, minutes=size.minutes), folder)
    return [series_paths(folder, 1, series)[0] for series in range(1, size.n_series + 1)]


def _detect_live(recording: Recording, detector: Detector, speed: float, journal: Path) -> dict[str, Any]:
    """Play a recording from another process and monitor it in this one."""
    from contextlib import closing

    from streamdetect.monitor import monitor
    from streamdetect.sinks.journal import Journal
    from streamdetect.sources.lsl import LSLSource
    from streamdetect.sources.lsl_streams import local_clock

    command: Sequence[str] = (
        *(sys.executable, "-m", "streamdetect.cli.main", "play", str(recording.path)),
        *("--name", STREAM, "--speed", str(speed), "--dtype", "float64"),
    )
    metadata = detector.model.metadata
    player = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        with (
            closing(Journal(journal, overwrite=True)) as book,
            LSLSource(STREAM, detector.ch_names, metadata.sfreq, timeout_s=30.0, clock=local_clock) as source,
        ):
            summary = monitor(
                source,
                detector,
                journal=book,
                clock=local_clock,
                duration_s=recording.n_times / recording.info.sfreq,
                idle_timeout_s=10.0,
            )
        _, complaint = player.communicate(timeout=30.0)
        if player.returncode:
            raise RuntimeError(f"streamdetect play ended with code {player.returncode}: {complaint.strip()}")
    finally:
        player.kill()
    return {
        "n_samples": summary.n_samples,
        "n_lost": summary.n_lost,
        "n_decisions": summary.n_decisions,
        "detections": dict(summary.detections),
    }


def _next_command(model: Path, own: bool) -> str:
    if own:
        return f"next, with your amplifier on LSL: streamdetect streams, then streamdetect monitor --model {model}"
    return (
        "next, on your own data:\n"
        "  streamdetect train RECORDING... --event NAME --out my.onnx\n"
        "  streamdetect monitor --model my.onnx"
    )
