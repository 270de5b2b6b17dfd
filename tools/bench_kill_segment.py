"""``kill -9`` of `segment predict` at random moments of one run: does it go on where it stood, and to the same bits?

    python tools/bench_kill_segment.py [--n 50] [--workers 0] [--seed 0] [--model M] [--tile N] [--json F]

A simulated volume is segmented once without a kill. Then the same again, into another Zarr: of the kills, one in five
falls while the program starts, the others are spread over the blocks that are to be done, and some more come when all
are there. Each is of the whole process group, and the run then goes on with ``--resume``; with ``--workers 2`` every
second one is of a single worker, and the run has to go on by itself. Both results have to be the same, byte by byte.

When the network ran on a block is logged from inside the processes: a small module that Python loads at their start
wraps the function that runs it. A worker computes one block while it writes the one before. So of a worker that is
killed at most one block has to be redone, the one whose probabilities were there and not yet committed; another was cut
off before it was done. Nothing else may be computed twice. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segment.synthetic import simulate_volume
from segment.volumes import create_volume

VOXEL_NM = (5.0, 5.0, 5.0)
STARTING = 0.2  # share of the kills that falls while the program starts
N_FINISHING = 3  # kills beside those that were asked for, once all blocks are there
BLOCKS_IN_HAND = 3  # of a process
PATIENCE_S = 600.0
LOOK_S = 0.01
ENDED_IN_PART = 3  # exit code
# Loaded by every Python that finds it on its path, so by Dask's workers too.
WATCH = """
import importlib.abc, importlib.machinery, os, sys, time

LOG = os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what, image):
    block = ",".join(str(cut.start) for cut in image.block)
    os.write(LOG, f"{what} {os.getpid()} {block} {time.monotonic()}\\n".encode())


class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "segment.serving.predict":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            run = module._infer_on_grid

            def noted(image, *arguments, **options):
                note("begin", image)
                probability = run(image, *arguments, **options)
                note("end", image)
                return probability

            module._infer_on_grid = noted

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Watch())
"""


class Note(NamedTuple):
    """The network began on a block, or came to its end."""

    what: str
    pid: int
    block: str
    at: float


@dataclass(frozen=True)
class Kill:
    """What one kill did.

    Parameters
    ----------
    what : str
        ``starting``, ``group``, ``worker`` or ``finishing``.
    after_s : float
        When, in s after the program's start.
    n_done : int
        Blocks that were committed by then.
    redone : tuple of int
        Of each process that was killed: blocks whose probabilities were there and not committed.
    n_cut : int
        Blocks that the network was at work on.
    lost_s : float
        Time that the network had worked for all of them.
    """

    what: str
    after_s: float
    n_done: int
    redone: tuple[int, ...]
    n_cut: int
    lost_s: float


class Run:
    """A run of `segment predict` that is begun, killed and taken up again."""

    def __init__(self, folder: Path, name: str, arguments: Sequence[str]) -> None:
        (folder / name).mkdir()
        self.out = folder / name / "mask.ome.zarr"
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._run_folder = self.out.with_name(self.out.name + ".run")
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self._blamed: set[tuple[int, str]] = set()

    def start(self) -> None:
        """Start the program, or start it again."""
        command = [sys.executable, "-m", "segment.cli.main", "predict", *self._arguments, str(self.out), "--resume"]
        paths = [str(self._folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "KILL_LOG": str(self.log)}
        self.started = time.monotonic()
        with (self._folder / "said.txt").open("ab") as said:
            self.process = subprocess.Popen(command, env=environment, stderr=said, stdout=said, start_new_session=True)

    @property
    def ended(self) -> bool:
        """Whether the program has ended by itself."""
        assert self.process is not None
        return self.process.poll() is not None

    def done(self) -> set[str]:
        """Return the blocks that are committed, by their first voxel."""
        try:
            manifest = json.loads((self._run_folder / "manifest.json").read_text())
            names = os.listdir(self._run_folder / "done")
        except FileNotFoundError:
            return set()
        size = manifest["blocks"]["block_shape"]
        counts = [-(-n // each) for n, each in zip(manifest["input"]["shape"], size, strict=True)]
        positions = (np.unravel_index(int(name[:-5]), counts) for name in names if name.endswith(".json"))
        return {",".join(str(int(at) * each) for at, each in zip(where, size, strict=True)) for where in positions}

    def noted(self) -> list[Note]:
        """Return what was logged."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Note(what, int(pid), block, float(at)) for what, pid, block, at in map(str.split, lines)]

    def wait(self, *, n_done: int = 0, seconds: float = 0.0) -> bool:
        """Wait for so many blocks to be committed, and so many seconds more; return whether the program still runs."""
        deadline = time.monotonic() + PATIENCE_S
        while n_done and len(self.done()) < n_done and not self.ended:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {n_done} blocks within {PATIENCE_S:g} s; see {self._folder}")
            time.sleep(LOOK_S)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.ended:
            time.sleep(LOOK_S)
        return not self.ended

    def kill(self, what: str, pids: Sequence[int]) -> Kill:
        """Kill the process group, or one worker of it, and see what is lost."""
        assert self.process is not None
        after_s = time.monotonic() - self.started
        if what == "worker":
            os.kill(pids[0], signal.SIGKILL)
            wait_for_end(pids)
        else:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            wait_for_end(pids)
        killed = time.monotonic()
        done, is_whole = self.done(), self.out.exists()
        at = {(note.what, note.pid, note.block): note.at for note in self.noted() if note.pid in pids}
        lost = {key[1:] for key in at if key[0] == "begin" and key[2] not in done and not is_whole} - self._blamed
        self._blamed |= lost
        computed = Counter(pid for pid, block in lost if ("end", pid, block) in at)
        lost_s = sum(at.get(("end", *key), killed) - at["begin", *key] for key in lost)
        n_cut = len(lost) - computed.total()
        return Kill(what, round(after_s, 2), len(done), tuple(computed.values()), n_cut, round(lost_s, 2))

    def pids(self) -> list[int]:
        """Return the program's processes, itself first."""
        import psutil

        assert self.process is not None
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        return [self.process.pid, *(child.pid for child in children)]

    def workers(self) -> list[int]:
        """Return the processes that compute blocks for the program."""
        begun = {note.pid for note in self.noted()}
        return [pid for pid in self.pids()[1:] if pid in begun]


def wait_for_end(pids: Iterable[int]) -> None:
    """Wait until processes are gone, or dead and not yet buried."""
    import psutil

    for pid in pids:
        try:
            process = psutil.Process(pid)
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(LOOK_S)
        except psutil.NoSuchProcess:
            continue


def kill_often(run: Run, n_kills: int, n_blocks: int, is_farmed: bool, timing: dict, rng: random.Random) -> list[Kill]:
    """Kill a run again and again, until it has been killed so often; then let it end."""
    moments = sorted(rng.uniform(0, n_blocks - 2 * BLOCKS_IN_HAND) for _ in range(n_kills))
    kills: list[Kill] = []
    run.start()
    for number, moment in enumerate([*moments, *[float(n_blocks)] * N_FINISHING]):
        if rng.random() < STARTING and not run.workers() and number < n_kills:
            what, alive = "starting", run.wait(seconds=rng.uniform(0, timing["first_block_s"]))
        else:
            alive = run.wait(n_done=int(moment), seconds=rng.uniform(0, 1.5 * timing["block_s"]))
            workers = run.workers()
            what = "worker" if is_farmed and number % 2 and workers else "group"
        what = what if number < n_kills else "finishing"
        if not alive:
            if run.process is not None and run.process.returncode != ENDED_IN_PART:
                break
            run.start()  # a block was there three times when its worker died
            continue
        kills.append(run.kill(what, [rng.choice(workers)] if what == "worker" else run.pids()))
        print(kills[-1], flush=True)
        if what != "worker":
            run.start()
    assert run.process is not None
    while run.process.wait() == ENDED_IN_PART:
        run.start()
    if run.process.returncode:
        raise RuntimeError(f"the run ended with code {run.process.returncode}; see said.txt")
    return kills


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bench(folder: Path, options: argparse.Namespace) -> dict:
    """Run without kills, then with kills, and compare."""
    (folder / "sitecustomize.py").write_text(WATCH)
    image = simulate_volume(options.shape, voxel_nm=VOXEL_NM, seed=options.seed).image
    with create_volume(folder / "image.ome.zarr", image.shape, image.dtype, VOXEL_NM) as writer:
        writer.append(image)
    arguments = [str(folder / "image.ome.zarr"), "--model", options.model, "--device", "cpu"]
    arguments += ["--tile", str(options.tile)]
    arguments += ["--workers", str(options.workers)] if options.workers else []
    whole = Run(folder, "whole", arguments)
    whole.start()
    whole.wait(n_done=1)
    first_block_s = time.monotonic() - whole.started
    assert whole.process is not None
    if whole.process.wait():
        raise RuntimeError((folder / "said.txt").read_text())
    seconds = time.monotonic() - whole.started
    n_blocks = len(whole.noted()) // 2
    timing = {"seconds": seconds, "first_block_s": first_block_s, "block_s": (seconds - first_block_s) / n_blocks}
    print(f"unkilled: {n_blocks} blocks in {seconds:.1f} s, the first after {first_block_s:.1f} s", flush=True)
    killed = Run(folder, "killed", arguments)
    started = time.monotonic()
    kills = kill_often(killed, options.n, n_blocks, bool(options.workers), timing, random.Random(options.seed))
    n_begun = sum(note.what == "begin" for note in killed.noted())
    n_redone, n_cut = sum(sum(kill.redone) for kill in kills), sum(kill.n_cut for kill in kills)
    expected, found = hash_files(whole.out), hash_files(killed.out)
    return {
        "seed": options.seed,
        "model": options.model,
        "workers": options.workers,
        "shape": list(image.shape),
        "n_blocks": n_blocks,
        "unkilled_s": round(seconds, 1),
        "killed_s": round(time.monotonic() - started, 1),
        "n_kills": sum(kill.what != "finishing" for kill in kills),
        "n_kills_of": dict(Counter(kill.what for kill in kills)),
        "n_files": len(expected),
        "bit_identical": expected == found,
        "n_begun": n_begun,
        "n_redone": n_redone,
        "n_cut_off": n_cut,
        "n_twice_for_nothing": n_begun - n_blocks - n_redone - n_cut,
        "most_redone_of_a_worker": max((max(kill.redone, default=0) for kill in kills), default=0),
        "block_s": round(timing["block_s"], 2),
        "most_lost_s": max((kill.lost_s for kill in kills), default=0.0),
        "left_over": sorted(path.name for path in killed.out.parent.iterdir()),
        "kills": [asdict(kill) for kill in kills],
    }


def parse_shape(text: str) -> tuple[int, int, int]:
    z, y, x = map(int, text.split(","))
    return z, y, x


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50, help="how many kills")
    parser.add_argument("--workers", type=int, default=0, help="0 runs in one process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="mitochondria-epfl-plus")
    parser.add_argument("--tile", type=int, default=384, help="the largest side of a tile")
    parser.add_argument("--shape", type=parse_shape, default=(96, 704, 704), help="of the simulated volume")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        figures = bench(options.keep, options)
    else:
        with tempfile.TemporaryDirectory() as name:
            figures = bench(Path(name), options)
    print(json.dumps({name: value for name, value in figures.items() if name != "kills"}, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2))
    is_fine = (
        figures["bit_identical"] and not figures["n_twice_for_nothing"] and figures["most_redone_of_a_worker"] <= 1
    )
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
