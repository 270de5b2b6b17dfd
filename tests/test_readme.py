"""What the README says can be typed."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import mne
import numpy as np
import pytest

from models import make_model
from segment.cli.main import run as run_segment
from streamdetect.cli.main import run

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.startswith(("streamdetect ", "segment "))
]
RUN = {"streamdetect": run, "segment": run_segment}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_and_option_exists(words, capsys):
    with pytest.raises(SystemExit) as ending:
        RUN[words[0]]([words[1], "--help"])
    assert ending.value.code == 0
    shown = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"^\s+{option}\b", shown, re.MULTILINE), option


def test_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    from streamdetect.settings import DecisionSettings

    _, code, _ = (block for kind, block in BLOCKS if kind == "python")  # the first: tests/test_live.py
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "hands.onnx", sfreq=160.0, decisions=(DecisionSettings(0.0, 0, 160),))
    data = 1e-5 * np.random.default_rng(0).standard_normal((3, 1600))
    raw = mne.io.RawArray(data, mne.create_info(["C3", "Cz", "C4"], 160.0, "eeg"), verbose="error")
    mne.export.export_raw(tmp_path / "S001R09.edf", raw, verbose="error")
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert re.search(r"HandStart at \d\.\d\d s, probability 0\.\d\d", capsys.readouterr().out)


def test_the_python_example_of_segmentation_runs(tmp_path, monkeypatch, capsys):
    from segment.synthetic import simulate_volume
    from segment.volumes import create_volume

    _, _, code = (block for kind, block in BLOCKS if kind == "python")
    monkeypatch.chdir(tmp_path)
    with create_volume("stack.tif", (6, 64, 64), np.uint8, (5.0, 5.0, 5.0)) as writer:
        writer.append(simulate_volume((6, 64, 64)).image)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    names = runpy.run_path(str(tmp_path / "example.py"))
    assert names["mask"].shape == (6, 64, 64)
    assert "24576 of 24576" in capsys.readouterr().out
