"""mne-lsl's StreamLSL in a process of its own, timed from push to callback: what a monitor is compared with.

In a process of its own also because mne-lsl loads another liblsl than pylsl.
"""

from __future__ import annotations

import importlib.util
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from streamdetect.bench.amplifier import CONNECT_S, READY
from streamdetect.errors import MissingExtraError

BUFFER_S = 2.0


def check_mne_lsl() -> None:
    """Refuse to go on where mne-lsl is not installed.

    Raises
    ------
    MissingExtraError
    """
    if importlib.util.find_spec("mne_lsl") is None:
        raise MissingExtraError("mne_lsl", "bench")


def run_mne_lsl(pipe: Connection, name: str, h_freq: float) -> None:
    """Connect, filter, and note when the callback is called; send the times through the pipe once told to stop.

    Sent is ``called``, shape (n, 2): when the callback was called, and the time stamp of its last sample. Settings are
    mne-lsl's own: an acquisition every millisecond, a Butterworth low-pass of order 4, no other processing.
    """
    from mne_lsl.lsl import local_clock  # LSL's clock is the machine's, whichever liblsl is asked
    from mne_lsl.stream import StreamLSL

    rows: list[tuple[float, float]] = []

    def note(data: Any, times: Any, info: Any) -> tuple[Any, Any]:
        rows.append((local_clock(), float(times[-1])))
        return data, times

    stream = StreamLSL(BUFFER_S, name=name).connect(timeout=CONNECT_S)
    stream.filter(None, h_freq, verbose="error")
    stream.add_callback(note)
    pipe.send(READY)
    pipe.recv()
    stream.disconnect()
    pipe.send(np.array(rows).reshape(-1, 2))
