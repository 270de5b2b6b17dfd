"""The command ``segment``, which is also ``streamdetect segment``."""

from __future__ import annotations

from collections.abc import Callable

import typer

from segment.cli.bench import bench
from segment.cli.demo import demo
from segment.cli.evaluate import evaluate
from segment.cli.instances import instances
from segment.cli.measure import measure
from segment.cli.overlay import overlay
from segment.cli.predict import predict
from segment.cli.quantize import quantize
from segment.cli.train import train
from segment.cli.zoo import zoo
from streamdetect.cli.main import run_app

COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    train,
    quantize,
    predict,
    instances,
    measure,
    evaluate,
    overlay,
    bench,
    zoo,
)

app = typer.Typer(
    name="segment",
    help="Segment mitochondria in electron-microscopy volumes: train, predict, measure.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
for _command in COMMANDS:
    app.command()(_command)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the codes of `streamdetect.cli.main.run`."""
    run_app(lambda: app, "segment", arguments)


if __name__ == "__main__":
    run()
