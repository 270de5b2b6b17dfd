"""The command ``streamdetect``: gathers the commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import typer

from streamdetect import __version__
from streamdetect.cli.bench import bench
from streamdetect.cli.calibrate import calibrate
from streamdetect.cli.console import say
from streamdetect.cli.dashboard import dashboard
from streamdetect.cli.demo import demo
from streamdetect.cli.evaluate import evaluate
from streamdetect.cli.export import export
from streamdetect.cli.inspect import inspect
from streamdetect.cli.monitor import monitor
from streamdetect.cli.play import play
from streamdetect.cli.replay import replay
from streamdetect.cli.simulate import simulate
from streamdetect.cli.simulate_subject import simulate_subject
from streamdetect.cli.streams import streams
from streamdetect.cli.train import train
from streamdetect.errors import StreamdetectError

COMMANDS = (
    *(demo, simulate, calibrate, train, export, evaluate, replay),
    *(play, simulate_subject, streams, monitor, dashboard, inspect, bench),
)
PLUGIN_GROUP = "streamdetect.commands"
BAD_INPUT, INTERRUPTED = 2, 130


def make_app() -> typer.Typer:
    """Build the app from the commands here and those that plugins add."""
    app = typer.Typer(
        name="streamdetect",
        help="Detect hand movements in EEG: train, export to one ONNX file, run live over LSL or on recordings.",
        add_completion=False,
        rich_markup_mode=None,  # plain help: a fifth of a second less to import
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_options)
    for command in COMMANDS:
        app.command()(command)
    for plugin in entry_points(group=PLUGIN_GROUP):
        try:
            app.add_typer(plugin.load(), name=plugin.name)
        except Exception as error:  # someone else's package must not take the other commands down
            say(f"streamdetect: plugin {plugin.name} cannot be loaded: {type(error).__name__}: {error}")
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamdetect {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 after Ctrl-C, 1 a fault of the program."""
    run_app(make_app, "streamdetect", arguments)


def run_app(make: Callable[[], typer.Typer], name: str, arguments: list[str] | None = None) -> None:
    """Run an app of ours under a name, and exit with the code that `run` states."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.WARNING)
    try:
        code = make()(arguments, standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except typer.TyperException as error:  # an unknown option, a missing argument, a value of the wrong type
        say(f"{name}: {' '.join(error.format_message().split())} (see {name} --help)")
        code = BAD_INPUT
    except StreamdetectError as error:
        say(f"{name}: {' '.join(str(error).split())}")
        code = BAD_INPUT
    if code == INTERRUPTED:
        say(f"{name}: interrupted")
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
