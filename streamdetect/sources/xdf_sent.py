"""A stream of an XDF file as it was sent: what a live session saw of it, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import StreamInfo
from streamdetect.errors import RecordingError
from streamdetect.sources.channels import volts_per
from streamdetect.sources.xdf import NoSamplesError, Samples, child_of, is_marker, load_stream, text_of


def is_xdf(path: Path) -> bool:
    """Say whether a file is an XDF file, by its name."""
    return path.name.lower().endswith((".xdf", ".xdfz", ".xdf.gz"))


@dataclass(frozen=True, slots=True, eq=False)
class SentSamples:
    """A stream of an XDF file as it was sent, and as whoever received it saw it.

    Parameters
    ----------
    info : StreamInfo
        All channels, sampling rate in Hz and the stream's name.
    stamps : ndarray, shape (n_times,), float64
        Time stamps in s of the sender's clock, to the bit; neither synchronised nor smoothed.
    between : callable
        ``between(start, stop, picks)`` returns samples of channels, shape (n_channels, stop - start), in volts; an
        `InputError` where the unit of one is not known.
    """

    info: StreamInfo
    stamps: NDArray[np.float64]
    between: Callable[[int, int, list[int]], NDArray[np.float64]]


def read_as_sent(path: Path, stream: str, source_id: str = "", unit: str = "") -> SentSamples | None:
    """Read a stream of an XDF file with the time stamps that it was sent with.

    Parameters
    ----------
    path : Path
        The file.
    stream : str
        Name of the stream.
    source_id : str
        Which of several streams of that name; empty where only one is expected.
    unit : str
        Unit of all channels; empty for what the file says of each.

    Returns
    -------
    SentSamples or None
        None where the file holds no such stream, or no sample of it.

    Raises
    ------
    RecordingError
        Where the file is damaged, or several streams have that name.
    MissingExtraError
        Where pyxdf is not installed.
    """

    def choose(headers: Sequence[dict]) -> int | None:
        found = [each for each in headers if each["name"] == stream and not is_marker(each)]
        of_that_id = [each for each in found if source_id and each["source_id"] == source_id]
        found = of_that_id or found
        if len(found) > 1:
            ids = ", ".join(each["source_id"] or "none" for each in found)
            raise RecordingError(f"{path}: expected one stream named {stream}, found {len(found)} (source ids {ids})")
        return found[0]["stream_id"] if found else None

    try:
        loaded = load_stream(path, choose, as_sent=True)
    except NoSamplesError:
        return None
    labels, units = _read_channels(loaded.eeg["info"])

    def between(start: int, stop: int, picks: list[int]) -> NDArray[np.float64]:
        factors = np.array([volts_per(unit or units[row] or "microvolts") for row in picks])
        return Samples(loaded.blocks, np.array(picks), factors).between(start, stop)

    return SentSamples(StreamInfo(labels, loaded.sfreq, stream), loaded.stamps, between)


def _read_channels(info: dict) -> tuple[tuple[str, ...], list[str]]:
    """Return label and unit of each channel, of whatever type, as a live session takes them."""
    n_channels = int(info["channel_count"][0])
    described = child_of(child_of(info, "desc"), "channels").get("channel", [])[:n_channels]
    fields = [each if isinstance(each, dict) else {} for each in described]
    fields += [{}] * (n_channels - len(fields))
    labels = tuple(text_of(each, "label") or f"ch{number}" for number, each in enumerate(fields, start=1))
    return labels, [text_of(each, "unit") for each in fields]


def read_all_parts(path: Path, stream: str, source_id: str = "", unit: str = "") -> SentSamples | None:
    """Read a stream from a file and those in which it goes on: ``F-2.xdf``, ``F-3.xdf``, … beside ``F.xdf``.

    Parameters
    ----------
    path, stream, source_id, unit
        As for `read_as_sent`.

    Returns
    -------
    SentSamples or None
        The parts joined, in their order; None where none holds a sample.

    Raises
    ------
    RecordingError
        As `read_as_sent`, or a later part has other channels.
    """
    parts = []
    number, part = 2, path
    while part.exists():
        is_empty = part.stat().st_size == 0  # where LabRecorder ended before its first 8 kB
        read = None if is_empty else read_as_sent(part, stream, source_id, unit)
        if read is not None:
            parts.append(read)
        if parts and parts[-1].info != parts[0].info:
            raise RecordingError(f"{part}: its stream {stream} has other channels or another rate than that in {path}")
        part = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    if len(parts) < 2:
        return parts[0] if parts else None
    starts = np.cumsum([0, *(len(each.stamps) for each in parts)])

    def between(start: int, stop: int, picks: list[int]) -> NDArray[np.float64]:
        pieces = [
            each.between(max(0, start - first), min(len(each.stamps), stop - first), picks)
            for each, first in zip(parts, starts[:-1].tolist(), strict=True)
            if first < stop and start < first + len(each.stamps)
        ]
        return np.concatenate(pieces, axis=1)

    return SentSamples(parts[0].info, np.concatenate([each.stamps for each in parts]), between)
