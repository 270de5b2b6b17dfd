"""How all stands, in words: what the page says beside its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamdetect.dashboard.feed import Feed, Mark
from streamdetect.dashboard.health_document import HealthDocument

Level = Literal["ok", "warn", "bad", "off"]

QUIET_S = 1.5  # without a sample for this long the page says so
HEALTH_QUIET_S = 4.0  # the health document comes once a second
N_LOG = 6
_WORDS = {"ok": "OK", "warn": "Check", "bad": "Bad", "off": "Unknown"}
# Where "check" and "bad" begin: a share of the nominal rate, ms, ms, a share of a core, a share of the samples.
RATE_LIMITS = (0.005, 0.05)
JITTER_LIMITS_MS = (20.0, 100.0)
DELAY_LIMITS_MS = (100.0, 500.0)
LOAD_LIMITS = (0.7, 0.95)
LOST_LIMITS = (0.0, 0.01)


@dataclass(frozen=True, slots=True)
class Light:
    """One thing that may be well or not."""

    name: str
    level: Level
    text: str

    @property
    def word(self) -> str:
        """The level for those who do not see the colour."""
        return _WORDS[self.level]


def grade(value: float, limits: tuple[float, float]) -> Level:
    """Compare a value with the limits above which it is to be checked, and bad.

    Examples
    --------
    >>> grade(0.5, (0.7, 0.9)), grade(0.8, (0.7, 0.9)), grade(0.95, (0.7, 0.9))
    ('ok', 'warn', 'bad')
    """
    return "ok" if value <= limits[0] else "warn" if value <= limits[1] else "bad"


def stream_light(feed: Feed) -> Light:
    """Say whether samples come here."""
    silence_s, stream, health = feed.silence_s(feed.raw), feed.raw.stream, feed.health
    if silence_s is None:
        return Light("Stream", "bad", f"looking for {feed.query or (health.stream if health else 'an EEG stream')}")
    if stream is None:
        return Light("Stream", "bad", f"gone for {silence_s:.0f} s")
    if silence_s > QUIET_S:
        return Light("Stream", "bad", f"no samples for {silence_s:.0f} s")
    return Light("Stream", "ok", f"{stream.channel_count()} channels from {stream.hostname()}")


def monitor_light(feed: Feed) -> Light:
    """Say whether the monitor speaks."""
    silence_s, health = feed.silence_s(feed.outlets["health"]), feed.health
    if health is None or silence_s is None:
        return Light("Monitor", "off", f"looking for {feed.model}" if feed.model else "no monitor found")
    if health.state == "ended":
        return Light("Monitor", "warn", "ended")
    if silence_s > HEALTH_QUIET_S:
        return Light("Monitor", "bad", f"silent for {silence_s:.0f} s")
    if health.state == "waiting":
        return Light("Monitor", "bad", f"waits for samples, {health.seconds_since_last_sample:.0f} s")
    return Light("Monitor", "ok", "running")


def health_lights(health: HealthDocument) -> list[Light]:
    """Judge what the monitor says of the signal and of itself."""
    share_lost = health.n_lost / max(1, health.n_lost + health.n_samples)
    lost = f"{health.n_lost:,} ({share_lost:.2%})" if health.n_lost else "none"
    lights = [Light("Samples lost", grade(share_lost, LOST_LIMITS), lost)]
    if health.effective_sfreq is None:
        lights.append(Light("Rate", "off", f"of {health.sfreq:g} Hz"))
    else:
        deviation = abs(health.effective_sfreq / health.sfreq - 1)
        text = f"{health.effective_sfreq:.1f} of {health.sfreq:g} Hz"
        lights.append(Light("Rate", grade(deviation, RATE_LIMITS), text))
    jitter = health.jitter_ms
    lights.append(
        Light("Jitter", "off", "not yet known")
        if jitter is None
        else Light("Jitter", grade(jitter, JITTER_LIMITS_MS), f"{jitter:.1f} ms")
    )
    jumps = health.n_clock_jumps
    lights.append(Light("Clock", "warn" if jumps else "ok", _count(jumps, "jump") if jumps else "no jumps"))
    lights.append(_channel_light(health))
    median, p99 = health.delay_ms.median, health.delay_ms.p99
    lights.append(
        Light("Delay", "off", "not yet known")
        if median is None or p99 is None
        else Light("Delay", grade(p99, DELAY_LIMITS_MS), f"{median:.1f} ms, 99 % {p99:.1f} ms")
    )
    lights.append(Light("Load", grade(health.load, LOAD_LIMITS), f"{health.load:.0%} of a core"))
    reason = health.reason
    lights.append(Light("Decisions", "warn" if reason else "ok", f"invalid: {reason}" if reason else "valid"))
    lights += [Light("Warning", "bad", warning) for warning in health.warnings]
    return lights


def _channel_light(health: HealthDocument) -> Light:
    bad = health.bad_channels.values()
    if not bad:
        return Light("Channels", "ok", f"all {len(health.channels)} good")
    names = ", ".join(f"{channel.name} {channel_words(health, channel.name)}" for channel in bad)
    return Light("Channels", "warn" if all(channel.repaired for channel in bad) else "bad", f"{len(bad)} bad: {names}")


def channel_words(health: HealthDocument | None, name: str) -> str:
    """Say what is wrong with a channel; empty where it is good, or not known to be bad."""
    channel = health.bad_channels.get(name) if health is not None else None
    if channel is None:
        return ""
    return ", ".join(channel.reasons) + (" (repaired)" if channel.repaired else "")


def banner(feed: Feed) -> str:
    """Return what a person has to know first; empty where all runs."""
    silence_s = feed.silence_s(feed.raw)
    if silence_s is not None and silence_s > QUIET_S:
        cause = "amplifier, cable or network?" if feed.raw.is_connected else "the stream has left the network"
        return f"No samples for {silence_s:.0f} s: {cause}"
    if feed.problem:
        return feed.problem
    if silence_s is None:
        return f"L{stream_light(feed).text[1:]} …"
    monitor = monitor_light(feed)
    return f"Monitor {monitor.text}" if monitor.level == "bad" else ""


def describe(feed: Feed) -> dict[str, Any]:
    """Put how all stands into one document for the page's script.

    Returns
    -------
    dict
        ``title``, ``banner``, ``stale``, ``lights``, ``events``, ``counts``, ``log`` and ``annotations``, the name of
        the stream that annotations go out on: plain text everywhere.
    """
    health = feed.health
    silence_s = feed.silence_s(feed.raw)
    raw = feed.raw.stream
    stream = raw.name() if raw is not None else health.stream if health else ""
    lights = [stream_light(feed), monitor_light(feed), *(health_lights(health) if health else ())]
    return {
        "title": " · ".join(part for part in (feed.model, stream) if part) or "streamdetect",
        "banner": banner(feed),
        "stale": silence_s is None or silence_s > QUIET_S,
        "lights": [{"name": x.name, "level": x.level, "word": x.word, "text": x.text} for x in lights],
        "events": _events(feed),
        "counts": _counts(feed),
        "log": [_entry(feed, mark) for mark in list(feed.marks)[-N_LOG:][::-1]],
        "annotations": feed.annotation_stream,
    }


def _events(feed: Feed) -> list[dict[str, Any]]:
    health, probability = feed.health, feed.probability
    latest = dict(zip(probability.ch_names, probability.latest, strict=True)) if probability is not None else {}
    rows = []
    for name in health.events if health else latest:
        value, known = float(latest.get(name, np.nan)), health.events[name] if health else None
        digits = 3 if known and known.threshold < 0.1 else 2
        rows.append(
            {
                "name": name,
                "probability": "–" if np.isnan(value) else f"{value:.{digits}f}",
                "threshold": f"{known.threshold:.{digits}f}" if known else "–",
                "detections": f"{known.detections:,}" if known else "–",
                "is_over": known is not None and value >= known.threshold,
            }
        )
    return rows


def _counts(feed: Feed) -> list[dict[str, str]]:
    health, signal = feed.health, feed.signal
    if health is None:
        counts = {"Samples": signal.n_samples, "Gaps": signal.n_gaps} if signal is not None else {}
        return [{"name": name, "value": f"{value:,}"} for name, value in counts.items()]
    minutes, seconds = divmod(int(health.seconds), 60)
    return [
        {"name": "Signal", "value": f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"},
        *(
            {"name": name, "value": f"{value:,}"}
            for name, value in (
                ("Samples", health.n_samples),
                ("Lost", health.n_lost),
                ("Gaps", health.n_gaps),
                ("Restarts", health.n_restarts),
                ("Decisions", health.n_decisions),
                ("Invalid", health.n_invalid),
                ("Detections", sum(event.detections for event in health.events.values())),
            )
        ),
    ]


def _entry(feed: Feed, mark: Mark) -> dict[str, str]:
    seconds = int(feed.wall_time(mark.time)) % 86400
    return {
        "time": f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
        "kind": mark.kind,
        "text": mark.text,
    }


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
