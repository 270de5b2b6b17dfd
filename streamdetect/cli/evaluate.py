"""``streamdetect evaluate``: score a model, or a way of training one, on recordings with known events."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
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
    from streamdetect.scoring.metrics import Outcome
    from streamdetect.settings import EventSettings
    from streamdetect.sources.recording import Recording
    from streamdetect.stages.metadata import ModelMetadata

MAX_DEFAULT_EVENTS = 10  # more annotations than that are rarely all events that someone wants to detect


class Protocol(StrEnum):
    """Which windows a score is taken on."""

    HELD_OUT = "held-out"
    RANDOM_SPLIT = "random-split"


def evaluate(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="Recordings, or folders of them.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option(metavar="M.onnx", help="Score this model, a file or the name of a shipped one.")
    ] = None,
    cross_validate: Annotated[
        bool, typer.Option("--cross-validate", help="Train and score on these recordings, each held out in turn.")
    ] = False,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=DESC,DESC]", help="As for train; a model knows its events.", show_default=False),
    ] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help=FEATURES_HELP)] = "power",
    protocol: Annotated[
        Protocol, typer.Option(help="random-split is the 2019 way: it measures memory, not detection.")
    ] = Protocol.HELD_OUT,
    channels: Annotated[str | None, typer.Option(metavar="A,B", help="Take these channels only.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these channels out.")] = None,
    stride: Annotated[
        float, typer.Option(metavar="S", help="Seconds between training windows.", min=0.0, max=60.0)
    ] = 0.1,
    false_alarms_per_min: Annotated[float, typer.Option(metavar="N", min=0.0)] = 1.0,
    controls: Annotated[
        bool, typer.Option(help="Also score the clock alone, and the same pipeline on phase-randomised EEG.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=2**32 - 1)] = 0,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.html", help="Also write a report with figures.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Score a model, or a way of training one.

    With --model on recordings that it has not seen, with --cross-validate by holding out each recording in turn.
    """
    from streamdetect.errors import InputError
    from streamdetect.scoring.luck import verdicts
    from streamdetect.scoring.tables import published_table, score_table

    if (model is None) != (cross_validate or protocol is Protocol.RANDOM_SPLIT):
        raise InputError(
            "evaluate: give either --model M.onnx, or --cross-validate with --event and --features "
            "(--protocol random-split trains anew and takes no model)"
        )
    training_options = (event, channels, exclude, features != "power", stride != 0.1, false_alarms_per_min != 1.0)
    if model is not None and any(training_options):
        raise InputError(
            "evaluate --model: a model knows its events, features and channels; --event, --features, --channels, "
            "--exclude, --stride and --false-alarms-per-min go with --cross-validate"
        )
    if report is not None and model is None:
        raise InputError("--report: needs --model; train --report draws the figures of a cross-validation")
    check_outputs((*recordings, model), report=report, json=json)
    opened = open_recordings(recordings)
    if model is not None:
        scores, outcomes, control_scores, metadata = _score_model(model, opened, controls)
    else:
        scores, outcomes, control_scores = _score_training(
            opened,
            events=choose_events(event, opened),
            protocol=protocol,
            with_controls=controls,
            names=(split_names(channels), split_names(exclude)),
            options={
                "features": features,
                "stride_s": stride,
                "false_alarms_per_min": false_alarms_per_min,
                "seed": seed,
                "n_jobs": jobs or n_cores(),
            },
        )
        metadata = None
    console = table_console(json)
    # An in-sample or random-split score is memory: chance is asked about on held-out recordings only.
    luck = verdicts(outcomes, seed=seed) if scores["protocol"] == Protocol.HELD_OUT else {}
    console.print(score_table(scores, control_scores, luck))
    if protocol is Protocol.RANDOM_SPLIT:
        console.print(published_table(scores))
    elif cross_validate:
        if "chosen" in scores:
            console.print(f"Features that the folds chose: {', '.join(scores['chosen'])}.")
        medians = ", ".join(f"{name} {threshold:.3g}" for name, threshold in scores["thresholds"].items())
        console.print(
            f"Window recall and false positives are at the median of the folds' thresholds ({medians}); events are "
            "found at each fold's own."
        )
    if report is not None and metadata is not None:
        from streamdetect.scoring.figures import cut_excerpt
        from streamdetect.scoring.report import write_report

        write_report(
            report,
            title=f"Scores of {metadata.name}",
            scores=scores,
            outcomes=outcomes,
            metadata=metadata,
            controls=control_scores,
            luck=luck,
            excerpt=cut_excerpt(opened[0], outcomes[0]),
        )
        say(f"wrote {report}")
    figures = {name: each.figures() for name, each in luck.items()}
    write_json(json, scores | {"controls": control_scores, "luck": figures})


def open_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Open recordings, a folder standing for those in it; none twice."""
    from streamdetect.sources.recording import find_recordings, read_recording

    return [read_recording(path) for path in find_recordings(paths)]


def choose_events(asked: Sequence[str] | None, recordings: Sequence[Recording]) -> tuple[EventSettings, ...]:
    """Read ``--event`` options, or take every event of the recordings; of Grasp-and-Lift their union, too."""
    from streamdetect.errors import EventError, InputError
    from streamdetect.settings import EventSettings
    from streamdetect.sources.ingredients import EVENT_NAMES

    if asked:
        try:
            events = tuple(EventSettings.parse(text) for text in asked)
        except ValueError as error:
            raise InputError(f"--event: {error}; write NAME or NAME=DESCRIPTION,DESCRIPTION") from error
    else:
        names = sorted({note.description for recording in recordings for note in recording.annotations})
        if not names:
            raise EventError(
                f"{', '.join(one.info.name for one in recordings)}: no events: training and scoring need annotations"
            )
        if len(names) > MAX_DEFAULT_EVENTS:
            raise EventError(f"--event: choose from the {len(names)} events of the recordings: {', '.join(names)}")
        events = tuple(EventSettings(name, (name,)) for name in names)
        if set(names) == set(EVENT_NAMES):
            events += (EventSettings("movement", tuple(names)),)  # any of them
    repeated = {one.name for one in events if sum(other.name == one.name for other in events) > 1}
    if repeated:
        raise InputError(f"--event {', '.join(sorted(repeated))}: named twice")
    return events


def _score_model(
    model: str, recordings: Sequence[Recording], with_controls: bool
) -> tuple[dict[str, Any], list[Outcome], dict[str, Any], ModelMetadata]:
    from streamdetect.detector import Detector
    from streamdetect.events import check_events
    from streamdetect.scoring.evaluate import evaluate as score_model
    from streamdetect.scoring.evaluate import trained_on

    detector = Detector.load(model)
    metadata = detector.model.metadata
    check_events(recordings, metadata.events, all_descriptions=False)
    seen = trained_on(metadata, recordings)
    with progress() as bar:
        task = bar.add_task("replaying", total=len(recordings))
        scores, outcomes, control_scores = score_model(
            recordings, detector, with_controls=with_controls, on_recording=lambda _: bar.advance(task)
        )
    if seen:
        say(
            f"warning: {', '.join(seen)}: the model was trained on this: the scores below say what it remembers, not "
            "what it detects"
        )
    return {"protocol": "in-sample" if seen else "held-out", **scores}, outcomes, control_scores, metadata


def _score_training(
    recordings: Sequence[Recording],
    *,
    events: tuple[EventSettings, ...],
    protocol: Protocol,
    with_controls: bool,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    options: dict[str, Any],
) -> tuple[dict[str, Any], list[Outcome], dict[str, Any]]:
    with needs_extra("train"):
        from streamdetect.training import protocols
        from streamdetect.training.choose import make_trainers
        from streamdetect.training.trainer import Trainer, TrainingSettings
        from streamdetect.training.windows import LabelledWindows
    from streamdetect.errors import InputError
    from streamdetect.events import check_events
    from streamdetect.scoring.metrics import score
    from streamdetect.training.windows import choose_channels

    check_events(recordings, events)
    settings = TrainingSettings(events=events, **options)
    trainers = make_trainers(choose_channels(recordings, *names), recordings[0].info.sfreq, settings)
    if protocol is Protocol.RANDOM_SPLIT and len(trainers) > 1:
        raise InputError("--features auto: choosing needs --protocol held-out; name the features for random-split")
    with progress() as bar:
        task = bar.add_task("reading and filtering", total=len(recordings))

        def label(trainer: Trainer) -> list[LabelledWindows]:
            bar.update(task, completed=0, description="reading and filtering")
            windows = trainer.label(recordings, on_recording=lambda _: bar.advance(task))
            bar.update(task, description=f"training on {trainer.features.name}")
            return windows

        if protocol is Protocol.RANDOM_SPLIT:
            return {"protocol": protocol.value, **protocols.random_split(trainers[0], label(trainers[0]))}, [], {}
        held_out = protocols.cross_validate_choice(trainers, label)
        scores = score(held_out.outcomes, held_out.thresholds)
        control_scores = protocols.controls(trainers, recordings, label(trainers[0])) if with_controls else {}
    found = {"protocol": protocol.value, "grouped_by": held_out.grouped_by, "thresholds": held_out.thresholds, **scores}
    if held_out.chosen:
        found["chosen"] = held_out.chosen
    return found, held_out.outcomes, control_scores
