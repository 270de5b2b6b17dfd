"""Damage that MNE reads without a word: EDF and BrainVision files cut short, EDF files with interruptions."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import BinaryIO

from streamdetect.errors import RecordingError

logger = logging.getLogger("streamdetect")

_FIXED_HEADER_BYTES = 256  # Kemp et al. 1992; the same again for each signal
_PER_SIGNAL_BYTES_BEFORE_LENGTH = 216  # label, transducer, unit, ranges and filters of each signal come first


def check_edf(path: Path) -> None:
    """Refuse a file that is shorter than its header says, or that was interrupted.

    Parameters
    ----------
    path : Path
        An EDF, EDF+, BDF or BDF+ file.

    Raises
    ------
    RecordingError
        Where the file is no EDF, ends early, or its records do not follow each other in time.

    References
    ----------
    Kemp & Olivan, European data format 'plus' (EDF+), Clin. Neurophysiol. 114 (2003), https://www.edfplus.info/specs/
    """
    bytes_a_value = 3 if path.suffix.lower() == ".bdf" else 2
    with path.open("rb") as file:
        try:
            file.seek(184)
            header_bytes = int(_text(file, 8))
            kind = _text(file, 44)
            n_records, record_s, n_signals = int(_text(file, 8)), float(_text(file, 8)), int(_text(file, 4))
            labels = [_text(file, 16) for _ in range(n_signals)]
            file.seek(_FIXED_HEADER_BYTES + _PER_SIGNAL_BYTES_BEFORE_LENGTH * n_signals)
            lengths = [bytes_a_value * int(_text(file, 8)) for _ in range(n_signals)]
        except (ValueError, OverflowError) as error:
            raise RecordingError(
                f"{path}: expected a header of an {path.suffix[1:].upper()} file, found another; is it the right one?"
            ) from error
        file.seek(0, 2)
        held = (file.tell() - header_bytes) // max(1, sum(lengths))
        if n_records == -1:  # the standard's mark of a recording that was never closed
            logger.warning("%s: the recording was never closed; reading the %d records in it", path, held)
        elif held < n_records:
            raise RecordingError(
                f"{path}: expected {n_records} records of {record_s:g} s, found {max(0, held)}: "
                "the end of the file is missing; copy it again"
            )
        if kind[:5] in ("EDF+D", "BDF+D"):
            _check_continuous(path, file, header_bytes, labels, lengths, held, record_s)


def _check_continuous(
    path: Path,
    file: BinaryIO,
    header_bytes: int,
    labels: list[str],
    lengths: list[int],
    n_records: int,
    record_s: float,
) -> None:
    """Refuse interruptions: each record of EDF+ begins its annotations with its own onset, such as ``+12.5``."""
    signal = next((i for i, label in enumerate(labels) if label in ("EDF Annotations", "BDF Annotations")), None)
    if signal is None:
        return
    expected = None
    for record in range(n_records):
        file.seek(header_bytes + record * sum(lengths) + sum(lengths[:signal]))
        text = file.read(lengths[signal]).split(b"\x14", 1)[0]
        try:
            onset = float(text)
        except ValueError as error:
            raise RecordingError(
                f"{path}: record {record + 1}: expected its onset in s, found {text[:20]!r}"
            ) from error
        if expected is not None and abs(onset - expected) > 0.001:
            raise RecordingError(
                f"{path}: expected an uninterrupted recording, found a jump from {expected:g} s to {onset:g} s; "
                "export its parts as files of their own"
            )
        expected = onset + record_s


def check_brainvision(path: Path, data_path: Path) -> None:
    """Refuse samples that end within one, or before the number that the header may state.

    Parameters
    ----------
    path, data_path : Path
        The ``.vhdr`` file, one that MNE accepts, and the samples that it points to.

    Raises
    ------
    RecordingError
        Where the end of the samples is missing.
    """
    lines = re.findall(r"^(\w+)\s*=\s*(\S+)\s*$", path.read_text("latin-1"), re.MULTILINE)
    fields = {key.lower(): value for key, value in lines}
    bytes_a_value = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}.get(
        fields.get("binaryformat", "").upper()
    )
    if bytes_a_value is None:  # text, which MNE parses whole
        return
    n_samples, rest = divmod(data_path.stat().st_size, bytes_a_value * int(fields["numberofchannels"]))
    stated = int(fields.get("datapoints", 0))
    if rest or n_samples < stated:
        raise RecordingError(
            f"{data_path}: expected {stated or 'whole'} samples, found {n_samples}{' and part of one' * bool(rest)}: "
            "the end of the file is missing; copy it again"
        )


def _text(file: BinaryIO, n_bytes: int) -> str:
    return file.read(n_bytes).decode("latin-1").strip(" \0")
