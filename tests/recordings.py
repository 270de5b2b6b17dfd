"""Small recordings in memory for tests of training: two channels lose power while an event is going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.events import Annotation
from streamdetect.sources.recording import Recording

CH_NAMES = ("C3", "Cz", "C4", "Pz")
SFREQ = 100.0


def make_recording(folder: Path, name: str, *, seed: int, seconds: float = 60.0, depth: float = 0.6, **changes):
    """Make a recording of noise with ``move`` (2 s long, irregular) and ``tap`` (a point event 1 s after it).

    depth: share of the amplitude that C3 and Cz lose during a move.
    """
    rng = np.random.default_rng(seed)
    n_times = round(seconds * SFREQ)
    data = 1e-5 * rng.standard_normal((len(CH_NAMES), n_times))
    annotations, onset = [], 1.5 + rng.uniform(0, 1)
    while onset + 3.5 < seconds:
        annotations += [Annotation(onset, 2.0, "move"), Annotation(onset + 3.0, 0.0, "tap")]
        data[:2, round(onset * SFREQ) : round((onset + 2.0) * SFREQ)] *= 1.0 - depth
        onset += 4.0 + rng.uniform(0, 2)
    return recording_of(folder, name, changes.pop("data", data), tuple(annotations), **changes)


def recording_of(folder: Path, name: str, data, annotations=(), ch_names=CH_NAMES, sfreq=SFREQ) -> Recording:
    """Make a recording of an array, with a file of its own to be hashed."""
    path = folder / name
    path.write_bytes(np.ascontiguousarray(data).tobytes())

    def read(picks, block_samples):
        for start in range(0, data.shape[1], block_samples):
            stop = min(start + block_samples, data.shape[1])
            yield Chunk(data[picks, start:stop], np.arange(start, stop) / sfreq)

    return Recording(path, StreamInfo(tuple(ch_names), sfreq, name), data.shape[1], tuple(annotations), read)
