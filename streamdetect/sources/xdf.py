"""XDF files, as LabRecorder writes them: one EEG stream, and the marker streams beside it."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import MissingExtraError, RecordingError
from streamdetect.events import Annotation
from streamdetect.sources.channels import pick_channels, volts_per
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.recording import Recording, describe_error

logger = logging.getLogger("streamdetect")

_MAGIC = b"XDF:"


def read_xdf(path: Path, stream: str | None = None) -> Recording:
    """Read the EEG stream and the markers of an XDF file.

    Parameters
    ----------
    path : Path
        The file.
    stream : str or None
        Name of the EEG stream; None for the only one of type ``EEG``.

    Returns
    -------
    Recording
        Times are the file's own, synchronised to the recorder's clock and not smoothed, minus the first sample's; lost
        samples and resets of the sender's clock are marked, and what is there twice is left out. Samples are kept in
        the file's number format.

    Raises
    ------
    RecordingError
        Where the file is damaged, or which stream to read is not clear.
    MissingExtraError
        Where pyxdf is not installed.
    """
    loaded = load_stream(path, lambda headers: _choose_eeg(path, headers, stream), as_sent=False)
    eeg = loaded.eeg
    rows, ch_names, factors = describe_channels(path, eeg["info"])
    stamps = loaded.stamps
    first_time = float(stamps[0])
    times = stamps - first_time
    resets = [int(first) for first, _ in eeg["info"]["clock_segments"] if first > 0]

    def read(picks: list[int], block_samples: int) -> Iterator[Chunk]:
        samples = Samples(loaded.blocks, rows[picks], factors[picks])
        return _blocks(samples, times, resets, loaded.sfreq, block_samples)

    return Recording(
        path=path,
        info=StreamInfo(ch_names=ch_names, sfreq=loaded.sfreq, name=path.name),
        n_times=len(times),
        annotations=_read_markers(path, loaded.markers, first_time, times[-1]),
        read=read,
        first_time=first_time,
    )


class NoSamplesError(RecordingError):
    """The stream that was looked for is not there, or is empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What pyxdf read: the signal's fields, its sampling rate, time stamps and samples, and the marker streams."""

    eeg: dict
    sfreq: float
    stamps: NDArray[np.float64]
    blocks: list[NDArray]
    markers: list[dict]


def load_stream(path: Path, choose: Callable[[Sequence[dict]], int | None], *, as_sent: bool) -> Loaded:
    """Read one stream, and the markers beside it.

    Parameters
    ----------
    path : Path
        The file.
    choose : callable
        Gets the headers and returns the id of the stream, or None where it is not among them.
    as_sent : bool
        True for the time stamps as they were sent and no markers; False for those synchronised to the recorder's clock.

    Returns
    -------
    Loaded

    Raises
    ------
    NoSamplesError
        There is no such stream, or it is empty.
    RecordingError
        The file is damaged, or the stream has no sampling rate.
    MissingExtraError
        pyxdf is not installed.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise MissingExtraError("pyxdf", "xdf") from error

    blocks: list[NDArray] = []

    def keep_samples(values: Any, stamps: Any, info: dict, stream_id: int) -> tuple:  # spares pyxdf's joined copy
        if stream_id == eeg_id:
            blocks.append(values)
            values = values[:, :0]
        return values, stamps, info

    try:
        with _pyxdf_messages() as messages:
            with _open(path) as file:
                if file.read(4) != _MAGIC:
                    raise RecordingError(f"{path}: expected an XDF file, found something else; is it the right file?")
                file.seek(0)
                headers = pyxdf.resolve_streams(file)
            eeg_id = choose(headers)
            if eeg_id is None:
                raise NoSamplesError(f"{path}: no such stream")
            marker_ids = [] if as_sent else [header["stream_id"] for header in headers if is_marker(header)]
            with _open(path) as file:
                loaded, _ = pyxdf.load_xdf(
                    file,
                    [eeg_id, *marker_ids],
                    on_chunk=keep_samples,
                    synchronize_clocks=not as_sent,
                    handle_clock_resets=not as_sent,
                    dejitter_timestamps=False,
                    verbose=False,
                )
    except RecordingError:
        raise
    except Exception as error:  # pyxdf raises whatever a damaged file makes it stumble over
        raise RecordingError(f"{path}: expected an XDF file, but {describe_error(error)}; copy it again") from error
    for message in messages:
        logger.warning("%s: %s", path, message)

    by_id = {each["info"]["stream_id"]: each for each in loaded}
    eeg = by_id[eeg_id]
    name, sfreq = eeg["info"]["name"][0], float(eeg["info"]["nominal_srate"][0])
    stamps = np.asarray(eeg["time_stamps"], dtype=np.float64)
    if not len(stamps):
        raise NoSamplesError(f"{path}: stream {name} holds no samples")
    if sfreq <= 0:
        raise RecordingError(f"{path}: stream {name} has no regular sampling rate: expected one in Hz")
    return Loaded(eeg, sfreq, stamps, blocks, [by_id[marker_id] for marker_id in marker_ids])


def _open(path: Path) -> BinaryIO:
    """Open the file for pyxdf, which would decompress only some of the names."""
    return path.open("rb") if path.suffix.lower() == ".xdf" else cast(BinaryIO, gzip.open(path))


class Samples:
    """Samples in volts, cut from blocks in the file's number format.

    Parameters
    ----------
    blocks : list of ndarray, shape (n_times, n_rows)
        As the file has them.
    rows : ndarray of int
        Rows to deliver, in this order.
    factors : ndarray
        From each row's unit to volts.
    """

    def __init__(self, blocks: list[NDArray], rows: NDArray[np.intp], factors: NDArray[np.float64]) -> None:
        self._blocks = blocks
        self._starts = np.cumsum([0, *(len(block) for block in blocks)])
        self._rows = rows
        self._factors = factors[:, np.newaxis]

    def between(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return samples start to stop, shape (n_channels, stop - start)."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        parts = [
            self._blocks[i][max(0, start - self._starts[i]) : stop - self._starts[i], self._rows].T
            for i in range(first, last)
        ]
        return np.concatenate(parts, axis=1, dtype=np.float64) * self._factors


def _blocks(
    samples: Samples, times: NDArray[np.float64], resets: list[int], sfreq: float, block_samples: int
) -> Iterator[Chunk]:
    marker = GapMarker(sfreq)
    cuts = sorted({*range(0, len(times), block_samples), *resets, len(times)})
    for start, stop in pairwise(cuts):
        chunks = marker.mark(samples.between(start, stop), times[start:stop])
        if start in resets:  # whatever the time stamps say: they are of another clock
            chunks[:1] = [replace(first, n_lost=0, restart=True) for first in chunks[:1]]
        yield from chunks


def _choose_eeg(path: Path, headers: Sequence[dict], stream: str | None) -> int:
    numeric = [header for header in headers if header["channel_format"] != "string"]
    if stream is None:
        found, wanted = (
            [header for header in numeric if (header["type"] or "").casefold() == "eeg"],
            "a stream of type EEG",
        )
    else:
        found, wanted = [header for header in numeric if header["name"] == stream], f"a stream named {stream}"
    if len(found) == 1:
        return found[0]["stream_id"]
    listed = ", ".join(f"{header['name']} (type {header['type'] or 'none'})" for header in (found or headers))
    advice = "name one of them" if stream is None else "rename them"
    if found:
        raise RecordingError(f"{path}: expected one stream to read, found {len(found)}: {listed}; {advice}")
    raise RecordingError(f"{path}: expected {wanted}, found {listed or 'no streams'}")


def is_marker(header: dict) -> bool:
    """Say whether a stream holds markers, by its header."""
    return header["channel_format"] == "string" or (header["type"] or "").casefold() in ("marker", "markers")


def describe_channels(path: Path, info: dict) -> tuple[NDArray[np.intp], tuple[str, ...], NDArray[np.float64]]:
    """Return the rows of the EEG channels, their names, and the factors to volts.

    The description follows https://github.com/sccn/xdf/wiki/EEG-Meta-Data; each part of it may be missing.
    """
    n_channels = int(info["channel_count"][0])
    described = child_of(child_of(info, "desc"), "channels").get("channel", [])
    if len(described) != n_channels:
        if described:
            logger.warning("%s: %d of %d channels are described; ignoring it", path, len(described), n_channels)
        described = [None] * n_channels
    fields = [channel if isinstance(channel, dict) else {} for channel in described]
    labels = [text_of(channel, "label") or f"ch{index}" for index, channel in enumerate(fields, start=1)]
    kinds = [text_of(channel, "type").casefold() for channel in fields]
    rows = [index for index, kind in enumerate(kinds) if kind == "eeg" or "eeg" not in kinds]
    names = tuple(labels[row] for row in rows)
    pick_channels(names, names, where=str(path))

    units = [text_of(fields[row], "unit") for row in rows]
    if not all(units):
        logger.warning("%s: no unit is given for %d channels; taking them as microvolts", path, units.count(""))
    try:
        factors = [volts_per(unit or "microvolts") for unit in units]
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from error
    return np.array(rows), names, np.array(factors)


def child_of(fields: dict, key: str) -> dict:
    """Return an element of a description, empty where it is not there."""
    children = fields.get(key) or [None]
    return children[0] if isinstance(children[0], dict) else {}


def text_of(fields: dict, key: str) -> str:
    """Return the text of an element of a description, empty where it is not there."""
    values = fields.get(key) or [None]
    return values[0].strip() if isinstance(values[0], str) else ""


def _read_markers(path: Path, streams: Sequence[dict], first_time: float, duration: float) -> tuple[Annotation, ...]:
    annotations = []
    for stream in streams:
        for time, values in zip(stream["time_stamps"], stream["time_series"], strict=True):
            words = [value.strip() if isinstance(value, str) else f"{value:g}" for value in values]
            description = " ".join(word for word in words if word)
            if description:
                annotations.append(Annotation(float(time) - first_time, 0.0, description))
    inside = [note for note in annotations if 0 <= note.onset <= duration]
    if len(inside) < len(annotations):
        logger.info("%s: left out %d markers outside the EEG", path, len(annotations) - len(inside))
    return tuple(sorted(inside, key=lambda note: note.onset))


@contextmanager
def _pyxdf_messages() -> Iterator[list[str]]:
    """Collect what pyxdf would print."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "clock-segments differ" not in record.getMessage():  # follows from not smoothing the times
                messages.append(record.getMessage())

    pyxdf_logger, collector = logging.getLogger("pyxdf"), Collector(logging.WARNING)
    propagates = pyxdf_logger.propagate
    pyxdf_logger.addHandler(collector)
    pyxdf_logger.propagate = False
    try:
        yield messages
    finally:
        pyxdf_logger.removeHandler(collector)
        pyxdf_logger.propagate = propagates
