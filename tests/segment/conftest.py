"""Runs ``segment`` as a shell would, in this process."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

from segment.cli.main import run


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments) -> Ended:
        with pytest.raises(SystemExit) as ending:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(ending.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(command):
    """Run a command that must refuse its input in one line, and return that line."""

    def call(*arguments) -> str:
        ended = command(*arguments)
        assert ended.code == 2, ended
        lines = ended.err.strip().splitlines()
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("segment: ")
        return lines[0]

    return call


@pytest.fixture(scope="module")
def bioimageio():
    """Skip where the extra is missing; it leaves files open, which its tests therefore must not warn of."""
    pytest.importorskip("bioimageio.core", reason='needs the extra "zoo"')
    yield
    gc.collect()
