"""A command in a process of its own: its time, its peak memory and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run_measured(module: str, arguments: Sequence[str], json_path: Path) -> dict[str, Any]:
    """Run a module's command with ``--json``.

    Parameters
    ----------
    module : str
        As for ``python -m``.
    arguments : sequence of str
        The command and its options, without ``--json``.
    json_path : Path
        Where the figures go.

    Returns
    -------
    dict
        ``seconds``, ``peak_gb`` of resident memory, and the command's own figures under ``json``.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments, "--json", str(json_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments[:1])} ended with code {process.returncode}")
    return {
        "seconds": time.perf_counter() - started,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
        "json": json.loads(json_path.read_text(encoding="utf-8")),
    }
