"""A live session as its journal tells it: which samples it took, and what it decided."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Quality
from streamdetect.decisions import Decisions, Detection
from streamdetect.errors import InputError
from streamdetect.sinks.journal import read_journal

_QUALITY = {quality.reason: quality for quality in Quality}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples that a session took without a break.

    Parameters
    ----------
    sample : int
        Index of the first, lost ones counted.
    time : float
        Its time stamp in s, as it was sent.
    n_lost : int
        Samples lost before it.
    restart : bool
        Whether the gap before it has no known length.
    n_samples : int
        How many; of the last stretch those up to the last decision, at least one: the decisions of lost samples are
        made with the first one after them.
    """

    sample: int
    time: float
    n_lost: int
    restart: bool
    n_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class JournalledSession:
    """What a journal tells of a session.

    Parameters
    ----------
    stream, source_id, unit : str
        What it read, see the journal's ``session`` record.
    stretches : tuple of Stretch
        Its samples.
    decisions : Decisions
        Times in s after the session's first sample; without members.
    stamps : ndarray, shape (n_decisions,)
        The decisions' times as they were sent, in s.
    holes : tuple of (int, int)
        First and last sample of each span whose records are missing, because the disk was full.
    is_whole : bool
        Whether its end was written; else the last record may be that of a decision without the detections that go
        with it.
    """

    stream: str
    source_id: str
    unit: str
    stretches: tuple[Stretch, ...]
    decisions: Decisions
    stamps: NDArray[np.float64]
    holes: tuple[tuple[int, int], ...]
    is_whole: bool

    @property
    def n_times(self) -> int:
        """Samples up to the last decision, lost ones counted."""
        return int(self.decisions.samples[-1]) + 1

    def was_on(self, stamps: NDArray[np.float64]) -> bool:
        """Say whether these are time stamps, as they were sent, of the stream that the session read."""
        return bool(self.stretches) and bool(np.isin(self.stamps, stamps).any())


def read_session(path: str | Path) -> JournalledSession:
    """Read the journal of a session, which may have been cut short.

    Parameters
    ----------
    path : str or Path
        A journal that `monitor` wrote.

    Returns
    -------
    JournalledSession

    Raises
    ------
    InputError
        The file is no journal, or holds no decisions.
    """
    session: dict[str, Any] = {}
    starts: list[dict[str, Any]] = []
    rows: list[tuple[int, float, int, list[float]]] = []
    detections: list[Detection] = []
    holes: list[tuple[int, int]] = []
    hole_from: int | None = None
    is_whole = False
    try:
        for record in read_journal(path):
            kind = record["type"]
            if kind == "session":
                session = record
            elif kind == "start":
                starts.append({"n_lost": 0, "restart": False, **record})
            elif kind == "reset":
                starts.append(record)
            elif kind == "lost" and hole_from is None:
                hole_from = rows[-1][0] + 1 if rows else 0
            elif kind == "decision":
                values = [record[f"p_{name}"] for name in session["events"]]
                probability = [math.nan if value is None else value for value in values]
                rows.append((record["sample"], record["time"], _QUALITY[record["reason"]], probability))
                if hole_from is not None:
                    holes.append((hole_from, record["sample"] - 1))
                    hole_from = None
            elif kind == "detection":
                detections.append(Detection(record["event"], record["sample"], record["time"], record["probability"]))
            elif kind == "end":
                is_whole = True
        if not rows:
            raise InputError(f"{path}: no decisions: expected the journal of a monitor session")
        starts.sort(key=lambda record: record["sample"])  # one that waited for room on the disk is written late
        ends = [record["sample"] - record["n_lost"] for record in starts[1:]] + [rows[-1][0] + 1]
        stretches = tuple(
            Stretch(
                record["sample"], record["time"], record["n_lost"], record["restart"], max(1, end - record["sample"])
            )
            for record, end in zip(starts, ends, strict=True)
        )
        first_time = stretches[0].time if stretches else 0.0
        samples, times, quality, probabilities = zip(*rows, strict=True)
        stamps = np.array(times)
        decisions = Decisions(
            tuple(session["events"]),
            np.array(samples, dtype=np.int64),
            stamps - first_time,
            np.array(quality, dtype=np.uint8),
            np.array(probabilities, dtype=np.float32),
            {},
            tuple(replace(each, time=each.time - first_time) for each in detections),
        )
        return JournalledSession(
            session["stream"],
            session.get("source_id", ""),
            session.get("unit", ""),
            stretches,
            decisions,
            stamps,
            tuple(holes),
            is_whole,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: a record is not one of a streamdetect journal: {error}") from error
