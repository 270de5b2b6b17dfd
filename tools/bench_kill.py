"""``kill -9`` of `streamdetect monitor --record --journal` at random moments: is what was written whole, and right?

    python tools/bench_kill.py [--n 50] [--seed 0] [--at-once 5] [--json F]

Simulated EEG is played over LSL, with gaps in it. Monitors with a model trained for the purpose start on it, several at
once, and each is killed at a random moment: one in five while it starts, the others within 6 s of the first decision.
The recording has to go on without it. After some more seconds its keeper is told to end; then `streamdetect replay` of
what was recorded has to give the journal's decisions, bit for bit, and the recording has to hold each sample beyond
the kill. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from streamdetect.bench.throughput import make_bench_model
from streamdetect.errors import RecordingError
from streamdetect.sinks.journal import read_journal
from streamdetect.sources.lsl_config import own_lsl_session
from streamdetect.sources.xdf_sent import read_as_sent

STREAM = "bench-kill"
LATEST_S = 6.0  # after the start, or after the first decision
STARTING = 0.2  # share that is killed while it starts
PATIENCE_S = 120.0
GO_ON_S = 2.0  # how long a recording is looked at after the kill
FINISH_S = 60.0
PLAN = """
[[faults]]
kind = "gap"
onset = {onset}
duration = {duration}
"""
GAPS = ((0.4, 0.002), (9.0, 0.3), (15.0, 2.0), (21.0, 0.01))  # s after the start, and how long; again every 25 s


@dataclass(frozen=True, slots=True)
class Kill:
    """How one monitor ended.

    Parameters
    ----------
    moment_s : float
        When it was killed, in s after its start.
    outcome : str
        ``equal``, ``before the recording``, ``before the first decision``, or what is wrong.
    n_decisions : int
        Decisions in the journal.
    n_bytes_cut : int
        Length of the journal's last line, where it was cut short.
    recorded_on_s : float or None
        From the journal's last decision to the last sample in the recording, in s of signal.
    """

    moment_s: float
    outcome: str
    n_decisions: int = 0
    n_bytes_cut: int = 0
    recorded_on_s: float | None = None


@dataclass
class Running:
    """A monitor that is to be killed: ``wait_s`` after its start, or after its first decision."""

    process: subprocess.Popen[bytes]
    journal: Path
    record: Path
    is_starting: bool
    wait_s: float
    started: float = field(default_factory=time.monotonic)
    counts_from: float | None = None
    killed_after_s: float | None = None

    def kill_if_due(self) -> None:
        """Look whether its time has come."""
        now = time.monotonic()
        if self.counts_from is None and (self.is_starting or self.has_decided()):
            self.counts_from = self.started if self.is_starting else now
        if self.counts_from is not None and now >= self.counts_from + self.wait_s:
            self.process.kill()  # SIGKILL
            self.process.wait()
            self.killed_after_s = time.monotonic() - self.started
        elif self.process.poll() is not None or now > self.started + PATIENCE_S:
            raise RuntimeError(f"monitor of {self.journal.name}: ended with code {self.process.poll()}, or hangs")

    def has_decided(self) -> bool:
        """Say whether its journal holds a decision."""
        return self.journal.exists() and b'"decision"' in self.journal.read_bytes()


def streamdetect(*arguments: object) -> list[str]:
    """Return the command line of a command."""
    return [sys.executable, "-m", "streamdetect.cli.main", *map(str, arguments)]


def find_keepers(path: Path) -> list[int]:
    """Return the processes that keep the recording of a file."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:  # ended just now
            continue
        if b"streamdetect.sinks.recorder_keeper" in words and os.fsencode(path) in words:
            found.append(int(entry.name))
    return found


@contextmanager
def playing(folder: Path, seconds: float) -> Iterator[None]:
    """Play simulated EEG with gaps, over and over, for at least so long."""
    minutes = seconds / 60 + 1.0
    subprocess.run(
        streamdetect("simulate", folder / "played", "--series", 1, "--minutes", minutes),
        check=True,
        capture_output=True,
    )
    (recording,) = (folder / "played").glob("*_data.csv")
    plan = folder / "plan.toml"
    turns = range(int(60 * minutes / 25))
    onsets = [(25.0 * turn + onset, duration) for turn in turns for onset, duration in GAPS]
    plan.write_text("".join(PLAN.format(onset=onset, duration=duration) for onset, duration in onsets if onset > 0.5))
    player = subprocess.Popen(
        streamdetect("play", recording, "--name", STREAM, "--faults", plan, "--wait", 0),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        player.kill()
        player.wait()


def kill_some(model: Path, folder: Path, numbers: Sequence[int], rng: random.Random) -> list[Kill]:
    """Start a monitor each, kill each at its moment, and look at what is left of them."""
    running = []
    for number in numbers:
        journal, record = folder / f"{number}.jsonl", folder / f"{number}.xdf"
        process = subprocess.Popen(
            streamdetect(
                *("monitor", "--model", model, "--stream", STREAM, "--name", f"kill-{number}", "--quiet"),
                *("--journal", journal, "--record", record, "--timeout", 60),
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(Running(process, journal, record, rng.random() < STARTING, rng.uniform(0.0, LATEST_S)))
    while alive := [each for each in running if each.killed_after_s is None]:
        for each in alive:
            each.kill_if_due()
        time.sleep(0.005)
    records = [each.record for each in running]
    time.sleep(GO_ON_S)
    for record in records:
        for pid in find_keepers(record):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + FINISH_S
    while any(find_keepers(record) for record in records):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a recorder has not ended within {FINISH_S:g} s")
        time.sleep(0.2)
    return [look_at(model, each) for each in running]


def look_at(model: Path, monitor: Running) -> Kill:
    """Replay what one monitor has left."""
    journal, record, moment_s = monitor.journal, monitor.record, monitor.killed_after_s or 0.0
    if not record.exists():
        n_bytes = journal.stat().st_size if journal.exists() else 0
        return Kill(moment_s, f"no recording, but a journal of {n_bytes} bytes" if n_bytes else "before the recording")
    records = list(read_journal(journal))
    decisions = [each for each in records if each["type"] == "decision"]
    cut = len(journal.read_bytes().rpartition(b"\n")[2])
    try:
        sent = read_as_sent(record, STREAM)
    except RecordingError as error:
        return Kill(moment_s, f"damaged recording: {error}", len(decisions), cut)
    if sent is None:
        return Kill(moment_s, "a recording without samples", len(decisions), cut)
    if not decisions:
        return Kill(moment_s, "before the first decision", 0, cut)
    recorded_on_s = float(sent.stamps[-1] - decisions[-1]["time"])
    ended = subprocess.run(
        streamdetect("replay", record, "--model", model, "--journal", journal, "--json", "-"),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 2:
        return Kill(moment_s, ended.stderr.strip(), len(decisions), cut, recorded_on_s)
    found = json.loads(ended.stdout)["journal"]
    if found["n_different"] or found["n_compared"] != len(decisions):
        outcome = f"{found['n_different']} of {len(decisions)} decisions differ, {found['n_compared']} compared"
    elif recorded_on_s < GO_ON_S / 2:
        outcome = f"recorded on for {recorded_on_s:.1f} s only"
    elif np.max(np.diff(sent.stamps)) > 2.1:
        outcome = f"the recording has a gap of {np.max(np.diff(sent.stamps)):.1f} s"
    else:
        outcome = "equal"
    return Kill(moment_s, outcome, len(decisions), cut, recorded_on_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50, help="how many monitors to kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=5, help="how many run at a time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    kills: list[Kill] = []
    n_rounds = -(-options.n // options.at_once)
    with own_lsl_session(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_bench_model(folder, n_series=2, minutes=0.5).path
        with playing(folder, n_rounds * (LATEST_S + GO_ON_S + 60.0)):
            for first in range(0, options.n, options.at_once):
                numbers = range(first, min(options.n, first + options.at_once))
                kills += kill_some(model, folder, numbers, rng)
                for kill in kills[first:]:
                    print(
                        f"killed after {kill.moment_s:5.2f} s: {kill.n_decisions:4d} decisions, "
                        f"{kill.n_bytes_cut} bytes cut: {kill.outcome}",
                        flush=True,
                    )
    counts = Counter(kill.outcome for kill in kills)
    fine = {"equal", "before the recording", "before the first decision"}
    print(f"seed {options.seed}: " + "; ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    if options.json is not None:
        options.json.write_text(json.dumps({"seed": options.seed, "kills": [asdict(kill) for kill in kills]}, indent=2))
    return 0 if set(counts) <= fine and counts["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
