"""A recording in memory, for tests of what plays or reads one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from streamdetect.chunk import Chunk, StreamInfo


@dataclass(frozen=True, eq=False)
class FakeRecording:
    """A recording in memory, cut by its gaps: {index of a sample: (samples lost before it, restart)}."""

    data: np.ndarray
    info: StreamInfo
    gaps: dict = field(default_factory=dict)
    annotations: tuple = ()

    @property
    def n_times(self):
        return self.data.shape[1]

    def chunks(self, picks=None, chunk_samples=None):
        edges = sorted({*range(0, self.n_times, chunk_samples), *self.gaps, self.n_times})
        for start, stop in itertools.pairwise(edges):
            n_lost, restart = self.gaps.get(start, (0, False))
            times = np.arange(start, stop) / self.info.sfreq
            yield Chunk(self.data[:, start:stop], times, n_lost=n_lost, restart=restart)
