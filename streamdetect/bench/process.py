"""A command in a process of its own: its time, its peak memory and its figures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Runs a module as ``python -m`` does, and leaves the peak memory in a file at the end.
_RUN = """
import atexit, pathlib, runpy, sys
from streamdetect.bench.process import peak_bytes
peak_path, module = pathlib.Path(sys.argv[1]), sys.argv[2]
atexit.register(lambda: peak_path.write_text(str(peak_bytes()), encoding="utf-8"))
sys.argv[1:] = sys.argv[3:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


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
    peak_path = json_path.with_suffix(".peak")
    command = [sys.executable, "-c", _RUN, str(peak_path), module, *arguments, "--json", str(json_path)]
    started = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(f"{' '.join(arguments[:1])} ended with code {ended.returncode}")
    return {
        "seconds": seconds,
        "peak_gb": int(peak_path.read_text(encoding="utf-8")) / 1e9,
        "json": json.loads(json_path.read_text(encoding="utf-8")),
    }


def peak_bytes() -> int:
    """Return the highest resident memory of this process so far, in bytes.

    Notes
    -----
    On Linux from the kernel's high-water mark of this program alone. What ``getrusage`` and ``wait4`` give goes on from
    the process that started this one: the memory of a large parent would count for its small child.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
