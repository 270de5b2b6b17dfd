"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from os import PathLike
from pathlib import Path

from streamdetect.errors import InputError

_DATA_BESIDE = {".vhdr": (".eeg", ".vmrk"), ".set": (".fdt",)}


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside a file, and rename it to the file when the block ends well.

    Parameters
    ----------
    path : path
        The final name; an existing file stays as it is until it is replaced.

    Yields
    ------
    Path
        Where to write; removed if the block raises.

    Raises
    ------
    InputError
        The folder does not exist, is not writable, or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # its folder does not exist or is no folder: then there is nothing to remove either
            partial.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a recording's file, in hexadecimal.

    Where a recording is more files than one (a folder, a BrainVision header with its data, an EEGLAB ``.set`` with its
    ``.fdt``, a split FIF), of the hashes of all of them.
    """
    if path.is_dir():
        parts = sorted(inner for inner in path.rglob("*") if inner.is_file())
    else:
        beside = (path.with_suffix(suffix) for suffix in _DATA_BESIDE.get(path.suffix.lower(), ()))
        later = path.parent.glob(f"{escape(path.stem)}-*.fif") if path.suffix == ".fif" else ()
        parts = [path, *(other for other in beside if other.is_file()), *sorted(later)]
    if len(parts) != 1 or path.is_dir():
        return hashlib.sha256("".join(map(_sha256, parts)).encode()).hexdigest()
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
