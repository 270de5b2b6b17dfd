"""A raw stream and a monitor's three outlets, without a detector: what a dashboard listens to."""

from __future__ import annotations

import threading
import time

import numpy as np

from streamdetect.chunk import StreamInfo
from streamdetect.decisions import Decisions
from streamdetect.sinks.lsl import HealthOutlet, MarkerOutlet, ProbabilityOutlet, SignalOutlet
from streamdetect.sources.lsl_streams import local_clock
from streamdetect.status import EventStatus, Status, health_document

CHUNK_S = 0.02
HOP_S = 0.04


class ChannelState:
    def __init__(self, name, reasons=(), repaired=False):
        self.name, self.reasons, self.repaired = name, tuple(reasons), repaired


def make_status(**changes):
    """All is well but for one flat channel that is repaired."""
    fields = {
        "state": "running",
        "name": "model",
        "stream": "lab",
        "source_id": "fake:lab",
        "time": 1234.5,
        "seconds": 3723.0,
        "sfreq": 500.0,
        "effective_sfreq": 500.1,
        "jitter_s": 0.0012,
        "n_samples": 1_861_500,
        "n_lost": 0,
        "n_repeated": 0,
        "n_gaps": 0,
        "n_restarts": 0,
        "n_clock_jumps": 0,
        "seconds_since_last_sample": 0.01,
        "delay_s": {"median": 0.0013, "p99": 0.0042},
        "load": 0.07,
        "n_decisions": 93_075,
        "n_invalid": 25,
        "reason": "",
        "events": {"HandStart": EventStatus(0.5, 0.1, 3), "LiftOff": EventStatus(0.6, 0.1, 1)},
        "detections": (),
        "channels": (ChannelState("Fz", ("flat",), True), ChannelState("Cz")),
        "warnings": (),
    }
    return Status(**(fields | changes))


def make_health(**changes):
    """The document that a monitor makes of that."""
    return health_document(make_status(**changes))


class FakeLab:
    """Sends noise with the events' probabilities near 0; `detect` makes one rise and sends the detection.

    A context manager; `stop_stream` and `start_stream` take the raw stream off the network and back on; while
    ``cable_in`` is False no sample is sent.
    """

    def __init__(
        self,
        name="lab",
        model="model",
        ch_names=("Fz", "C3", "Cz", "C4", "Pz"),
        sfreq=250.0,
        events=("HandStart", "LiftOff"),
        bad=(),
        uv=20.0,
        with_monitor=True,
    ):
        self.name, self.model, self.events, self.sfreq, self.uv = name, model, events, sfreq, uv
        self.ch_names, self.bad = tuple(ch_names), dict(bad)
        self.with_monitor = with_monitor
        self.thresholds = [0.5 + 0.1 * number for number in range(len(events))]
        self.counts = dict.fromkeys(events, 0)
        self.n_samples = 0
        self.cable_in = True
        self.rng = np.random.default_rng(0)
        self.signal = None
        self._wanted = []
        self._rise = np.zeros(len(events))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.start_stream()
        if self.with_monitor:
            self.probabilities = ProbabilityOutlet(f"{self.model}-probabilities", self.events, 1 / HOP_S)
            self.markers = MarkerOutlet(f"{self.model}-detections")
            self.health = HealthOutlet(f"{self.model}-health", stream=self.name, source_id=self.source_id)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.stop_stream()
        if self.with_monitor:
            for outlet in (self.probabilities, self.markers, self.health):
                outlet.close()

    @property
    def source_id(self):
        return f"fake:{self.name}"

    def start_stream(self, ch_names=None):
        with self._lock:
            self.ch_names = tuple(ch_names or self.ch_names)
            self.signal = SignalOutlet(StreamInfo(self.ch_names, self.sfreq, self.name), source_id=self.source_id)

    def stop_stream(self):
        with self._lock:
            if self.signal is not None:
                self.signal.close()
            self.signal = None

    def detect(self, event):
        self._wanted.append(event)

    def status(self, now):
        silent_s = now - self.last_sample
        return make_status(
            state="running" if silent_s < 1.0 else "waiting",
            name=self.model,
            stream=self.name,
            source_id=self.source_id,
            time=self.last_sample,
            seconds=self.n_samples / self.sfreq,
            sfreq=self.sfreq,
            effective_sfreq=1.0004 * self.sfreq,
            n_samples=self.n_samples,
            seconds_since_last_sample=silent_s,
            n_decisions=self.n_samples // 10,
            events={
                event: EventStatus(threshold, 0.1, self.counts[event])
                for event, threshold in zip(self.events, self.thresholds, strict=True)
            },
            channels=tuple(ChannelState(name, *self.bad.get(name, ())) for name in self.ch_names),
        )

    def _run(self):
        start = next_health = local_clock()
        self.last_sample = start
        n_sent = 0
        while not self._stop.wait(CHUNK_S):
            now = local_clock()
            until = int((now - start) * self.sfreq)
            times = start + np.arange(n_sent, until) / self.sfreq
            n_sent = until
            with self._lock:
                if self.signal is not None and self.cable_in and len(times):
                    self.signal.push(self.make_samples(times), times)
                    self.n_samples += len(times)
                    self.last_sample = now
            if not self.with_monitor:
                continue
            if self.cable_in and self.signal is not None:
                self._decide(times, start)
            if now >= next_health:
                next_health = now + 1.0
                self.health.push(self.status(now))

    def _decide(self, times, start):
        """A decision every HOP_S of signal, as a detector makes them."""
        hop = round(HOP_S * self.sfreq)
        for when in times[np.rint((times - start) * self.sfreq).astype(int) % hop == 0]:
            self._rise *= 0.97
            while self._wanted:
                event = self._wanted.pop()
                self._rise[self.events.index(event)] = 0.85
                self.counts[event] += 1
                self.markers.push(event, when)
            noise = 0.08 + 0.04 * self.rng.random(len(self.events))
            probability = (noise + self._rise).astype(np.float32)[None]
            decisions = Decisions(
                tuple(self.events), np.zeros(1, int), np.array([when]), np.zeros(1, np.uint8), probability, {}
            )
            self.probabilities.write(decisions, 0.0)

    def make_samples(self, times):
        samples = self.rng.standard_normal((len(self.ch_names), len(times))) * 0.3
        samples += np.sin(2 * np.pi * 10 * times) * np.linspace(0.2, 1.0, len(self.ch_names))[:, None]
        samples *= self.uv * 1e-6
        for name, (reasons, *_) in self.bad.items():
            if "flat" in reasons and name in self.ch_names:
                samples[self.ch_names.index(name)] = 0.0
        return samples


if __name__ == "__main__":  # for looking at the page
    import argparse

    import mne

    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--sfreq", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    names = mne.channels.make_standard_montage("biosemi64").ch_names[: arguments.channels]
    events = ("HandStart", "FirstDigitTouch", "BothStartLoadPhase", "LiftOff", "Replace", "BothReleased")
    bad = {names[4]: (("flat",), True), names[20]: (("line-noise", "muscle"), False)}
    with FakeLab(ch_names=names, sfreq=arguments.sfreq, events=events, bad=bad) as lab:
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            time.sleep(2.3)
            lab.detect(events[lab.rng.integers(len(events))])
