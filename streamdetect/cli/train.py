"""``streamdetect train``: recordings to one ONNX file."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamdetect.cli.console import (
    FEATURES_HELP,
    check_outputs,
    n_cores,
    needs_extra,
    progress,
    say,
    split_names,
    table_console,
    write_json,
)

if TYPE_CHECKING:
    from rich.console import Console

    from streamdetect.sources.recording import Recording
    from streamdetect.training.trainer import TrainingSettings


def train(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="Recordings, or folders of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="M.onnx", help="The model file to write.", show_default=False)],
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=DESC,DESC]",
            help="An event of the recordings, or annotations joined under a new name. Repeat for more. "
            "All events by default, if there are at most ten.",
            show_default=False,
        ),
    ] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help=FEATURES_HELP)] = "power",
    channels: Annotated[str | None, typer.Option(metavar="A,B", help="Take these channels only.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these channels out.")] = None,
    stride: Annotated[
        float, typer.Option(metavar="S", help="Seconds between training windows.", min=0.0, max=60.0)
    ] = 0.1,
    event_duration: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Take events that the recordings give no duration, such as the markers in XDF files, as lasting so "
            "many seconds. Without it they are moments, labelled 0.15 s to each side.",
            min=0.0,
        ),
    ] = None,
    false_alarms_per_min: Annotated[
        float, typer.Option(metavar="N", help="What the threshold may cost on held-out recordings.", min=0.0)
    ] = 1.0,
    dwell: Annotated[
        float | None,
        typer.Option(metavar="S", help="Hold the threshold for so long; chosen with it by default.", min=0.0, max=60.0),
    ] = None,
    refractory: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="No detection for so long after one; chosen with the threshold by default.",
            min=0.0,
            max=3600.0,
        ),
    ] = None,
    channel_rules: Annotated[
        bool, typer.Option(help="Find bad channels and repair them from their neighbours, in training as live.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=2**32 - 1)] = 0,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    keep_sklearn: Annotated[
        Path | None, typer.Option(metavar="M.skops", help="Also keep the scikit-learn estimator.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.html", help="Also write a report with figures.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Train a detector and export it to ONNX.

    Scores it on held-out recordings, chooses the threshold there, and refuses to write a file that does not give the
    trained probabilities.
    """
    with needs_extra("train"):
        from streamdetect.training.trainer import TrainingSettings
    from streamdetect.cli.evaluate import choose_events, open_recordings
    from streamdetect.sources.recording import give_duration

    check_outputs(recordings, **model_files(out), keep_sklearn=keep_sklearn, report=report, json=json)
    opened = [give_duration(one, event_duration) for one in open_recordings(recordings)]
    settings = TrainingSettings(
        events=choose_events(event, opened),
        features=features,
        stride_s=stride,
        false_alarms_per_min=false_alarms_per_min,
        dwell_s=dwell,
        refractory_s=refractory,
        channel_rules=channel_rules,
        seed=seed,
        n_jobs=jobs or n_cores(),
    )
    figures = train_and_export(
        opened,
        settings,
        out,
        channels=split_names(channels),
        exclude=split_names(exclude),
        keep_sklearn=keep_sklearn,
        report=report,
        console=table_console(json),
    )
    write_json(json, figures)


def model_files(out: Path) -> dict[str, Path]:
    """Return the files that a training writes, as `check_outputs` takes them: the model and its card.

    Raises
    ------
    InputError
        The name is no model file's, or the card would replace a file of someone else's.
    """
    from streamdetect.errors import InputError
    from streamdetect.training.card import CARD_MARK

    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: a model file's name must end in .onnx")
    card = out.with_suffix(".md")
    if card.is_file() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"--out {out}: its model card would replace {card}, which is something else; rename one")
    return {"out": out, "card": card}


def train_and_export(
    opened: Sequence[Recording],
    settings: TrainingSettings,
    out: Path,
    *,
    channels: tuple[str, ...],
    exclude: tuple[str, ...],
    keep_sklearn: Path | None = None,
    report: Path | None = None,
    console: Console,
) -> dict[str, Any]:
    """Train, write the model and what belongs to it, and print the scores.

    Parameters
    ----------
    opened : sequence of Recording
        What to train on.
    settings : TrainingSettings
        What to detect, and how.
    out : Path
        The model file; its card goes beside it.
    channels, exclude : tuple of str
        Channels to take, all if empty, and to leave out.
    keep_sklearn, report : Path or None
        Where to write the estimator and the report.
    console : rich.console.Console
        Where the table goes.

    Returns
    -------
    dict
        Every figure that was printed.
    """
    with needs_extra("train"):
        from streamdetect.training.export import export_model, save_estimator
        from streamdetect.training.fit import train as fit_model
    from streamdetect.scoring.luck import verdicts
    from streamdetect.scoring.tables import score_table

    started = time.monotonic()
    with progress() as bar:
        task = bar.add_task("reading and filtering", total=len(opened))
        trained = fit_model(
            opened,
            settings,
            name=out.stem,
            channels=channels,
            exclude=exclude,
            with_needs=report is not None,
            command=shlex.join(["streamdetect", *sys.argv[1:]]),
            on_recording=lambda recording: bar.update(
                task,
                advance=1,
                description="cross-validating and fitting" if recording is opened[-1] else "reading and filtering",
            ),
        )
    exported = export_model(trained.estimator, trained.windows, trained.metadata, out)
    if keep_sklearn is not None:
        save_estimator(trained.estimator, trained.windows, trained.metadata, keep_sklearn)
    controls = {"clock": trained.clock_auc}
    luck = verdicts(trained.outcomes, seed=settings.seed)
    if report is not None:
        from streamdetect.scoring.report import write_report

        write_report(
            report,
            title=f"Training of {out.stem}",
            scores=dict(trained.metadata.scores),
            outcomes=trained.outcomes,
            metadata=trained.metadata,
            controls=controls,
            luck=luck,
            needs=trained.needs,
            max_false_alarms_per_min=settings.false_alarms_per_min,
        )
    seconds = time.monotonic() - started
    console.print(score_table(dict(trained.metadata.scores), controls, luck))
    say(
        f"wrote {out} and {out.with_suffix('.md').name} ({exported.n_bytes / 1e6:.1f} MB) in {seconds:.0f} s; "
        f"ONNX Runtime and scikit-learn differ by at most {exported.max_difference:.1e} on {exported.n_windows:,} "
        "windows, no decision flips"
    )
    rules = zip(settings.event_names, trained.metadata.decisions, strict=True)
    thresholds = {name: rule.threshold for name, rule in rules}
    return {
        **trained.metadata.scores,
        "controls": controls,
        "luck": {name: one.figures() for name, one in luck.items()},
        "thresholds": thresholds,
        "model": str(out),
        "seconds_taken": seconds,
        "parity": {"max_difference": exported.max_difference, "n_windows": exported.n_windows},
        "n_bytes": exported.n_bytes,
    }
