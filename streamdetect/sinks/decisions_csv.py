"""The decisions file of a replay: CSV with a row for each decision.

Columns: ``time`` (s, in the source's clock), ``valid`` (``true`` or ``false``), ``reason`` (empty where valid),
``p_<event>`` for each event (0 to 1; empty where invalid), ``sample``. Numbers have as many digits as it takes to read
the same number back, so that a journal of the same signal holds the same values.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType

import numpy as np

from streamdetect.chunk import Quality
from streamdetect.decisions import Decisions
from streamdetect.errors import InputError

_VALID = ["true" if quality == Quality.GOOD else "false" for quality in Quality]
_REASON = [quality.reason for quality in Quality]


class DecisionsFile:
    """Writes decisions to ``<path>.partial`` and gives the file its name when it is closed.

    As a context manager it closes the file at the end. After an error nothing is left; after Ctrl-C what was written
    stays in the partial file, whole rows only.

    Parameters
    ----------
    path : path
        File to write; one that exists is replaced when this one is complete.
    event_names : sequence of str
        Events, in the order of the probabilities.

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, path: str | PathLike[str], event_names: Sequence[str]) -> None:
        self.path = Path(path)
        self.partial_path = self.path.with_name(self.path.name + ".partial")
        header = io.StringIO()
        names = ["time", "valid", "reason", *(f"p_{event}" for event in event_names), "sample"]
        csv.writer(header, lineterminator="\n").writerow(names)
        if self.path.is_dir():
            raise InputError(f"{self.path}: is a folder, expected the name of a file to write")
        try:
            self._file = self.partial_path.open("w", encoding="utf-8", newline="")
            self._file.write(header.getvalue())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def write(self, decisions: Decisions, time_correction: float = 0.0) -> None:
        """Write a row for each decision.

        Parameters
        ----------
        decisions : Decisions
            The next decisions.
        time_correction : float
            Not used: times are written in the source's own clock.
        """
        if not len(decisions):
            return
        quality = decisions.quality.tolist()
        to_text = _format if np.isnan(decisions.probability).any() else repr  # three times as fast
        columns = [
            map(repr, decisions.times.tolist()),
            map(_VALID.__getitem__, quality),
            map(_REASON.__getitem__, quality),
            *(map(to_text, column) for column in decisions.probability.T.tolist()),
            map(str, decisions.samples.tolist()),
        ]
        try:
            self._file.write("\n".join(map(",".join, zip(*columns, strict=True))) + "\n")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._file.closed:
            return
        try:
            self._file.close()
            os.replace(self.partial_path, self.path)
        except OSError as error:
            self.partial_path.unlink(missing_ok=True)
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> DecisionsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(OSError):  # a full disk has been told of already
                self._file.close()
            if issubclass(kind, Exception):
                self.partial_path.unlink(missing_ok=True)


def _format(value: float) -> str:
    return repr(value) if value == value else ""  # NaN alone differs from itself
