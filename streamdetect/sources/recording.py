"""Recordings: EDF, BrainVision, FIF, EEGLAB and whatever else MNE reads, XDF, and Grasp-and-Lift CSV pairs."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import ChannelError, InputError, RecordingError
from streamdetect.events import Annotation
from streamdetect.settings import to_samples
from streamdetect.sources.channels import pick_channels

if TYPE_CHECKING:
    import mne

logger = logging.getLogger("streamdetect")

BLOCK_S = 10.0  # read at once, whatever the chunk size: 5 MB for 64 channels at 1 kHz, and a call of MNE costs 1 ms
_CSV_SUFFIX = ".csv"
_CSV_DATA_SUFFIX = "_data.csv"
_XDF_SUFFIXES = (".xdf", ".xdfz", ".xdf.gz")
_FOLDER_SUFFIXES = (".ds", ".mff", ".mefd")
# What counts as a recording in a folder. MNE reads more, but .mat, .txt, .dat and the like are seldom recordings:
# they are read where they are named one by one.
_LISTED_SUFFIXES = (
    *(".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".fif", ".fif.gz", ".set", ".cnt", ".nedf", ".nxe", ".lay", ".cdt"),
    *_XDF_SUFFIXES,
    _CSV_DATA_SUFFIX,
)
# MNE finds the second and later parts of a split FIF recording through the first.
_LATER_FIF_PART = re.compile(r"(-\d+|_split-(?!0*1[_.])\d+(_\w+)?)\.fif(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording that is read chunk by chunk.

    Parameters
    ----------
    path : Path
        The file, or the folder for formats that are one.
    info : StreamInfo
        EEG channels, sampling rate in Hz and the file's name.
    n_times : int
        Number of samples.
    annotations : tuple of Annotation
        What happened, by onset in s after the first sample.
    read : callable
        ``read(picks, block_samples)`` yields the chunks of the channels at these positions, from the start, of as many
        samples or, before a gap and at the end, fewer.
    first_time : float
        The first sample's time in s in the recorder's clock, where the format stores one (XDF); 0 elsewhere.
    """

    path: Path
    info: StreamInfo
    n_times: int
    annotations: tuple[Annotation, ...]
    read: Callable[[list[int], int], Iterator[Chunk]]
    first_time: float = 0.0

    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        """Read the recording from the start.

        Parameters
        ----------
        picks : sequence of str or None
            Channels in the order wanted, see `pick_channels`; None for all of ``info.ch_names``.
        chunk_samples : int or None
            Samples a chunk, the last one and those before a gap may have fewer; None for about 10 s.

        Yields
        ------
        Chunk
            float64 in volts, times in s after the first sample.

        Raises
        ------
        ChannelError
            Where channels are missing.
        RecordingError
            Where the file turns out to be damaged, during the iteration.
        """
        block_samples = to_samples(BLOCK_S, self.info.sfreq)
        if chunk_samples is None:
            chunk_samples = block_samples
        if chunk_samples < 1:
            raise ValueError(f"chunk_samples must be at least 1, found {chunk_samples}")
        wanted = self.info.ch_names if picks is None else picks
        rows = pick_channels(self.info.ch_names, wanted, where=str(self.path))
        blocks = self.read(rows, chunk_samples * max(1, block_samples // chunk_samples))
        return (chunk for block in blocks for chunk in _cut(block, chunk_samples))


def _cut(block: Chunk, chunk_samples: int) -> Iterator[Chunk]:
    yield replace(block, data=block.data[:, :chunk_samples], times=block.times[:chunk_samples])
    for start in range(chunk_samples, block.n_times, chunk_samples):
        part = slice(start, start + chunk_samples)
        yield Chunk(block.data[:, part], block.times[part])


def read_recording(path: str | Path, stream: str | None = None) -> Recording:
    """Open a recording; the samples themselves are read by `Recording.chunks`.

    Parameters
    ----------
    path : str or Path
        An EDF, BDF, BrainVision (``.vhdr``), FIF, EEGLAB (``.set``) or other file that MNE reads, an XDF file, or the
        data file of a Grasp-and-Lift pair (``…_data.csv``, events in ``…_events.csv`` beside it).
    stream : str or None
        Name of the EEG stream, for an XDF file that holds several.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        Where there is no such file, it is damaged or of no known format, or holds no EEG.
    ChannelError
        Where channel names are not unique.
    MissingExtraError
        Where an XDF file is given and pyxdf is not installed.
    """
    path = Path(path)
    name = path.name.lower()
    if not path.exists():
        raise RecordingError(f"{path}: no such file; check the name")
    if path.is_dir() and not name.endswith(_FOLDER_SUFFIXES):
        raise RecordingError(f"{path}: expected a recording, found a folder; name a file in it")
    if path.is_file() and path.stat().st_size == 0:
        raise RecordingError(f"{path}: expected a recording, found an empty file; copy or record it again")
    if not os.access(path, os.R_OK):
        raise RecordingError(f"{path}: not allowed to read it; change its permissions")
    if name.endswith(_XDF_SUFFIXES):
        from streamdetect.sources.xdf import read_xdf

        return read_xdf(path, stream)
    if stream is not None:
        raise InputError(f"{path}: a stream ({stream}) can be chosen in XDF files only; leave it out")
    if name.endswith(_CSV_SUFFIX):
        from streamdetect.sources.grasp_and_lift import read_grasp_and_lift

        return read_grasp_and_lift(path)
    return _read_with_mne(path)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Replace each folder by the recordings in it.

    Parameters
    ----------
    paths : iterable of str or Path
        Recordings and folders of recordings.

    Returns
    -------
    list of Path
        The recordings in the order given, those of a folder sorted by name, none twice. Side files (``.edf.event``,
        ``.vmrk``, ``.fdt``, ``_events.csv``, later parts of a split FIF) go with their recording and are not listed.

    Raises
    ------
    RecordingError
        Where a path does not exist, or a folder holds no recording.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise RecordingError(f"{path}: no such file or folder; check the name")
        if not path.is_dir() or path.name.lower().endswith(_FOLDER_SUFFIXES):
            found.append(path)
            continue
        inside = sorted(entry for entry in path.iterdir() if _is_listed(entry))
        if not inside:
            raise RecordingError(
                f"{path}: expected recordings in this folder, found none; name the one that holds them"
            )
        found.extend(inside)
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return list(once.values())


def give_duration(recording: Recording, duration_s: float | None) -> Recording:
    """Let events without a duration last so many seconds, or until the recording ends; None leaves them alone."""
    if duration_s is None:
        return recording
    end = recording.n_times / recording.info.sfreq
    notes = (
        note if note.duration > 0 else replace(note, duration=max(0.0, min(duration_s, end - note.onset)))
        for note in recording.annotations
    )
    return replace(recording, annotations=tuple(notes))


def _is_listed(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith("."):
        return False
    if path.is_dir():
        return name.endswith(_FOLDER_SUFFIXES)
    if name.endswith(".eeg"):  # Nihon Kohden's recording, or the samples of a BrainVision one
        return not any(path.with_suffix(suffix).exists() for suffix in (".vhdr", ".ahdr"))
    return name.endswith(_LISTED_SUFFIXES) and not _LATER_FIF_PART.search(name)


def _read_with_mne(path: Path) -> Recording:
    import mne

    from streamdetect.sources.headers import check_brainvision, check_edf

    if path.suffix.lower() in (".edf", ".bdf"):
        check_edf(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="warning")
    except Exception as error:  # the readers raise whatever a damaged file makes them stumble over
        raise RecordingError(
            f"{path}: expected a recording that MNE can read, but {describe_error(error)}; "
            "is it whole, and named after its format?"
        ) from error
    if path.suffix.lower() in (".vhdr", ".ahdr"):
        check_brainvision(path, Path(raw.filenames[0]))

    picks = mne.pick_types(raw.info, eeg=True, exclude=[])
    ch_names = tuple(raw.ch_names[pick] for pick in picks)
    if not ch_names:
        types = ", ".join(sorted(set(raw.get_channel_types())))
        raise RecordingError(f"{path}: expected EEG channels, found only {types}; set the channel types in the file")
    for message in (str(warning.message) for warning in caught):
        _judge_warning(path, message, ch_names)
    annotations = tuple(
        sorted(
            (
                Annotation(float(note["onset"]) - raw.first_time, float(note["duration"]), str(note["description"]))
                for note in raw.annotations
            ),
            key=lambda note: note.onset,
        )
    )
    info = StreamInfo(ch_names=ch_names, sfreq=float(raw.info["sfreq"]), name=path.name)
    return Recording(
        path=path,
        info=info,
        n_times=raw.n_times,
        annotations=annotations,
        read=lambda rows, block_samples: _mne_blocks(path, raw, picks[rows], block_samples),
    )


def _judge_warning(path: Path, message: str, ch_names: Sequence[str]) -> None:
    if "Channel names are not unique" in message:  # MNE goes on with Cz-0, Cz-1
        repeated = [name for name in re.findall(r"'([^']*)'", message) if f"{name}-0" in ch_names]
        if repeated:
            raise ChannelError(
                f"{path}: channel names must be unique, found several {', '.join(repeated)}; rename them"
            )
    elif "naming conventions" not in message:
        logger.warning("%s: %s", path, " ".join(message.split()))


def _mne_blocks(path: Path, raw: mne.io.BaseRaw, picks: np.ndarray, block_samples: int) -> Iterator[Chunk]:
    sfreq = raw.info["sfreq"]
    for start in range(0, raw.n_times, block_samples):
        stop = min(start + block_samples, raw.n_times)
        try:
            data = raw.get_data(picks, start, stop, verbose="error")
        except Exception as error:  # as in _read_with_mne
            raise RecordingError(
                f"{path}: expected samples at {start / sfreq:.1f} s, but {describe_error(error)}; copy the file again"
            ) from error
        yield Chunk(data, np.arange(start, stop) / sfreq)


def describe_error(error: Exception) -> str:
    """Return an exception of a library as part of a line."""
    first_line = str(error).strip().split("\n")[0]
    first_sentence = re.split(r"\.\s(?!Try)", first_line)[0]
    return f"{type(error).__name__}: {first_sentence.rstrip('.')}"
