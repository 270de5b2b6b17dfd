from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from streamdetect import __version__
from streamdetect.cli import main


def test_help_lists_every_command(command):
    ended = command("--help")
    assert ended.code == 0
    for each in main.COMMANDS:
        assert each.__name__.replace("_", "-") in ended.out
    assert command().out == ended.out


def test_version(command):
    assert command("--version").out == f"streamdetect {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dance",), "dance"),
        (("train", "--speed", "3"), "--speed"),
        (("replay", "x.edf"), "--model"),
        (("train", "x.edf", "--out", "m.onnx", "--seed", "lots"), "--seed"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(refused, arguments, message):
    assert message in refused(*arguments)


def test_ctrl_c_is_code_130(command, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "COMMANDS", (interrupted, main.COMMANDS[0]))
    ended = command("interrupted")
    assert ended.code == 130
    assert ended.err == "streamdetect: interrupted\n"


def test_a_fault_of_the_program_is_a_traceback(monkeypatch):
    def faulty() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "COMMANDS", (faulty, main.COMMANDS[0]))
    with pytest.raises(ZeroDivisionError):
        main.run(["faulty"])


class Plugin:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, name, load):
        self.name, self.load = name, load


def test_a_plugin_adds_its_commands(command, monkeypatch):
    app = typer.Typer()

    @app.command()
    def greet() -> None:
        typer.echo("hello from the plugin")

    @app.command()
    def other() -> None: ...

    asked = []
    monkeypatch.setattr(main, "entry_points", lambda group: asked.append(group) or [Plugin("extra", lambda: app)])
    assert command("extra", "greet").out == "hello from the plugin\n"
    assert asked == ["streamdetect.commands"]


def test_a_broken_plugin_is_named_and_left_out(command, monkeypatch):
    def load():
        raise ImportError("no module named gone")

    monkeypatch.setattr(main, "entry_points", lambda group: [Plugin("broken", load)])
    ended = command("--version")
    assert ended.code == 0
    assert "plugin broken cannot be loaded: ImportError: no module named gone" in ended.err


HEAVY = ("sklearn", "mne", "pylsl", "matplotlib", "skl2onnx", "onnx", "tensorflow", "scipy.signal", "onnxruntime")


@pytest.mark.parametrize("code", ["import streamdetect", "import streamdetect.cli.main"])
def test_importing_loads_nothing_heavy(code):
    script = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


PUBLIC = """
import streamdetect
for module in ("streamdetect.offline", "streamdetect.cli.replay", "streamdetect.scoring.evaluate"):
    __import__(module)
for name in streamdetect.__all__:
    for _ in range(2):  # a submodule of the same name would take its place after the first
        thing = getattr(streamdetect, name)
        assert callable(thing) != (name == "__version__"), name
from streamdetect import replay
assert replay.__name__ == "replay"
"""


def test_every_public_name_is_there_and_stays():
    import streamdetect

    subprocess.run([sys.executable, "-c", PUBLIC], check=True)
    assert dir(streamdetect) == sorted(streamdetect.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = streamdetect.nothing
