"""``streamdetect dashboard``: the live page."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from streamdetect.cli.console import needs_extra, say
from streamdetect.cli.interrupt import EXIT_INTERRUPTED, stop_on_signal

_NICENESS = 10  # on the monitor's own machine the detector goes first


def dashboard(
    stream: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY",
            help="Name, type or source id of the raw stream, or an LSL predicate; without it the monitor's.",
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the model, where several monitors run."),
    ] = None,
    port: Annotated[int, typer.Option(help="TCP port; 0: any that is free.", min=0, max=65535)] = 5006,
    address: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's, with a token in the URL."),
    ] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open/--no-browser", help="Open the page in a browser.")] = False,
) -> None:
    """Show a live stream and what a monitor says of it, as a web page.

    It only listens to LSL, so it may run on any machine of the lab. The first line on stdout is the page's address.
    Annotations made on the page go out as the LSL marker stream MODEL-annotations.
    """
    with needs_extra("dashboard"):
        import bokeh  # noqa: F401

    from streamdetect.dashboard.feed import Feed
    from streamdetect.dashboard.server import Dashboard
    from streamdetect.sources.lsl_config import quiet_liblsl

    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    quiet_liblsl()
    logging.getLogger("bokeh").setLevel(logging.ERROR)  # a tab that was closed is no news
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    with stop_on_signal() as stop:
        server = Dashboard(Feed(stream, model_name), port=port, address=address)
        typer.echo(server.url)
        say("Ctrl-C ends it.")
        if open_browser:
            import webbrowser

            webbrowser.open(server.url)
        server.run(stop)
        if stop.is_set():
            raise typer.Exit(EXIT_INTERRUPTED)
