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
    from streamdetect.training.subjects import Plan

EXIT_IN_PART = 3


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
    event_duration: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Take events that the recordings give no duration as lasting so many seconds.", min=0.0
        ),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="random-split is the 2019 way: it measures memory, not detection.")
    ] = Protocol.HELD_OUT,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="random-split: choose thresholds for this share of false positives, inside the training windows; "
            "0.5 by default, as in 2019.",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    channels: Annotated[str | None, typer.Option(metavar="A,B", help="Take these channels only.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these channels out.")] = None,
    stride: Annotated[
        float, typer.Option(metavar="S", help="Seconds between training windows.", min=0.0, max=60.0)
    ] = 0.1,
    false_alarms_per_min: Annotated[float, typer.Option(metavar="N", min=0.0)] = 1.0,
    channel_rules: Annotated[
        bool, typer.Option(help="Find bad channels and repair them from their neighbours, as train does.")
    ] = True,
    controls: Annotated[
        bool, typer.Option(help="Also score the clock alone, and the same pipeline on phase-randomised EEG.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=2**32 - 1)] = 0,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    subject_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What in a recording's path names its subject: the group named subject, or the first one. By default "
            "names as in subj1_series1_data.csv, S001R03.edf and sub-01_….",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Cross-validate subjects on this Dask cluster, such as tcp://host:8786."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.html", help="Also write a report with figures.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Score a model, or a way of training one.

    With --model on recordings that it has not seen, with --cross-validate by holding out each recording in turn;
    recordings of several subjects are cross-validated subject by subject.
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
    by_subject = cross_validate and protocol is Protocol.HELD_OUT
    if not by_subject and (scheduler is not None or subject_pattern is not None):
        raise InputError("--scheduler and --subject-pattern: go with --cross-validate, and not with random-split")
    if false_positive_rate is not None and protocol is not Protocol.RANDOM_SPLIT:
        raise InputError("--false-positive-rate: goes with --protocol random-split; --false-alarms-per-min for others")
    check_outputs((*recordings, model), report=report, json=json)
    names = (split_names(channels), split_names(exclude))
    options: dict[str, Any] = {
        "features": features,
        "stride_s": stride,
        "false_alarms_per_min": false_alarms_per_min,
        "channel_rules": channel_rules,
        "seed": seed,
        "n_jobs": jobs or n_cores(),
    }
    if by_subject:
        from streamdetect.scoring.subjects import group_by_subject
        from streamdetect.sources.recording import find_recordings

        subjects = group_by_subject(find_recordings(recordings), subject_pattern)
        if len(subjects) > 1 or scheduler is not None:
            with needs_extra("train"):
                from streamdetect.training.subjects import Plan
                from streamdetect.training.trainer import TrainingSettings
            settings = TrainingSettings(events=parse_events(event or ()), **options)
            _score_subjects(subjects, Plan(settings, *names, event_duration, controls), scheduler, json)
            return
    opened = open_recordings(recordings, event_duration)
    if model is not None:
        scores, outcomes, control_scores, metadata = _score_model(model, opened, controls)
    else:
        scores, outcomes, control_scores = _score_training(
            opened,
            events=choose_events(event, opened),
            protocol=protocol,
            with_controls=controls,
            false_positive_rate=false_positive_rate,
            names=names,
            options=options,
        )
        metadata = None
    console = table_console(json)
    # An in-sample or random-split score is memory: chance is asked about on held-out recordings only.
    luck = verdicts(outcomes, seed=seed) if scores["protocol"] == Protocol.HELD_OUT else {}
    console.print(score_table(scores, control_scores, luck))
    if protocol is Protocol.RANDOM_SPLIT:
        console.print(published_table(scores))
        if false_positive_rate is not None:
            chosen = ", ".join(f"{name} {threshold:.3g}" for name, threshold in scores["thresholds"].items())
            console.print(f"Thresholds ({chosen}) were chosen on a third of the training windows.")
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


def open_recordings(paths: Sequence[Path], event_duration_s: float | None = None) -> list[Recording]:
    """Open recordings, a folder standing for those in it; none twice. See `give_duration` for the events."""
    from streamdetect.sources.recording import find_recordings, give_duration, read_recording

    return [give_duration(read_recording(path), event_duration_s) for path in find_recordings(paths)]


def choose_events(asked: Sequence[str] | None, recordings: Sequence[Recording]) -> tuple[EventSettings, ...]:
    """Read ``--event`` options, or take the events of the recordings, see `default_events`."""
    from streamdetect.events import default_events

    return parse_events(asked) if asked else default_events(recordings)


def parse_events(asked: Sequence[str]) -> tuple[EventSettings, ...]:
    """Read ``--event`` options."""
    from streamdetect.errors import InputError
    from streamdetect.settings import EventSettings

    try:
        events = tuple(EventSettings.parse(text) for text in asked)
    except ValueError as error:
        raise InputError(f"--event: {error}; write NAME or NAME=DESCRIPTION,DESCRIPTION") from error
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
    false_positive_rate: float | None,
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
            scores = protocols.random_split(trainers[0], label(trainers[0]), false_positive_rate)
            return {"protocol": protocol.value, **scores}, [], {}
        return protocols.score_held_out(trainers, recordings, label, with_controls=with_controls)


def _score_subjects(subjects: dict[str, list[Path]], plan: Plan, scheduler: str | None, json: Path | None) -> None:
    """Cross-validate each subject, print a table and write the figures; exit with code 3 where some had no score."""
    from streamdetect.errors import InputError
    from streamdetect.scoring.subjects import subject_table, summarise
    from streamdetect.training.subjects import Failure, evaluate_subjects

    with progress() as bar:
        task = bar.add_task("cross-validating subjects", total=len(subjects))
        found = evaluate_subjects(
            subjects,
            plan,
            n_jobs=min(plan.settings.n_jobs, len(subjects)),
            scheduler=scheduler,
            on_subject=lambda _: bar.advance(task),
            warn=lambda line: say(f"warning: {line}"),
        )
    failures = {name: one.reason for name, one in found.items() if isinstance(one, Failure)}
    documents = {name: one for name, one in found.items() if not isinstance(one, Failure)}
    if not documents:
        name, reason = next(iter(failures.items()))
        raise InputError(f"none of the {len(failures)} subjects could be scored; the first, {name}: {reason}")
    summary = summarise(documents, seed=plan.settings.seed)
    table_console(json).print(subject_table(documents, failures, summary))
    write_json(
        json, {"protocol": "held-out, each subject on its own", "subjects": documents, "failed": failures, **summary}
    )
    if failures:
        raise typer.Exit(EXIT_IN_PART)
