"""A dashboard with its page open in a browser, beside what is measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from streamdetect.cli.console import needs_extra
from streamdetect.errors import StreamError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPEN_S = 60.0
_END_S = 5.0


@contextmanager
def open_dashboard(session: str) -> Iterator[str | None]:
    """Run ``streamdetect dashboard`` for a session, with its page in a headless browser where there is one.

    Parameters
    ----------
    session : str
        Name of the session.

    Yields
    ------
    str or None
        The browser's name; None where none is installed.

    Raises
    ------
    MissingExtraError
        Bokeh is not installed.
    StreamError
        The page does not open.
    """
    with needs_extra("dashboard"):
        import bokeh  # noqa: F401
    command = [sys.executable, "-m", "streamdetect.cli.main", "dashboard", "--model-name", session, "--port", "0"]
    server = _start(command)
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        url = server.stdout.readline().strip()
        if not url:
            raise StreamError(f"bench: the dashboard did not start: {server.stderr.read().strip()}")
        with _open_page(url) as browser:
            yield browser
    finally:
        _end(server)


@contextmanager
def _open_page(url: str) -> Iterator[str | None]:
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        yield None
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless=new", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        command += ["--window-size=1920,1080", "--disable-gpu", "--no-first-run"]
        command += ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []  # it refuses to run as root
        chrome = _start([*command, url])
        try:
            assert chrome.stderr is not None
            _wait_for_page(_debugging_port(chrome.stderr), url)
            version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=False).stdout
            yield version.strip() or browser
        finally:
            _end(chrome)


def _start(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def _debugging_port(lines: Iterator[str]) -> int:
    for line in lines:
        if found := re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line):
            return int(found[1])
    raise StreamError("bench: the browser did not start")


def _wait_for_page(port: int, url: str) -> None:
    """Wait until the browser has the page, told by its title."""
    deadline = time.monotonic() + _OPEN_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_OPEN_S) as answer:
            pages = json.load(answer)
        if any(page["url"].startswith(url) and page["title"] == "streamdetect" for page in pages):
            return
        time.sleep(0.1)
    raise StreamError(f"bench: the dashboard's page {url} did not open within {_OPEN_S:g} s")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
