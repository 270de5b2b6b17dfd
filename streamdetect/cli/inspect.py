"""``streamdetect inspect``: what a model file says of itself, and what the model looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamdetect.cli.console import table_console, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from streamdetect.stages.metadata import ModelMetadata

N_STRONGEST = 5


def inspect(
    model: Annotated[str, typer.Argument(metavar="M.onnx", help="A model file, or the name of a shipped model.")],
    figure: Annotated[
        Path | None, typer.Option(metavar="F.png", help="Draw scalp maps of what the members look at.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the metadata document; - is standard out.")
    ] = None,
) -> None:
    """Show what a model is and what it looks at.

    Settings, events, training recordings, scores, strongest channels and scalp maps.
    """
    from streamdetect.stages.model import Model

    loaded = Model.load(model)
    metadata = loaded.metadata
    if figure is not None:
        _draw(metadata, figure)
    _print(table_console(json), metadata, loaded.sha256)
    write_json(json, metadata.model_dump(mode="json"))


def _draw(metadata: ModelMetadata, path: Path) -> None:
    from streamdetect.errors import InputError
    from streamdetect.files import whole_file
    from streamdetect.scoring.scalp import scalp_figure

    drawn = scalp_figure(metadata)
    wanted = path.suffix.lower().lstrip(".")
    formats = drawn.canvas.get_supported_filetypes()
    if wanted not in formats:
        raise InputError(f"--figure {path}: expected a name that ends in one of {', '.join(sorted(formats))}")
    with whole_file(path) as partial:
        drawn.savefig(partial, format=wanted, dpi=150)


def _print(console: Console, metadata: ModelMetadata, sha256: str) -> None:
    from streamdetect.scoring.report import describe_events, describe_settings
    from streamdetect.scoring.tables import score_table

    training = metadata.training
    settings = [["model", metadata.name], ["made", metadata.created], ["SHA-256", sha256], *describe_settings(metadata)]
    _print_table(console, "", ["", ""], settings)
    heading = ["event", "annotations", "threshold", "dwell", "refractory"]
    _print_table(console, "Events", heading, describe_events(metadata))
    strongest = _list_strongest(metadata)
    if strongest:
        _print_table(console, "Strongest channels", ["event", "member", "channels, strongest first"], strongest)
    recordings = [[each.name, str(each.n_windows), each.sha256[:16]] for each in training.recordings]
    _print_table(console, "Training recordings", ["recording", "windows", "SHA-256 begins"], recordings)
    _print_table(console, "Made with", ["", ""], [[name, found] for name, found in training.versions.items()])
    console.print()
    if "mean" in metadata.scores and "events" in metadata.scores:
        console.print(score_table(metadata.scores))
    else:
        console.print("The file holds no scores: nothing is known of how well it detects.")


def _print_table(console: Console, title: str, heading: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        show_header=any(heading),
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for place, words in enumerate(heading):
        table.add_column(words, overflow="fold", min_width=16 if place == 0 else None)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if title:
        console.print()
    console.print(table)


def _list_strongest(metadata: ModelMetadata) -> list[list[str]]:
    """Return for each event and member the channels with the largest values, relative to the largest."""
    import numpy as np

    from streamdetect.scoring.scalp import channel_values

    rows = []
    for event in metadata.event_names:
        for member in metadata.members:
            if event not in metadata.patterns.get(member, {}):
                continue
            values = channel_values(metadata, member, event)
            best = np.abs(values).argmax(axis=0)
            strength = values[best, np.arange(values.shape[1])]
            order = np.argsort(-np.abs(strength), kind="stable")[:N_STRONGEST]
            sign = "" if member == "rf" else "+"
            rows.append([event, member, ", ".join(f"{metadata.ch_names[i]} {strength[i]:{sign}.2f}" for i in order)])
    return rows
