"""The journal of a live session: JSON Lines, one record a line, tagged ``type``.

=============  ========================================================================================================
type           fields
=============  ========================================================================================================
``session``    ``schema_version`` (1), ``streamdetect`` (version), ``model`` {``name``, ``sha256``}, ``stream``,
               ``sfreq``, ``ch_names``, ``events`` (names), ``thresholds`` (one an event), ``started`` (ISO 8601, UTC)
``start``      ``sample`` (0), ``time`` of the first sample
``clock``      ``time``, ``time_correction``: what to add to a time to have it in the LSL clock of this machine, as it
               was measured about then
``reset``      ``sample``, ``time`` of the first sample after a gap, ``n_lost`` samples, ``restart`` (true where nothing
               before may be joined to it: the clock went back or jumped ahead)
``decision``   ``sample``, ``time``, ``valid``, ``reason`` (empty where valid), ``p_<event>`` for each event (null where
               invalid)
``detection``  ``event``, ``sample``, ``time``, ``probability``
``end``        ``reason``, and the counts of the session
=============  ========================================================================================================

Times are in s of the stream's own clock, exactly as received; ``sample`` counts from the first sample, lost ones
included. Numbers are written with as many digits as it takes to read the same number back. A record is complete when
its line is: after a crash at most the last line is cut short, and `read_journal` leaves it out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from streamdetect import __version__
from streamdetect.chunk import StreamInfo
from streamdetect.decisions import Decision, Decisions, Detection
from streamdetect.errors import InputError

SCHEMA_VERSION = 1

Record = dict[str, Any]


class Journal:
    """Writes the journal; every method's records are on their way to the disk when it returns.

    Parameters
    ----------
    path : path
        File to write.
    overwrite : bool
        Replace a file that exists, once there is something to write.

    Raises
    ------
    InputError
        The file exists, or cannot be written.
    """

    def __init__(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._is_empty = True
        self._is_new = not self.path.exists()
        try:
            self._file = self.path.open("ab" if overwrite else "xb")
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
    ) -> None:
        """Write what the session is: model, stream, events and when it started (ISO 8601)."""
        self._write(
            {
                "type": "session",
                "schema_version": SCHEMA_VERSION,
                "streamdetect": __version__,
                "model": dict(model),
                "stream": stream.name,
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
        records = []
        for decision in decisions:
            records.append(_decision_record(decision))
            records += [_detection_record(detection) for detection in detections.get(decision.sample, ())]
        self._write(*records)

    def end(self, *, reason: str, **counts: Any) -> None:
        """Write why the session ended and what it counted."""
        self._write({"type": "end", "reason": reason, **counts})

    def close(self) -> None:
        """Close the file; one that was made for nothing is removed."""
        if self._file.closed:
            return
        self._file.close()
        if self._is_empty and self._is_new:
            self.path.unlink()

    def _write(self, *records: Record) -> None:
        if not records:
            return
        if self._is_empty:
            self._file.truncate(0)
            self._is_empty = False
        lines = [json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":")) for record in records]
        try:
            self._file.write(("\n".join(lines) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise InputError(f"journal: {self.path} cannot be written: {error.strerror or error}") from error


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


def _decision_record(decision: Decision) -> Record:
    probabilities = {
        f"p_{event}": None if math.isnan(value) else value for event, value in decision.probability.items()
    }
    return {
        "type": "decision",
        "sample": decision.sample,
        "time": decision.time,
        "valid": decision.valid,
        "reason": decision.reason,
        **probabilities,
    }


def _detection_record(detection: Detection) -> Record:
    return {
        "type": "detection",
        "event": detection.event,
        "sample": int(detection.sample),
        "time": float(detection.time),
        "probability": float(detection.probability),
    }
