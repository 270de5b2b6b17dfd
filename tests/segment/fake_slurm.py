#!/usr/bin/env python3
"""``sbatch`` and ``scancel``, by the name that it is called by: jobs run at once, on this machine.

As far as the examples need it: an array's range from the command line or the script, one ``#SBATCH`` option a line.
What becomes of a job is noted in the folder ``FAKE_SLURM``: ``1.script``, ``1_0.pid``, ``1_0.log``, ``1.cancelled``.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("FAKE_SLURM", "."))


def sbatch(arguments):
    given, command = {}, []
    for argument in arguments:
        if command or not argument.startswith("--"):
            command.append(argument)
        else:
            name, _, value = argument.partition("=")
            given[name] = value
    text = Path(command[0]).read_text()
    options = {**dict(re.findall(r"^#SBATCH (--[a-z-]+)=(\S+)", text, flags=re.M)), **given}
    job = 1 + len(list(FOLDER.glob("*.script")))
    script = FOLDER / f"{job}.script"
    script.write_text(text)
    tasks = _tasks(options["--array"]) if "--array" in options else [None]
    for task in tasks:
        environment = {**os.environ, "SLURM_JOB_ID": str(job)}
        if "--cpus-per-task" in options:
            environment["SLURM_CPUS_PER_TASK"] = options["--cpus-per-task"]
        name = str(job)
        if task is not None:
            name = f"{job}_{task}"
            environment["SLURM_ARRAY_TASK_ID"] = str(task)
            environment["SLURM_ARRAY_TASK_COUNT"] = str(len(tasks))
        with open(FOLDER / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                ["bash", script, *command[1:]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (FOLDER / f"{name}.pid").write_text(str(process.pid))
    print(f"Submitted batch job {job}")


def scancel(arguments):
    for job in arguments:
        (FOLDER / f"{job}.cancelled").touch()
        for file in FOLDER.glob(f"{job}.pid"):
            try:
                os.killpg(int(file.read_text()), signal.SIGTERM)
            except ProcessLookupError:
                continue


def _tasks(text):
    """Return the indices of an array such as ``0-2,7``."""
    ranges = [part.partition("-") for part in text.split(",")]
    return [index for first, _, last in ranges for index in range(int(first), int(last or first) + 1)]


if __name__ == "__main__":
    {"sbatch": sbatch, "scancel": scancel}[Path(sys.argv[0]).name](sys.argv[1:])
