"""Pairs of CSV files in the layout of the Grasp-and-Lift challenge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import RecordingError
from streamdetect.events import Annotation
from streamdetect.sources.channels import pick_channels
from streamdetect.sources.recording import Recording

SFREQ = 500.0  # Luciw et al. 2014; the files do not say
VOLTS_PER_COUNT = 1e-6
_DATA_SUFFIX = "_data.csv"
_EVENTS_SUFFIX = "_events.csv"
_EVENT_ROWS = 50_000  # rows parsed at a time


def read_grasp_and_lift(path: Path) -> Recording:
    """Open the data file of a pair.

    Parameters
    ----------
    path : Path
        ``…_data.csv`` with the header ``id,Fp1,…``: one row a sample at 500 Hz, in µV. Where ``…_events.csv`` lies
        beside it, with the header ``id,HandStart,…`` and as many rows of 0 and 1, it gives the annotations.

    Returns
    -------
    Recording
        An event's onset is the middle of its run of ones.

    Raises
    ------
    RecordingError
        Where a file has another layout; the message names the line.
    ChannelError
        Where a channel occurs twice.

    References
    ----------
    Luciw, Jarocka, Edin, Multi-channel EEG recordings during 3,936 grasp and lift trials with varying weight and
    friction, Scientific Data 1:140047 (2014), doi:10.1038/sdata.2014.47
    """
    if path.name.lower().endswith(_EVENTS_SUFFIX):
        data_name = path.name[: -len(_EVENTS_SUFFIX)] + _DATA_SUFFIX
        raise RecordingError(
            f"{path}: expected the samples, found the events file of the pair; give {path.with_name(data_name)}"
        )
    ch_names = _read_header(path)
    pick_channels(ch_names, ch_names, where=str(path))
    n_times = _count_rows(path)
    if n_times == 0:
        raise RecordingError(f"{path}: expected one row a sample below the header, found none")
    return Recording(
        path=path,
        info=StreamInfo(ch_names=ch_names, sfreq=SFREQ, name=path.name),
        n_times=n_times,
        annotations=_read_events(path, n_times),
        read=lambda rows, block_samples: _blocks(path, ch_names, rows, block_samples),
    )


def _blocks(path: Path, ch_names: Sequence[str], picks: list[int], block_samples: int) -> Iterator[Chunk]:
    start = 0
    for values in _read_rows(path, ch_names, picks, block_samples):
        stop = start + len(values)
        data = np.multiply(values.T, VOLTS_PER_COUNT, order="C")
        yield Chunk(data, np.arange(start, stop) / SFREQ)
        start = stop


def _read_events(data_path: Path, n_times: int) -> tuple[Annotation, ...]:
    if not data_path.name.lower().endswith(_DATA_SUFFIX):
        return ()
    path = data_path.with_name(data_path.name[: -len(_DATA_SUFFIX)] + _EVENTS_SUFFIX)
    if not path.exists():  # the challenge's test series
        return ()
    names = _read_header(path)
    blocks = list(_read_rows(path, names, list(range(len(names))), _EVENT_ROWS))
    marks = np.concatenate(blocks) if blocks else np.zeros((0, len(names)))
    if len(marks) != n_times:
        raise RecordingError(f"{path}: expected the {n_times} rows of {data_path.name}, found {len(marks)}")
    if not np.isin(marks, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(marks, (0, 1)).all(axis=1))[0])
        raise RecordingError(f"{path}: expected 0 or 1 in every cell, found something else in line {row + 2}")
    annotations = [
        Annotation((first + last) / 2 / SFREQ, 0.0, name)
        for column, name in enumerate(names)
        for first, last in _runs_of_ones(marks[:, column])
    ]
    return tuple(sorted(annotations, key=lambda note: note.onset))


def _runs_of_ones(marks: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the first and the last index of each run.

    Examples
    --------
    >>> _runs_of_ones(np.array([1.0, 0.0, 1.0, 1.0, 1.0]))
    [(0, 0), (2, 4)]
    """
    steps = np.diff(marks, prepend=0, append=0)
    return list(zip(np.flatnonzero(steps > 0).tolist(), (np.flatnonzero(steps < 0) - 1).tolist(), strict=True))


def _read_header(path: Path) -> tuple[str, ...]:
    """Return the names of the columns after ``id``."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            names = [name.strip().strip('"') for name in file.readline().split(",")]
        except UnicodeDecodeError as error:
            raise RecordingError(f"{path}: expected a CSV file, found bytes that are no UTF-8 text") from error
    if names[0] != "id" or len(names) < 2:
        raise RecordingError(f"{path}: line 1: expected a header such as id,Fp1,Fp2,…, found {','.join(names)[:60]!r}")
    return tuple(names[1:])


def _count_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(not line.isspace() for line in file) - 1


def _read_rows(path: Path, names: Sequence[str], picks: list[int], n_rows: int) -> Iterator[NDArray]:
    """Yield blocks of rows, shape (at most n_rows, n_picks), as integers where all cells are."""
    columns = [1 + pick for pick in picks]
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        next(file)
        first_line = 2
        while lines := list(islice(file, n_rows)):
            values = _parse_fast(lines, columns, n_commas=len(names))
            if values is None:
                values = _parse_slowly(path, lines, first_line, names)[:, picks]
            if len(values):
                yield values
            first_line += len(lines)


def _parse_fast(lines: list[str], columns: list[int], n_commas: int) -> NDArray | None:
    """Return the cells, or None where a line is not as expected."""
    if any(line.count(",") != n_commas for line in lines):
        return None
    for dtype in (np.int64, np.float64):
        try:
            return np.loadtxt(lines, dtype, comments=None, delimiter=",", usecols=columns, ndmin=2)
        except ValueError:
            continue
    return None


def _parse_slowly(path: Path, lines: list[str], first_line: int, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the cells, an empty one as NaN; raise an error that names the line."""
    rows = []
    for number, line in enumerate(lines, first_line):
        if line.isspace():
            continue
        cells = line.rstrip("\r\n").split(",")[1:]
        if len(cells) != len(names):
            raise RecordingError(f"{path}: line {number}: expected {len(names) + 1} cells, found {len(cells) + 1}")
        row = []
        for name, cell in zip(names, cells, strict=True):
            try:
                row.append(float(cell) if cell.strip() else math.nan)
            except ValueError as error:
                raise RecordingError(
                    f"{path}: line {number}: expected a number in column {name}, found {cell!r}"
                ) from error
        rows.append(row)
    return np.array(rows).reshape(-1, len(names))
