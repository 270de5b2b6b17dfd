from __future__ import annotations

import subprocess
import sys

import pytest

from segment.training import backend
from streamdetect.errors import MissingExtraError


def test_importing_keras_writes_nothing():
    script = "from segment.training.backend import load_keras; print(load_keras().__name__)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "keras\n"
    assert ended.stderr == ""


def test_what_a_failed_import_wrote_is_shown(capfd):
    def fail():
        with backend._held_back():
            subprocess.run([sys.executable, "-c", "import sys; print('why', file=sys.stderr)"], check=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capfd.readouterr().err == "why\n"


def test_a_missing_backend_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install \"streamdetect\[segment-train\]\""):
        backend.load_keras()


class _Missing:
    """Finds no Keras."""

    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            raise ModuleNotFoundError("No module named 'keras'", name="keras")
