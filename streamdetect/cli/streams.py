"""``streamdetect streams``: what is on the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamdetect.cli.console import check_outputs, say, write_json


def streams(
    timeout: Annotated[float, typer.Option(help="Seconds to listen.", min=0.1)] = 1.5,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the list as JSON; - is stdout.")] = None,
) -> None:
    """List the LSL streams on the network."""
    check_outputs(json=json)
    from streamdetect.sources.lsl_config import quiet_liblsl
    from streamdetect.sources.lsl_streams import find_streams

    quiet_liblsl()
    found = find_streams(timeout)
    names = ("name", "type", "n_channels", "sfreq", "dtype", "hostname", "source_id")
    write_json(json, {"streams": [{name: getattr(stream, name) for name in names} for stream in found]})
    if str(json) == "-":
        return
    if not found:
        say(f"No LSL stream answered within {timeout:g} s.")
        say("Start one (streamdetect play RECORDING), or check network and firewall.")
    for stream in found:
        rate = f"{stream.sfreq:g} Hz" if stream.sfreq else "irregular"
        typer.echo(stream.name)
        typer.echo(f"  {stream.type}, {stream.n_channels} channels, {rate}, {stream.dtype}, on {stream.hostname}")
        typer.echo(f"  source id: {stream.source_id or 'none'}")
