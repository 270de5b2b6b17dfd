"""A real napari viewer, on a virtual screen where there is no screen."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent
WAIT_S = 60  # the longest that anything here may take


def pytest_collection_modifyitems(items):
    """Come last: what is drawn here and TensorFlow do not go together, see `screen`."""
    items.sort(key=lambda item: FOLDER in item.path.parents)


@pytest.fixture(scope="session")
def napari(tmp_path_factory) -> Iterator[ModuleType]:
    """The napari package, with settings of its own in place of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_CONFIG", str(tmp_path_factory.mktemp("napari") / "settings.yaml"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what napari's modules and what they need warn of while they are imported
            package = pytest.importorskip("napari")
            importlib.import_module("napari.layers")
            importlib.import_module("napari.components")
            importlib.import_module("npe2").PluginManager.instance().discover()
        yield package


@pytest.fixture(scope="session")
def screen(napari) -> Iterator[str]:
    """The screen that there is, or a virtual one."""
    if "tensorflow" in sys.modules:
        # Each brings an LLVM, Mesa its own to draw in software: with both in a process it ends in a segmentation fault.
        pytest.skip("TensorFlow is loaded in this process; run tests/segment/napari by itself, as make test does")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        pytest.importorskip("qtpy.QtWidgets", reason="napari has no Qt here", exc_type=ImportError)
        importlib.import_module("napari.viewer")
    if os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("no screen, and no virtual one: install Xvfb")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as answer, pytest.MonkeyPatch.context() as patch:
            number = answer.readline().strip()  # once it takes connections; nothing if it could not start
            if not number:
                pytest.skip("Xvfb does not start")
            patch.setenv("DISPLAY", f":{number}")
            yield f":{number}"
        server.terminate()


@pytest.fixture(scope="module")
def viewer(napari, screen) -> Iterator[object]:
    """A viewer, which the tests of a module share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of napari, vispy and Qt while they start and end
        viewer = napari.Viewer(show=True)
        viewer.window.resize(900, 600)  # the fewer pixels, the sooner drawn
    yield viewer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        viewer.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Let Qt work until a condition holds."""
    from qtpy.QtWidgets import QApplication

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            QApplication.processEvents()
            time.sleep(0.002)  # to the worker's thread

    return wait
