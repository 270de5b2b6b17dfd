"""What several commands share: messages, progress, JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn


FEATURES_HELP = (
    "power, bands, lowpass, mrcp, erd or wide, several joined with + (and +adaptive for a running normaliser); 2019; "
    "or auto, which chooses on the training recordings."
)


def say(message: str) -> None:
    """Print a line about the work to stderr; figures go to stdout."""
    typer.echo(message, err=True)


def table_console(json: Path | None) -> Console:
    """Return where tables go: stdout, or stderr where stdout carries the JSON."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, stderr=json is not None and str(json) == "-")
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 100
    return console


@contextmanager
def progress(*figures: ProgressColumn) -> Iterator[Progress]:
    """Show a progress bar on a terminal, and nothing in a pipe.

    Parameters
    ----------
    *figures : ProgressColumn
        What follows the bar; by default how many are done, and the time taken.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    figures = figures or (MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *figures,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        yield bar


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failed import into the error that names the extra to install."""
    try:
        yield
    except ImportError as error:
        from streamdetect.errors import MissingExtraError

        if isinstance(error, MissingExtraError) or (error.name or "").startswith("streamdetect"):
            raise
        raise MissingExtraError(error.name or "a package", extra) from error


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a document as JSON: to a file, to stdout for ``-``, nowhere for None."""
    if path is None:
        return
    import json

    from streamdetect.files import whole_file

    if str(path) == "-":  # a terminal may not show all of Unicode
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_outputs(inputs: Iterable[Path | str | None] = (), **outputs: Path | None) -> None:
    """Refuse, before the work begins, files that cannot or should not be written after it.

    Parameters
    ----------
    inputs : iterable of path or None
        Files that the command reads.
    **outputs : Path or None
        The files that it writes, by the name of their option; ``-`` and None are fine.

    Raises
    ------
    InputError
        The folder does not exist or is not writable; the name is that of a folder, a device, an input, or another
        output.
    """
    from streamdetect.errors import InputError

    taken = {Path(path).resolve(): f"{path}, which is read" for path in inputs if path is not None}
    for name, path in outputs.items():
        if path is None or str(path) == "-":
            continue
        option = f"--{name.replace('_', '-')} {path}"
        if path.exists() and not path.is_file():
            raise InputError(f"{option}: is no regular file; give the name of a file to write")
        if not path.parent.is_dir():
            raise InputError(f"{option}: the folder {path.parent} does not exist; make it, or choose another")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{option}: the folder {path.parent} is not writable; choose another")
        if path.resolve() in taken:
            raise InputError(f"{option}: would overwrite {taken[path.resolve()]}; choose another name")
        taken[path.resolve()] = f"{path}, which is written too"


def split_names(text: str | None) -> tuple[str, ...]:
    """Split ``A,B,C`` into names.

    Examples
    --------
    >>> split_names("C3, Cz")
    ('C3', 'Cz')
    """
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
