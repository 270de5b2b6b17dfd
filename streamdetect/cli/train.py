"""``streamdetect train``: recordings to one ONNX file."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from streamdetect.cli.console import (
    check_outputs,
    n_cores,
    needs_extra,
    progress,
    say,
    split_names,
    table_console,
    write_json,
)


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
    features: Annotated[str, typer.Option(metavar="NAME", help="power, bands or 2019.")] = "power",
    channels: Annotated[str | None, typer.Option(metavar="A,B", help="Take these channels only.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these channels out.")] = None,
    stride: Annotated[
        float, typer.Option(metavar="S", help="Seconds between training windows.", min=0.0, max=60.0)
    ] = 0.1,
    false_alarms_per_min: Annotated[
        float, typer.Option(metavar="N", help="What the threshold may cost on held-out recordings.", min=0.0)
    ] = 1.0,
    dwell: Annotated[float, typer.Option(metavar="S", help="Hold the threshold for so long.", min=0.0, max=60.0)] = 0.1,
    refractory: Annotated[
        float, typer.Option(metavar="S", help="No detection for so long after one.", min=0.0, max=3600.0)
    ] = 1.0,
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
        from streamdetect.training.card import CARD_MARK
        from streamdetect.training.export import export_model, save_estimator
        from streamdetect.training.fit import train as fit_model
        from streamdetect.training.trainer import TrainingSettings
    from streamdetect.cli.evaluate import choose_events, open_recordings
    from streamdetect.errors import InputError
    from streamdetect.scoring.tables import score_table

    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: a model file's name must end in .onnx")
    card = out.with_suffix(".md")
    check_outputs(recordings, out=out, card=card, keep_sklearn=keep_sklearn, report=report, json=json)
    if card.exists() and CARD_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"--out {out}: its model card would replace {card}, which is something else; rename one")
    started = time.monotonic()
    opened = open_recordings(recordings)
    settings = TrainingSettings(
        events=choose_events(event, opened),
        features=features,
        stride_s=stride,
        false_alarms_per_min=false_alarms_per_min,
        dwell_s=dwell,
        refractory_s=refractory,
        seed=seed,
        n_jobs=jobs or n_cores(),
    )
    with progress() as bar:
        task = bar.add_task("reading and filtering", total=len(opened))
        trained = fit_model(
            opened,
            settings,
            name=out.stem,
            channels=split_names(channels),
            exclude=split_names(exclude),
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
    if report is not None:
        from streamdetect.scoring.report import write_report

        write_report(
            report,
            title=f"Training of {out.stem}",
            scores=dict(trained.metadata.scores),
            outcomes=trained.outcomes,
            metadata=trained.metadata,
            controls={"clock": trained.clock_auc},
        )
    seconds = time.monotonic() - started
    controls = {"clock": trained.clock_auc}
    table_console(json).print(score_table(dict(trained.metadata.scores), controls))
    say(
        f"wrote {out} and {card.name} ({exported.n_bytes / 1e6:.1f} MB) in {seconds:.0f} s; "
        f"ONNX Runtime and scikit-learn differ by at most {exported.max_difference:.1e} on {exported.n_windows:,} "
        "windows, no decision flips"
    )
    rules = zip(settings.event_names, trained.metadata.decisions, strict=True)
    thresholds = {name: rule.threshold for name, rule in rules}
    write_json(
        json,
        {
            **trained.metadata.scores,
            "controls": controls,
            "thresholds": thresholds,
            "model": str(out),
            "seconds_taken": seconds,
            "parity": {"max_difference": exported.max_difference, "n_windows": exported.n_windows},
            "n_bytes": exported.n_bytes,
        },
    )
