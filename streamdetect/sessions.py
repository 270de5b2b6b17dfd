"""Live sessions put together: models, streams, outlets and files, for each that was wished for."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from streamdetect.detector import Detector
from streamdetect.errors import InputError
from streamdetect.session import Session
from streamdetect.sinks.journal import Journal
from streamdetect.sinks.lsl import HealthOutlet, MarkerOutlet, ProbabilityOutlet, make_source_id
from streamdetect.sinks.recorder import XdfRecorder
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import local_clock
from streamdetect.stages.model import Model

_LINGER_S = 0.25  # what was sent last needs to leave
_MAX_AT_ONCE = 16  # streams that are connected to, recorders that are started
_RECORDER_BACK_S = 3.0  # what LabRecorder needs to take up a stream that came back
_UNSAFE = re.compile(r"[^\w.+-]+")

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Wish:
    """One session that is wanted.

    Parameters
    ----------
    stream : str
        Which stream, as for `streamdetect.detect`.
    model : str
        A model file, or the name of a shipped model.
    name : str or None
        What its outlets and files are called; None for the model's name, followed by the stream's where another session
        runs the same model.
    """

    stream: str
    model: str
    name: str | None = None


@contextmanager
def open_sessions(
    wishes: Sequence[Wish],
    *,
    journal: Path | None = None,
    record: Path | None = None,
    overwrite: bool = False,
    timeout_s: float = 10.0,
    unit: str | None = None,
    duration_s: float | None = None,
    idle_timeout_s: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Session]]:
    """Load the models, find the streams and open outlets and files; close them all at the end.

    Parameters
    ----------
    wishes : sequence of Wish
        At least one.
    journal : Path or None
        Where decisions and detections of each session are written, see `files_of`.
    record : Path or None
        Where its stream, its detections and its probabilities are recorded, likewise.
    overwrite : bool
        Replace files that exist.
    timeout_s, unit, duration_s, idle_timeout_s
        As for `detect`.
    tell : callable
        Told what is being waited for.

    Yields
    ------
    list of Session
        Ready for `streamdetect.monitor.run_sessions`.

    Raises
    ------
    ModelError, StreamError, InputError
        As in `detect`, or a file exists or cannot be written, or two sessions have one name.
    """
    models = {path: Model.load(path) for path in dict.fromkeys(wish.model for wish in wishes)}  # no state: shared
    detectors = [Detector(models[wish.model]) for wish in wishes]
    names = name_sessions(wishes, [detector.model.metadata.name for detector in detectors])
    sources = [
        LSLSource(
            wish.stream,
            detector.ch_names,
            detector.model.metadata.sfreq,
            timeout_s=timeout_s,
            unit=unit,
            settle_s=_RECORDER_BACK_S if record else 0.0,
            clock=local_clock,
        )
        for wish, detector in zip(wishes, detectors, strict=True)
    ]
    with ExitStack() as stack:
        journals = [
            stack.enter_context(closing(Journal(path, overwrite=overwrite))) for path in files_of(journal, names)
        ]
        recorders = [
            XdfRecorder(
                path,
                [wish.stream, *(make_source_id(f"{name}-{what}") for what in ("detections", "probabilities"))],
                overwrite=overwrite,
            )
            for path, name, wish in zip(files_of(record, names), names, wishes, strict=False)  # all, or none
        ]
        for source in sources:
            stack.callback(source.close)
        tell(f"Looking for stream {', '.join(wish.stream for wish in wishes)} (up to {timeout_s:g} s) …")
        _connect(sources)
        outlets = stack.enter_context(_Outlets())
        sessions = []
        for index, (name, source, detector) in enumerate(zip(names, sources, detectors, strict=True)):
            metadata, stream = detector.model.metadata, source.stream
            decisions_per_s = metadata.sfreq / metadata.features.hop_samples
            probabilities = ProbabilityOutlet(f"{name}-probabilities", detector.event_names, decisions_per_s)
            detections = MarkerOutlet(f"{name}-detections")
            health = HealthOutlet(f"{name}-health", stream=stream.name, source_id=stream.source_id)
            outlets.add(probabilities, detections, health)
            session = Session(
                source,
                detector,
                (probabilities, detections),
                name=name,
                source_id=partial(_source_id_of, source),
                health=health,
                journal=journals[index] if journals else None,
                watched={"recorder": recorders[index]} if recorders else {},
                clock=local_clock,
                duration_s=duration_s,
                idle_timeout_s=idle_timeout_s,
            )
            sessions.append(session)
        if recorders:
            tell("Starting the recorder …")
            stack.callback(_finish_recording, recorders, tell)
            _at_once(XdfRecorder.start, recorders)
            for source in sources:
                source.discard()  # what came before the recording began is in no file
        stack.callback(outlets.linger)
        yield sessions


def name_sessions(wishes: Sequence[Wish], models: Sequence[str]) -> list[str]:
    """Name each session so that no two are called the same.

    Parameters
    ----------
    wishes : sequence of Wish
        The sessions.
    models : sequence of str
        Name of the model of each.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        Two sessions have the same name.

    Examples
    --------
    >>> name_sessions([Wish("left", "m.onnx"), Wish("right", "m.onnx"), Wish("left", "f.onnx")], ["m", "m", "f"])
    ['m-left', 'm-right', 'f']
    """
    shared = Counter(models)
    names = [
        wish.name or (model if shared[model] == 1 else f"{model}-{safe_name(wish.stream)}")
        for wish, model in zip(wishes, models, strict=True)
    ]
    files = Counter(map(safe_name, names))
    doubled = [name for name in names if files[safe_name(name)] > 1]
    if doubled:
        raise InputError(f"name: {doubled[0]!r} is the name of {len(doubled)} sessions; give each its own with --name")
    return names


def files_of(path: Path | None, names: Sequence[str]) -> list[Path]:
    """Return a file for each session: the path itself for one, ``F-NAME.jsonl`` for ``F.jsonl`` for several.

    Parameters
    ----------
    path : Path or None
        What the user gave for all sessions.
    names : sequence of str
        Names of the sessions.

    Returns
    -------
    list of Path
        Empty for None.

    Examples
    --------
    >>> [path.name for path in files_of(Path("day1.jsonl"), ["left", "amp 2"])]
    ['day1-left.jsonl', 'day1-amp_2.jsonl']
    """
    if path is None or len(names) == 1:
        return [path] if path else []
    return [path.with_name(f"{path.stem}-{safe_name(name)}{path.suffix}") for name in names]


def safe_name(text: str) -> str:
    """Return a text as part of a file's name.

    Examples
    --------
    >>> safe_name("name='Amp 1'")
    'name_Amp_1'
    """
    return _UNSAFE.sub("_", text).strip("_.") or "_"


def _connect(sources: Sequence[LSLSource]) -> None:
    """Connect to all streams; several at a time, for each takes a second or two."""
    if len(sources) == 1:
        sources[0].__enter__()
        return
    pool = ThreadPoolExecutor(_MAX_AT_ONCE)
    try:
        for _ in pool.map(LSLSource.__enter__, sources):
            pass
    except BaseException:
        for source in sources:
            source.close()  # which ends its search
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once(do: Callable[[_Item], None], items: Sequence[_Item]) -> None:
    """Do with all what takes seconds with each."""
    with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
        for _ in pool.map(do, items):
            pass


def _finish_recording(recorders: Sequence[XdfRecorder], tell: Callable[[str], None]) -> None:
    tell("Finishing the recording, which takes some seconds …")
    _at_once(XdfRecorder.close, recorders)


def _source_id_of(source: LSLSource) -> str:
    return source.stream.source_id


class _Outlets:
    """Outlets that are closed together."""

    def __init__(self) -> None:
        self._outlets: list[ProbabilityOutlet | MarkerOutlet | HealthOutlet] = []

    def add(self, *outlets: ProbabilityOutlet | MarkerOutlet | HealthOutlet) -> None:
        self._outlets += outlets

    def linger(self) -> None:
        """Give what was sent last the time to leave."""
        if any(outlet.has_consumer for outlet in self._outlets):
            time.sleep(_LINGER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for outlet in self._outlets:
            outlet.close()
