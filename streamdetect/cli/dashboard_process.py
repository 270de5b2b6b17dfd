"""The dashboard as a process beside a monitor."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamdetect.cli.console import say
from streamdetect.errors import MissingExtraError

_END_S = 5.0  # how long it may take to end


@contextmanager
def dashboard_beside(name: str) -> Iterator[None]:
    """Run ``streamdetect dashboard`` for a session, and tell its address once it is there.

    Parameters
    ----------
    name : str
        Name of the session, which its outlets carry.

    Raises
    ------
    MissingExtraError
        Bokeh is not installed.
    """
    if importlib.util.find_spec("bokeh") is None:
        raise MissingExtraError("bokeh", "dashboard")
    command = [sys.executable, "-m", "streamdetect.cli.main", "dashboard", "--model-name", name, "--port", "0"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the monitor's: it ends this at the end
    )
    is_ending = threading.Event()

    def tell() -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout as out, process.stderr as err:
            address = out.readline().strip()
            if address:
                say(f"Dashboard: {address}")
            complaint = err.read().strip()  # until it ends
        if not is_ending.is_set():
            say(f"The dashboard has ended: {complaint.splitlines()[-1] if complaint else process.wait()}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_ending.set()
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        teller.join(_END_S)
