"""The command ``dashboard`` as far as it goes without a browser."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("lsl")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_the_first_line_is_the_address_and_a_signal_ends_it(address):
    command = [sys.executable, "-m", "streamdetect.cli.main", "dashboard", "--port", "0", "--address", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url, _, token = process.stdout.readline().strip().partition("?token=")
    host = address if address == "127.0.0.1" else socket.gethostname()
    assert url.startswith(f"http://{host}:")
    assert url.endswith("/")
    assert len(token) > 20 or address == "127.0.0.1"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err


def test_what_cannot_be_used_is_said_in_one_line(refused):
    assert "--stream name='x: no predicate that LSL understands" in refused("dashboard", "--stream", "name='x")
    assert "stream: empty; give a stream's name" in refused("dashboard", "--stream", " ")
    assert "--port" in refused("dashboard", "--port", "70000")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("dashboard", "--port", port)
    assert line == f"streamdetect: --port {port}: is in use; choose another, or 0 for any that is free"


def test_without_bokeh_it_names_the_extra(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert 'bokeh is not installed: run pip install "streamdetect[dashboard]"' in refused("dashboard")
