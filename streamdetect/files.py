"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from streamdetect.errors import InputError


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
    """Return the SHA-256 of a file, in hexadecimal; of a folder, that of the files in it."""
    if path.is_dir():
        names = sorted(inner for inner in path.rglob("*") if inner.is_file())
        return hashlib.sha256("".join(file_sha256(inner) for inner in names).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
