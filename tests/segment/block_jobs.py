"""What the tests of the engine let workers do: importable there, unlike what a test module holds."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from segment.errors import InputError, VolumeError


@dataclass(frozen=True)
class Job:
    """Notes in a folder what happens to it, and does to each block what is asked for."""

    folder: Path
    dies: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    raises_once: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def __setstate__(self, state):
        self.__dict__.update(state)
        _note(self.folder, "unpickled")

    def __call__(self, index: int) -> dict[str, int]:
        first = _note(self.folder, f"block-{index}") == 1
        if index in self.dies:
            os._exit(1)
        if index in self.raises or (index in self.raises_once and first):
            raise VolumeError(f"block {index} is damaged")
        if index in self.ends:
            raise InputError("the disk is full")
        return {"index": index, "process": os.getpid(), "thread": threading.get_ident()}


@dataclass(frozen=True)
class Probe:
    """Refuses workers that are started with ``BLIND`` in their environment."""

    folder: Path

    def __call__(self) -> None:
        _note(self.folder, "probed")
        if "BLIND" in os.environ:
            raise InputError(f"{self.folder}: no such folder")


@dataclass(frozen=True)
class Waits:
    """A block that is done once a file is there."""

    file: Path

    def __call__(self, index: int) -> int:
        while not self.file.exists():
            threading.Event().wait(0.02)
        return index


def count(folder: Path, what: str) -> int:
    """Return how often something happened."""
    return len(list(folder.glob(f"{what}.*")))


def _note(folder: Path, what: str) -> int:
    """Note that something happened; return how often it did."""
    Path(folder, f"{what}.{os.getpid()}.{os.urandom(4).hex()}").touch()
    return count(folder, what)
