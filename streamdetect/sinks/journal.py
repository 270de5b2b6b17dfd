"""The journal of a live session: JSON Lines, one record a line, tagged ``type``.

=============  ========================================================================================================
type           fields
=============  ========================================================================================================
``session``    ``schema_version`` (1), ``streamdetect`` (version), ``model`` {``name``, ``sha256``}, ``stream``,
               ``source_id`` (of the stream), ``unit`` (where one was given against the stream's), ``sfreq``,
               ``ch_names``, ``events`` (names), ``thresholds`` (one an event), ``started`` (ISO 8601, UTC)
``start``      ``sample`` (0), ``time`` of the first sample
``clock``      ``time``, ``time_correction``: what to add to a time to have it in the LSL clock of this machine, as it
               was measured about then
``reset``      ``sample``, ``time`` of the first sample after a gap, ``n_lost`` samples, ``restart`` (true where nothing
               before may be joined to it: the clock went back or jumped ahead)
``channel``    ``sample``, ``time``, ``name``, ``reasons`` (a list, empty for a good channel), ``repaired``: what was
               found of a channel, each time that it changes
``decision``   ``sample``, ``time``, ``valid``, ``reason`` (empty where valid), ``p_<event>`` for each event (null where
               invalid)
``detection``  ``event``, ``sample``, ``time``, ``probability``
``lost``       ``n_records``: how many decisions, detections and clock records are missing here, for the disk was full
``end``        ``reason``, and the counts of the session
=============  ========================================================================================================

Times are in s of the stream's own clock, exactly as received; ``sample`` counts from the first sample, lost ones
included. Numbers are written with as many digits as it takes to read the same number back. A record is complete when
its line is: after a crash at most the last line is cut short, and `read_journal` leaves it out.

A disk that is full, or fails otherwise, does not end the session. What cannot be written is counted, and each further
write tries again; then a ``lost`` record says how many are missing. Records of which there are few, and without which
the rest could not be read (all but decisions, detections and clock), wait in memory and are written late, not lost.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from streamdetect import __version__
from streamdetect.chunk import Quality, StreamInfo
from streamdetect.decisions import Decisions, Detection
from streamdetect.errors import InputError

SCHEMA_VERSION = 1

Record = dict[str, Any]

_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))

_VALIDITY = {int(quality): ("false" if quality else "true", quality.reason) for quality in Quality}

_MAX_WAITING = 1000  # records, of a session whose disk stays full
_LOSABLE = ("decision", "detection", "clock")


class Journal:
    """Writes the journal; every method's records are on their way to the disk when it returns.

    Parameters
    ----------
    path : path
        File to write.
    overwrite : bool
        Replace a file that exists, once there is something to write.

    Attributes
    ----------
    path : Path
        The file.
    warning : str
        What is missing in it and why; empty where nothing is.

    Raises
    ------
    InputError
        The file exists, or cannot be opened.
    """

    def __init__(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.warning = ""
        self._is_empty = True
        self._is_new = not self.path.exists()
        self._waiting: list[str] = []  # lines
        self._n_lost = 0  # of which no record tells yet
        self._n_lost_ever = 0
        self._n_bytes = 0  # of whole lines
        self._is_torn = False  # whether there is more in the file
        try:
            self._file = self.path.open("r+b" if overwrite and not self._is_new else "xb", buffering=0)
        except FileExistsError:
            raise InputError(f"journal: {self.path} exists; choose another name, or --overwrite") from None
        except OSError as error:
            raise InputError(f"journal: {self.path} cannot be written: {error.strerror or error}") from error

    def session(
        self,
        *,
        model: Mapping[str, str],
        stream: StreamInfo,
        event_names: Sequence[str],
        thresholds: Sequence[float],
        started: str,
        source_id: str = "",
        unit: str | None = None,
    ) -> None:
        """Write what the session is: model, stream, its source id and the unit that overrules its own, events, start.

        Parameters
        ----------
        model : mapping
            ``name`` and ``sha256``.
        stream : StreamInfo
            What is read.
        event_names, thresholds : sequence
            Of the model.
        started : str
            When, in ISO 8601, UTC.
        source_id : str
            Of the stream.
        unit : str or None
            Unit of all channels where that was given; None for what the stream says.
        """
        self._write(
            {
                "type": "session",
                "schema_version": SCHEMA_VERSION,
                "streamdetect": __version__,
                "model": dict(model),
                "stream": stream.name,
                "source_id": source_id,
                "unit": unit or "",
                "sfreq": stream.sfreq,
                "ch_names": list(stream.ch_names),
                "events": list(event_names),
                "thresholds": [float(threshold) for threshold in thresholds],
                "started": started,
            }
        )

    def start(self, *, sample: int, time: float) -> None:
        """Write the first sample's time."""
        self._write({"type": "start", "sample": sample, "time": float(time)})

    def clock(self, *, time: float, time_correction: float) -> None:
        """Write the offset of the stream's clock to this machine's."""
        self._write({"type": "clock", "time": float(time), "time_correction": float(time_correction)})

    def reset(self, *, sample: int, time: float, n_lost: int, restart: bool) -> None:
        """Write a gap: the first sample after it, and what is known of its length."""
        self._write({"type": "reset", "sample": sample, "time": float(time), "n_lost": n_lost, "restart": restart})

    def channel(self, *, sample: int, time: float, name: str, reasons: Sequence[str], repaired: bool) -> None:
        """Write what is found of a channel from a sample on."""
        self._write(
            {
                "type": "channel",
                "sample": sample,
                "time": float(time),
                "name": name,
                "reasons": list(reasons),
                "repaired": repaired,
            }
        )

    def write(self, decisions: Decisions, time_correction: float = 0.0) -> None:
        """Write decisions, each followed by the detections that it completed.

        Parameters
        ----------
        decisions : Decisions
            The next decisions.
        time_correction : float
            Not used: times are written in the stream's own clock.
        """
        detections: dict[int, list[Detection]] = {}
        for detection in decisions.detections:
            detections.setdefault(detection.sample, []).append(detection)
        lines = []
        for sample, line in _decision_lines(decisions):
            lines.append(("decision", line))
            lines += [("detection", _to_line(_detection_record(each))) for each in detections.get(sample, ())]
        self._write_lines(lines)

    def end(self, *, reason: str, **counts: Any) -> None:
        """Write why the session ended and what it counted."""
        self._write({"type": "end", "reason": reason, **counts})

    def close(self) -> None:
        """Close the file; one that was made for nothing is removed."""
        if self._file.closed:
            return
        self._write_lines([])
        self._file.close()
        if self._is_empty and self._is_new:
            self.path.unlink()

    def _write(self, record: Record) -> None:
        self._write_lines([(record["type"], _to_line(record))])

    def _write_lines(self, lines: Sequence[tuple[str, str]]) -> None:
        """Write records, each with its type, and before them what could not be written so far."""
        pending = [*self._waiting, *([_to_line({"type": "lost", "n_records": self._n_lost})] if self._n_lost else [])]
        if not pending and not lines:
            return
        try:
            self._append("".join([*pending, *(line for _, line in lines)]).encode())
        except OSError as error:
            for kind, line in lines:
                if kind in _LOSABLE or len(self._waiting) >= _MAX_WAITING:
                    self._n_lost += 1
                    self._n_lost_ever += 1
                else:
                    self._waiting.append(line)
            self.warning = f"{self.path}: {_explain(error)}, {self._n_lost_ever} records lost"
            return
        self._waiting, self._n_lost = [], 0
        if self.warning:
            self.warning = f"{self.path}: {self._n_lost_ever} records lost while it could not be written"

    def _append(self, data: bytes) -> None:
        """Write all of it; where that fails, none."""
        if self._is_empty or self._is_torn:
            self._cut_short()
            self._is_empty = False
        n_written = 0
        try:
            while n_written < len(data):
                n_written += self._file.write(data[n_written:])
        except OSError:
            if n_written:
                self._is_torn = True
                with suppress(OSError):  # then before the next write
                    self._cut_short()
            raise
        self._n_bytes += len(data)

    def _cut_short(self) -> None:
        """Take away what is no whole line, for which no room is needed."""
        self._file.truncate(self._n_bytes)
        self._file.seek(self._n_bytes)
        self._is_torn = False


def _to_line(record: Record) -> str:
    return _ENCODER.encode(record) + "\n"


def _explain(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk full"
    return f"cannot be written ({error.strerror or error})"


def read_journal(path: str | PathLike[str]) -> Iterator[Record]:
    """Read a journal record by record.

    Parameters
    ----------
    path : path
        A journal, which may still be growing or have been cut short in its last line.

    Yields
    ------
    dict
        The records, in the order in which they were written.

    Raises
    ------
    InputError
        The file cannot be read, or a line in it other than the last is no record.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    record["type"]
                except (ValueError, TypeError, KeyError):
                    if not line.endswith(b"\n"):
                        return
                    raise InputError(f"{path}: line {number} is not a record of a streamdetect journal") from None
                yield record
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decision_lines(decisions: Decisions) -> Iterator[tuple[int, str]]:
    """Yield the sample and the line of each decision, written from the arrays: the next samples wait meanwhile."""
    layout = _decision_layout(decisions.event_names)
    columns = (decisions.samples, decisions.times, decisions.quality, decisions.probability)
    for sample, time, quality, row in zip(*(column.tolist() for column in columns), strict=True):
        probabilities = ["null" if math.isnan(value) else repr(value) for value in row]
        if not math.isfinite(time):
            raise ValueError(f"decision at sample {sample}: its time is not a number")
        yield sample, layout % (sample, repr(time), *_VALIDITY[quality], *probabilities)


@lru_cache
def _decision_layout(event_names: tuple[str, ...]) -> str:
    """Return the line of a decision, with places for sample, time, validity and probabilities."""
    keys = (_ENCODER.encode(f"p_{event}").replace("%", "%%") for event in event_names)
    probabilities = "".join(f",{key}:%s" for key in keys)
    return '{"type":"decision","sample":%d,"time":%s,"valid":%s,"reason":"%s"' + probabilities + "}\n"


def _detection_record(detection: Detection) -> Record:
    return {
        "type": "detection",
        "event": detection.event,
        "sample": int(detection.sample),
        "time": float(detection.time),
        "probability": float(detection.probability),
    }
