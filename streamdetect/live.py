"""`detect`: live decisions for a loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from streamdetect.decisions import Decision, Decisions
from streamdetect.detector import Detector
from streamdetect.session import Session
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import local_clock

_READ_TIMEOUT_S = 0.1  # how long Ctrl-C may take


def detect(
    stream: str,
    model: str | Path,
    *,
    timeout_s: float = 10.0,
    unit: str | None = None,
    duration_s: float | None = None,
    idle_timeout_s: float | None = None,
) -> Iterator[Decision]:
    """Yield the decisions of a model on a live LSL stream, each as it is made.

    Parameters
    ----------
    stream : str
        Name, type or source id of the stream, or an LSL predicate such as ``type='EEG' and name='BrainAmp'``.
    model : str or Path
        A model file, or the name of a shipped model.
    timeout_s : float
        How long to look for the stream, in s.
    unit : str or None
        Unit of the signal, such as ``microvolts``; None for what the stream says.
    duration_s : float or None
        End after this much signal, in s, lost samples included; None for never.
    idle_timeout_s : float or None
        End when no sample has come for this long, in s; None to wait for ever.

    Yields
    ------
    Decision
        ``time`` is in s of this machine's LSL clock, ``pylsl.local_clock()``; ``detected`` names the events that this
        decision detects.

    Raises
    ------
    ModelError
        There is no such model, or this version cannot run it.
    StreamError
        The stream was not found, or was lost for good.
    InputError
        Several streams match, or the stream does not fit the model.

    Notes
    -----
    Model and stream are opened at the first decision that is asked for. While the loop's body runs, samples wait in a
    buffer of up to half an hour. ``break`` closes the connection; who keeps the generator calls its ``close()``.

    Examples
    --------
    >>> import streamdetect
    >>> for decision in streamdetect.detect("type='EEG'", "hands.onnx"):  # doctest: +SKIP
    ...     if decision.detected:
    ...         print(decision.time, *decision.detected)
    """
    detector = Detector.load(model)
    latest = _Latest()
    sfreq = detector.model.metadata.sfreq
    with LSLSource(stream, detector.ch_names, sfreq, timeout_s=timeout_s, unit=unit, clock=local_clock) as source:
        session = Session(
            source, detector, [latest], clock=local_clock, duration_s=duration_s, idle_timeout_s=idle_timeout_s
        )
        while not session.is_over:
            session.step(_READ_TIMEOUT_S)
            for decisions in latest.take():
                yield from decisions
            session.settle()


class _Latest:
    """A sink that keeps decisions, in the local clock's time, until they are taken."""

    def __init__(self) -> None:
        self._blocks: list[Decisions] = []

    def write(self, decisions: Decisions, time_correction: float) -> None:
        self._blocks.append(replace(decisions, times=decisions.times + time_correction))

    def take(self) -> list[Decisions]:
        blocks, self._blocks = self._blocks, []
        return blocks
