"""``streamdetect streams``: what is on the network."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streamdetect.cli.console import say


def streams(
    timeout: Annotated[float, typer.Option(help="Seconds to listen.", min=0.1)] = 1.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
) -> None:
    """List the LSL streams on the network."""
    from streamdetect.sources.lsl import find_streams, quiet_liblsl

    quiet_liblsl()
    found = find_streams(timeout)
    if as_json:
        names = ("name", "type", "n_channels", "sfreq", "dtype", "hostname", "source_id")
        typer.echo(json.dumps([{name: getattr(stream, name) for name in names} for stream in found], indent=2))
        return
    if not found:
        say(f"No LSL stream answered within {timeout:g} s.")
        say("Start one (streamdetect play RECORDING), or check network and firewall.")
    for stream in found:
        rate = f"{stream.sfreq:g} Hz" if stream.sfreq else "irregular"
        typer.echo(stream.name)
        typer.echo(f"  {stream.type}, {stream.n_channels} channels, {rate}, {stream.dtype}, on {stream.hostname}")
        typer.echo(f"  source id: {stream.source_id or 'none'}")
