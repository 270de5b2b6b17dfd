"""What comes in over LSL, for all pages of a dashboard: one thread reads it, and keeps the last seconds.

It only listens: a detector cannot tell a dashboard from a recorder, and a slow page never reaches it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from streamdetect.dashboard.health_document import HealthDocument, parse_health
from streamdetect.dashboard.port import Port, newest
from streamdetect.dashboard.traces import Track
from streamdetect.errors import InputError
from streamdetect.sinks.lsl import MICROVOLTS_PER_VOLT, MarkerOutlet
from streamdetect.sources.channels import volts_per
from streamdetect.sources.lsl_streams import local_clock, make_predicate, read_channels

if TYPE_CHECKING:
    import pylsl

POLL_S = 0.03
N_MARKS = 500  # the latest that are kept
_SUFFIXES = {"probabilities": "Probability", "detections": "Markers", "health": "Health"}
_SETTLE_S = 0.8  # how long after the first answer another may come that makes the choice unclear
_PATIENCE_S = 3.0  # how long a monitor may take to answer before a stream is chosen without its help


@dataclass(frozen=True, slots=True)
class Mark:
    """A detection, or a person's annotation.

    Parameters
    ----------
    time : float
        In s of this machine's LSL clock.
    kind : {"detection", "annotation"}
        Which of the two.
    text : str
        The event, or what the person wrote.
    """

    time: float
    kind: Literal["detection", "annotation"]
    text: str


class Feed:
    """Reads the raw stream and a monitor's outlets, and sends annotations.

    Parameters
    ----------
    stream : str or None
        Which stream, as in `streamdetect.sources.lsl_streams.resolve_stream`; None for the one that the monitor
        listens to, or the only EEG stream where there is no monitor.
    model_name : str or None
        Name of the model, which the monitor's outlets carry; None for the only one there is.
    clock : callable
        This machine's LSL clock in s.

    Attributes
    ----------
    signal, probability : Track or None
        The stream in µV, and the probabilities; None before they were found. Another object after each reconnection.
    marks : deque of Mark
        The latest detections and annotations, as they came.
    health : HealthDocument or None
        The monitor's latest.
    n_marks : int
        Marks since the start.
    model : str
        Name of the model; empty while none was found.
    problem : str
        Why something cannot be chosen or read; empty where all is well.

    Raises
    ------
    InputError
        ``stream`` is no query that LSL understands.
    """

    def __init__(
        self, stream: str | None = None, model_name: str | None = None, *, clock: Callable[[], float] = local_clock
    ) -> None:
        import pylsl

        self.query = stream
        self.model = model_name or ""
        self._given_model = model_name
        self.clock = clock
        self.raw = Port(clock)
        self.outlets = {suffix: Port(clock) for suffix in _SUFFIXES}
        self.signal: Track | None = None
        self.probability: Track | None = None
        self.health: HealthDocument | None = None
        self.marks: deque[Mark] = deque(maxlen=N_MARKS)
        self.n_marks = 0
        self.problem = ""
        self.error: Exception | None = None
        self.wall_offset_s = 0.0
        self._unit_factors: Any = None
        self._unit_problem = ""
        self._health_problem = ""
        self._annotations: tuple[str, MarkerOutlet] | None = None
        self._seen_at: dict[str, float] = {}  # when there first was a candidate
        self._started_at = clock()
        self._all = pylsl.ContinuousResolver()
        try:
            self._chosen = pylsl.ContinuousResolver(pred=make_predicate(stream)) if stream is not None else self._all
        except RuntimeError as error:
            raise InputError(f"--stream {stream}: no predicate that LSL understands; try type='EEG'") from error
        if model_name:
            self._open_annotations(model_name)

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop; what goes wrong is kept in ``error``."""
        try:
            while not stop.wait(POLL_S):
                self.poll()
        except Exception as error:
            self.error = error
        finally:
            for port in (self.raw, *self.outlets.values()):
                port.close()

    def poll(self) -> None:
        """Connect what is not connected, and take what has come."""
        problems = [self._connect_outlets(), self._connect_raw()]
        if (signal := self.raw.pull_signal()) is not None and self.signal is not None:
            self.signal.write(signal[0] * self._unit_factors, signal[1])
        if (signal := self.outlets["probabilities"].pull_signal()) is not None and self.probability is not None:
            self.probability.write(*signal)
        for when, event in self.outlets["detections"].pull_texts():
            self._mark(Mark(when, "detection", event))
        if texts := self.outlets["health"].pull_texts():
            try:
                self.health, self._health_problem = parse_health(texts[-1][1]), ""
            except InputError as error:
                self._health_problem = str(error)
        problems += [self._unit_problem, self._health_problem]
        self.problem = "; ".join(problem for problem in problems if problem)

    def annotate(self, text: str) -> Mark | None:
        """Send a marker that says what a person saw, now; None where there is nothing yet to mark."""
        if self._annotations is None and self.raw.stream is not None:
            self._open_annotations(self.raw.stream.name())
        if self._annotations is None:
            return None
        mark = Mark(self.clock(), "annotation", text)
        self._annotations[1].push(text, mark.time)
        self._mark(mark)
        return mark

    @property
    def annotation_stream(self) -> str:
        """Name of the stream that annotations go out on; empty while there is none."""
        return self._annotations[0] if self._annotations is not None else ""

    def silence_s(self, port: Port) -> float | None:
        """Return how long nothing has come, in s; None where it was never connected."""
        return None if port.last_arrival is None else self.clock() - port.last_arrival

    def wall_time(self, time_s: float) -> float:
        """Turn a time of the LSL clock into s since 1970, as the clock on the wall counts them here."""
        return time_s + self.wall_offset_s

    def _mark(self, mark: Mark) -> None:
        self.marks.append(mark)
        self.n_marks += 1

    def _open_annotations(self, name: str) -> None:
        name = f"{name}-annotations"
        if self._annotations is None or self._annotations[0] != name:
            self._annotations = name, MarkerOutlet(name)

    def _connect_outlets(self) -> str:
        """Find the monitor's outlets, and return what stands in the way."""
        missing = {suffix: port for suffix, port in self.outlets.items() if not port.is_connected}
        if not missing:
            return ""
        found = {
            (stream.name(), stream.type()): stream
            for stream in newest(self._all.results())
            if stream.type() in _SUFFIXES.values()
        }
        if len(missing) == len(self.outlets) and not self._given_model:  # free to choose
            models = sorted(name.removesuffix("-health") for name, kind in found if kind == "Health")
            if not self._has_settled("model", models):
                return ""
            if len(models) > 1:
                return f"{len(models)} models run: {', '.join(models)}; choose one with --model-name"
            if models[0] != self.model:
                self.model = models[0]
                self.health = self.probability = None
        if not self.model:
            return ""
        for suffix, port in missing.items():
            stream = found.get((f"{self.model}-{suffix}", _SUFFIXES[suffix]))
            if stream is None or not port.may_connect(stream) or not port.connect(stream):
                continue
            self._open_annotations(self.model)
            if suffix == "probabilities" and port.stream is not None:
                labels, _ = read_channels(port.stream)
                names = [label.removeprefix("p_") for label in labels]
                self.probability = Track(names, port.stream.nominal_srate() or 1.0, baseline=False)
        return ""

    def _connect_raw(self) -> str:
        """Find the raw stream, and return what stands in the way."""
        health = self.health
        if self.raw.stream is not None:
            is_other = health is not None and (health.stream, health.source_id) != (
                self.raw.stream.name(),
                self.raw.stream.source_id(),
            )
            if self.query is not None or not is_other:
                return ""
            self.raw.close()
        found = [
            stream
            for stream in newest(self._chosen.results())
            if stream.nominal_srate() > 0 and stream.channel_format() != _string_format()
        ]
        if self.query is None:
            if health is not None:
                found = [s for s in found if (s.name(), s.source_id()) == (health.stream, health.source_id)]
            elif self.clock() - self._started_at < _PATIENCE_S:
                found = []
            else:
                found = [stream for stream in found if stream.type() == "EEG"]
        if not self._has_settled("stream", found):
            return ""
        if len(found) > 1:
            names = ", ".join(f"{stream.name()} (source id {stream.source_id() or 'none'})" for stream in found)
            return f"{len(found)} streams match: {names}; choose one with --stream"
        if self.raw.may_connect(found[0]) and self.raw.connect(found[0]) and self.raw.stream is not None:
            self._begin_signal(self.raw.stream)
        return ""

    def _has_settled(self, what: str, candidates: Sequence[object]) -> bool:
        """Say whether there has been a candidate for long enough that all others would be known too."""
        if not candidates:
            self._seen_at.pop(what, None)
            return False
        return self.clock() - self._seen_at.setdefault(what, self.clock()) >= _SETTLE_S

    def _begin_signal(self, stream: pylsl.StreamInfo) -> None:
        labels, units = read_channels(stream)
        factors, self._unit_problem = [], ""
        for unit in units:
            try:
                factors.append(volts_per(unit or "microvolts") * MICROVOLTS_PER_VOLT)
            except InputError:
                self._unit_problem = f"unit {unit!r} is not known: µV assumed"
                factors.append(1.0)
        self._unit_factors = np.array(factors)[:, None]
        offset = datetime.now().astimezone().utcoffset()
        self.wall_offset_s = time.time() - self.clock() + (offset.total_seconds() if offset else 0.0)
        self.signal = Track(labels, stream.nominal_srate(), baseline=True)


def _string_format() -> int:
    from pylsl import cf_string

    return cf_string
