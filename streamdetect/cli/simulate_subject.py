"""``streamdetect simulate-subject``: a live stream of simulated EEG that answers cues."""

from __future__ import annotations

from typing import Annotated

import typer

from streamdetect.cli.console import say
from streamdetect.cli.play import stream_live

CUE_STREAMS = "type='Markers' and contains(name,'-cues')"


def simulate_subject(
    name: Annotated[str, typer.Option(help="Name of the stream.")] = "simulated-subject",
    answer: Annotated[
        str, typer.Option(metavar="QUERY", help="Name of the cues' LSL marker stream, or an LSL predicate.")
    ] = CUE_STREAMS,
    minutes: Annotated[float, typer.Option(metavar="M", help="Length of the stream.", min=0.1, max=60.0)] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of the subject and of all chance.", min=0)] = 0,
    wait: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds to wait for a receiver before the first sample.", min=0.0),
    ] = 30.0,
) -> None:
    """Stream a simulated subject who follows the cues of calibrate.

    32 channels at 500 Hz. Every cue but "rest" makes it move the right hand until "rest" comes: mu and beta rhythms
    fall over the motor cortex, and a movement-related potential appears. For rehearsing without a cap.
    """
    from streamdetect.calibration.subject import CueListener, SimulatedSubject
    from streamdetect.sources.lsl_config import quiet_liblsl
    from streamdetect.sources.lsl_streams import make_predicate

    quiet_liblsl()
    say(f"Simulating {minutes:g} min …")
    with CueListener(make_predicate(answer)) as listener:
        subject = SimulatedSubject(name, listener.hear, seed=seed, minutes=minutes)
        say(f"Listening for cues: {answer}")
        stream_live(subject, name, speed=1.0, dtype="float32", wait=wait)
