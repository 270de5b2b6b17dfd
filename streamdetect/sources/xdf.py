"""XDF files, as LabRecorder writes them: one EEG stream, and the marker streams beside it."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
        samples and resets of the sender's clock are marked. Samples are kept in the file's number format.

    Raises
    ------
    RecordingError
        Where the file is damaged, or which stream to read is not clear.
    MissingExtraError
        Where pyxdf is not installed.
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
            eeg_id = _choose_eeg(path, headers, stream)
            marker_ids = [header["stream_id"] for header in headers if _is_marker(header)]
            with _open(path) as file:
                loaded, _ = pyxdf.load_xdf(
                    file, [eeg_id, *marker_ids], on_chunk=keep_samples, dejitter_timestamps=False, verbose=False
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
        raise RecordingError(f"{path}: stream {name} holds no samples")
    if sfreq <= 0:
        raise RecordingError(f"{path}: stream {name} has no regular sampling rate: expected one in Hz")
    rows, ch_names, factors = _describe_channels(path, eeg["info"])
    first_time = float(stamps[0])
    times = stamps - first_time
    resets = [int(first) for first, _ in eeg["info"]["clock_segments"] if first > 0]

    def read(picks: list[int], block_samples: int) -> Iterator[Chunk]:
        samples = _Samples(blocks, rows[picks], factors[picks])
        return _blocks(samples, times, resets, sfreq, block_samples)

    return Recording(
        path=path,
        info=StreamInfo(ch_names=ch_names, sfreq=sfreq, name=path.name),
        n_times=len(times),
        annotations=_read_markers(path, [by_id[marker_id] for marker_id in marker_ids], first_time, times[-1]),
        read=read,
        first_time=first_time,
    )


def _open(path: Path) -> BinaryIO:
    """Open the file for pyxdf, which would decompress only some of the names."""
    return path.open("rb") if path.suffix.lower() == ".xdf" else cast(BinaryIO, gzip.open(path))


class _Samples:
    """Samples in volts, cut from blocks in the file's number format."""

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
    samples: _Samples, times: NDArray[np.float64], resets: list[int], sfreq: float, block_samples: int
) -> Iterator[Chunk]:
    marker = GapMarker(sfreq)
    cuts = sorted({*range(0, len(times), block_samples), *resets, len(times)})
    for start, stop in pairwise(cuts):
        first, *others = marker.mark(samples.between(start, stop), times[start:stop])
        if start in resets:  # whatever the time stamps say: they are of another clock
            first = replace(first, n_lost=0, restart=True)
        yield first
        yield from others


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


def _is_marker(header: dict) -> bool:
    return header["channel_format"] == "string" or (header["type"] or "").casefold() in ("marker", "markers")


def _describe_channels(path: Path, info: dict) -> tuple[NDArray[np.intp], tuple[str, ...], NDArray[np.float64]]:
    """Return the rows of the EEG channels, their names, and the factors to volts.

    The description follows https://github.com/sccn/xdf/wiki/EEG-Meta-Data; each part of it may be missing.
    """
    n_channels = int(info["channel_count"][0])
    described = _child(_child(info, "desc"), "channels").get("channel", [])
    if len(described) != n_channels:
        if described:
            logger.warning("%s: %d of %d channels are described; ignoring it", path, len(described), n_channels)
        described = [None] * n_channels
    fields = [channel if isinstance(channel, dict) else {} for channel in described]
    labels = [_text(channel, "label") or f"ch{index}" for index, channel in enumerate(fields, start=1)]
    kinds = [_text(channel, "type").casefold() for channel in fields]
    rows = [index for index, kind in enumerate(kinds) if kind == "eeg" or "eeg" not in kinds]
    names = tuple(labels[row] for row in rows)
    pick_channels(names, names, where=str(path))

    units = [_text(fields[row], "unit") for row in rows]
    if not all(units):
        logger.warning("%s: no unit is given for %d channels; taking them as microvolts", path, units.count(""))
    try:
        factors = [volts_per(unit or "microvolts") for unit in units]
    except ValueError as error:
        raise RecordingError(f"{path}: {error}") from error
    return np.array(rows), names, np.array(factors)


def _child(fields: dict, key: str) -> dict:
    children = fields.get(key) or [None]
    return children[0] if isinstance(children[0], dict) else {}


def _text(fields: dict, key: str) -> str:
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
