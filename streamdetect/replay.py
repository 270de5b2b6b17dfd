"""A recording through the detector, as fast as the machine can: the same objects as live, fed larger chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamdetect.decisions import Decisions
from streamdetect.detector import Detector

if TYPE_CHECKING:
    from streamdetect.sources.recording import Recording


def replay(recording: Recording, detector: Detector, chunk_samples: int | None = None) -> Iterator[Decisions]:
    """Run a detector over a recording.

    Parameters
    ----------
    recording : Recording
        Read chunk by chunk; channels are found by name.
    detector : Detector
        Reset before the first sample.
    chunk_samples : int or None
        Samples a chunk; the decisions do not depend on it.

    Yields
    ------
    Decisions
        Those of each chunk, in order.

    Raises
    ------
    InputError
        The recording has another sampling rate than the model, or lacks channels.
    """
    detector.check(recording.info)
    detector.reset()
    for chunk in recording.chunks(picks=detector.ch_names, chunk_samples=chunk_samples):
        yield detector.process(chunk)
    yield detector.flush()
