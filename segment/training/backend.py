"""Keras and its backend, imported without the lines that TensorFlow writes on the way."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamdetect.cli.console import needs_extra


def load_keras() -> Any:
    """Import Keras and the backend that it is set to.

    Returns
    -------
    module
        ``keras``.

    Raises
    ------
    MissingExtraError
        Keras or its backend is not installed.

    Notes
    -----
    While it is imported, TensorFlow writes to the process's standard error what no setting turns off. That is held
    back, and shown if the import fails.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what fails is raised as well
    with needs_extra("segment-train"), _held_back():
        import keras
    return keras


@contextmanager
def _held_back() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
