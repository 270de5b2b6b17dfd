from __future__ import annotations

import numpy as np
import pytest

from models import make_model
from streamdetect.cache_warmer import CacheWarmer
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.detector import Detector

TAKEN_S = 0.0004  # by an exercise


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class FakeDetector:
    """Notes when copies of it decided, and on what."""

    def __init__(self, detector, clock, seen):
        self.model = detector.model
        self.complete = detector.complete
        self._detector, self._clock, self._seen = detector, clock, seen

    def copy(self):
        return FakeDetector(self._detector.copy(), self._clock, self._seen)

    def compute(self, chunk):
        self._seen.append((self._clock(), chunk))
        self._clock.now += TAKEN_S
        return self._detector.compute(chunk)


class TimedSource:
    """Has its chunks arrive at stated times of the clock, and waits as a stream does."""

    def __init__(self, arrivals, clock, n_times=2):
        self.info = StreamInfo(("C3",), 100.0, "amp")
        self._clock = clock
        self._coming = [(when, make_chunk(index, n_times)) for index, when in enumerate(arrivals)]

    def read(self, timeout_s):
        until = self._clock() + timeout_s
        if not self._coming or self._coming[0][0] > until:
            self._clock.now = until
            return []
        self._clock.now = max(self._clock.now, self._coming[0][0])
        there = [chunk for when, chunk in self._coming if when <= self._clock.now]
        del self._coming[: len(there)]
        return there


def make_chunk(index, n_times):
    samples = index * n_times + np.arange(n_times)
    return Chunk(np.full((1, n_times), float(index)), samples / 100.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", ch_names=("C3",), sfreq=100.0)


def run(model, arrivals, n_times=2):
    clock, seen, got = Clock(), [], []
    detector = FakeDetector(Detector.load(model), clock, seen)
    warmer, source = CacheWarmer(detector, clock), TimedSource(arrivals, clock, n_times)
    while clock() < arrivals[-1]:
        got += warmer.read(source, 0.1)
    return seen, got


def test_the_last_chunk_is_decided_on_again_just_before_the_next_is_due(model):
    arrivals = 100.0 + 0.02 * np.arange(1, 41)
    seen, got = run(model, arrivals)
    assert [chunk.data[0, 0] for chunk in got] == list(range(40))
    assert [chunk.data[0, 0] for _, chunk in seen] == list(range(8, 39))
    ahead = [arrivals[9 + index] - when - TAKEN_S for index, (when, _) in enumerate(seen)]
    assert ahead[1:] == pytest.approx([0.001] * 30, abs=1e-6)


def test_samples_that_are_late_are_waited_for_without_further_exercises(model):
    arrivals = 100.0 + np.concatenate([0.02 * np.arange(1, 21), [5.0]])
    seen, got = run(model, arrivals)
    assert len(got) == 21
    assert [chunk.data[0, 0] for _, chunk in seen] == list(range(8, 20))


def test_samples_that_come_every_few_ms_leave_no_time_for_exercises(model):
    seen, got = run(model, 100.0 + 0.001 * np.arange(1, 200))
    assert (len(seen), len(got)) == (0, 199)


def test_an_exercise_is_short_however_much_arrived(model):
    seen, _ = run(model, 100.0 + 0.5 * np.arange(1, 20), n_times=50)
    assert len(seen) == 10
    assert {chunk.n_times for _, chunk in seen} == {10}
    assert {chunk.data[0, 0] for _, chunk in seen} == set(map(float, range(8, 18)))
