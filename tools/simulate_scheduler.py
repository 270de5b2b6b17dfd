"""What a future costs Dask's scheduler, with blocks that do nothing.

    python tools/simulate_scheduler.py [--blocks 1000000] [--workers 2] [--threads 3] [--json FILE]

Starts a scheduler and workers as processes of their own on this machine and sends the blocks through the engine of
``segment predict --scheduler``. The processor time that the scheduler takes a future bounds how many blocks a second
a cluster of any size can do; the memory of scheduler and client must not grow with the number of blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from segment.serving.distribute import run_on_dask

MIB = 2**20
SAMPLE_S = 0.5
TENTHS = 10
SETTINGS = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10"}  # as docs/CLUSTER.md says


def answer(index: int) -> dict[str, float]:
    """Return at once what a block is recorded with."""
    return {"index": index, "n_foreground": 0, "seconds": 0.0}


def start(stack: ExitStack, *arguments: str) -> psutil.Process:
    """Start one of Dask's processes, to be ended with the stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env={**os.environ, **SETTINGS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return psutil.Process(process.pid)


def processor_s(processes: list[psutil.Process]) -> float:
    """Return the processor time that processes and their children have taken."""
    every = [each for process in processes for each in (process, *process.children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in every)


def simulate(n_blocks: int, n_workers: int, n_threads: int) -> dict[str, object]:
    """Send blocks that do nothing through a scheduler; return what it took."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = str(folder / "scheduler.json")
        scheduler = start(
            stack, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address",
            "127.0.0.1:0", "--scheduler-file", file,
        )  # fmt: skip
        workers = [
            start(
                stack, "worker", "--scheduler-file", file, "--host", "127.0.0.1", "--nthreads", str(n_threads),
                "--no-dashboard", "--memory-limit", "0", "--local-directory", str(folder),
            )
            for _ in range(n_workers)
        ]  # fmt: skip
        deadline = time.monotonic() + 60
        while not os.path.exists(file) or not Path(file).read_text().endswith("}"):
            if time.monotonic() > deadline:
                raise SystemExit("simulate_scheduler: the scheduler did not start within 60 s")
            time.sleep(0.1)
        address = json.loads(Path(file).read_text())["address"]

        client = psutil.Process()
        watched = {"client": [client], "scheduler": [scheduler], "workers": workers}
        peak_mib = {"client": 0.0, "scheduler": 0.0}
        course: list[dict[str, float]] = []
        n_done = 0
        over = threading.Event()

        def watch() -> None:
            while not over.wait(SAMPLE_S):
                for name in peak_mib:
                    peak_mib[name] = max(peak_mib[name], watched[name][0].memory_info().rss / MIB)

        def done(index: int, record: object) -> None:
            nonlocal n_done
            n_done += 1
            if n_done * TENTHS % n_blocks < TENTHS:
                course.append(
                    {
                        "blocks": n_done,
                        "seconds": time.monotonic() - started,
                        "client_mib": watched["client"][0].memory_info().rss / MIB,
                        "scheduler_mib": watched["scheduler"][0].memory_info().rss / MIB,
                    }
                )

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            run_on_dask(answer, range(n_workers), on_done=lambda *_: None, cancelled=lambda: False, scheduler=address)
            before = {
                name: processor_s(processes) if name != "client" else sum(client.cpu_times()[:2])
                for name, processes in watched.items()
            }
            started = time.monotonic()
            failed = run_on_dask(answer, range(n_blocks), on_done=done, cancelled=lambda: False, scheduler=address)
            seconds = time.monotonic() - started
            after = {
                name: processor_s(processes) if name != "client" else sum(client.cpu_times()[:2])
                for name, processes in watched.items()
            }
        finally:
            over.set()
            thread.join()
    if failed or n_done != n_blocks:
        raise SystemExit(f"simulate_scheduler: {n_done} of {n_blocks} blocks done, {len(failed)} failed")
    return {
        "blocks": n_blocks,
        "workers": n_workers,
        "threads": n_threads,
        "seconds": seconds,
        "futures_per_s": n_blocks / seconds,
        "processor_us_per_future": {name: 1e6 * (after[name] - before[name]) / n_blocks for name in watched},
        "peak_mib": peak_mib,
        "course": course,
    }


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=3, help="blocks that a worker has in hand")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = simulate(options.blocks, options.workers, options.threads)
    table = Table("blocks", "s", "client, MiB", "scheduler, MiB")
    for each in figures["course"]:  # type: ignore[attr-defined]
        table.add_row(
            f"{each['blocks']:,}", f"{each['seconds']:.0f}", f"{each['client_mib']:.0f}", f"{each['scheduler_mib']:.0f}"
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{figures['futures_per_s']:.0f} futures a second; processor time a future, µs: "
        + ", ".join(f"{name} {us:.0f}" for name, us in figures["processor_us_per_future"].items())  # type: ignore[attr-defined]
    )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
