"""How a live session stands, for a person's eyes and as the health document for other programs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from streamdetect.decisions import Detection

if TYPE_CHECKING:
    from streamdetect.detector import ChannelState

SCHEMA_VERSION = 1

State = Literal["running", "waiting", "ended"]
EndReason = Literal["duration", "idle", "stopped", "lost", "error"]


@dataclass(frozen=True, slots=True)
class EventStatus:
    """How one event stands.

    Parameters
    ----------
    threshold : float
        Probability from which on it counts.
    probability : float
        The latest; NaN where invalid.
    n_detections : int
        Detections so far.
    """

    threshold: float
    probability: float
    n_detections: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a session stands.

    Parameters
    ----------
    state : {"running", "waiting", "ended"}
        ``waiting`` where no sample has come for a second, or none at all yet.
    name : str
        Name of the session, which its outlets carry: the model's, or the one that a person gave.
    stream, source_id : str
        The stream's name and source id.
    time : float or None
        The newest sample's, in s of the local clock; None before the first.
    seconds : float
        Signal so far, in s, lost samples included.
    sfreq : float
        Nominal sampling rate in Hz.
    effective_sfreq, jitter_s : float or None
        As in `streamdetect.stages.timing.Timing`.
    n_samples, n_lost, n_repeated : int
        Samples that arrived, that did not, and that were left out because they had come before.
    n_gaps, n_restarts, n_clock_jumps : int
        How often something was between two samples; of these, how often all began anew, or the clock jumped.
    seconds_since_last_sample : float
        In s of the local clock.
    delay_s : dict of str to float or None
        ``median`` and ``p99`` over the last 10 s, from a decision's last sample to the moment when it was out, in s;
        None where there was none, or the clocks could not be compared.
    load : float
        Share of a core, 0 to 1, that processing took over the last 10 s.
    n_decisions, n_invalid : int
        Decisions, and how many of them were invalid.
    reason : str
        Why the latest decision is invalid; empty where it is valid.
    events : dict of str to EventStatus
        Each event.
    detections : tuple of (Detection, float)
        The latest few, the newest first, each with the seconds of signal since then.
    channels : tuple of ChannelState
        What the detector says of each channel.
    warnings : tuple of str
        What went wrong and goes on, such as a journal on a full disk; each begins with what it is about.
    """

    state: State
    name: str
    stream: str
    source_id: str
    time: float | None
    seconds: float
    sfreq: float
    effective_sfreq: float | None
    jitter_s: float | None
    n_samples: int
    n_lost: int
    n_repeated: int
    n_gaps: int
    n_restarts: int
    n_clock_jumps: int
    seconds_since_last_sample: float
    delay_s: dict[str, float | None]
    load: float
    n_decisions: int
    n_invalid: int
    reason: str
    events: dict[str, EventStatus]
    detections: tuple[tuple[Detection, float], ...]
    channels: tuple[ChannelState, ...]
    warnings: tuple[str, ...]


def health_document(status: Status) -> dict[str, Any]:
    """Return what the health outlet sends, ready for JSON.

    Parameters
    ----------
    status : Status

    Returns
    -------
    dict
        Its fields are explained in docs/LIVE.md; None stands for what is not known.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "state": status.state,
        "model": status.name,
        "stream": status.stream,
        "source_id": status.source_id,
        "time": _finite(status.time),
        "seconds": status.seconds,
        "sfreq": status.sfreq,
        "effective_sfreq": _finite(status.effective_sfreq),
        "jitter_ms": _ms(status.jitter_s),
        "n_samples": status.n_samples,
        "n_lost": status.n_lost,
        "n_repeated": status.n_repeated,
        "n_gaps": status.n_gaps,
        "n_restarts": status.n_restarts,
        "n_clock_jumps": status.n_clock_jumps,
        "seconds_since_last_sample": status.seconds_since_last_sample,
        "delay_ms": {name: _ms(value) for name, value in status.delay_s.items()},
        "load": status.load,
        "n_decisions": status.n_decisions,
        "n_invalid": status.n_invalid,
        "reason": status.reason,
        "events": {
            name: {"threshold": event.threshold, "detections": event.n_detections}
            for name, event in status.events.items()
        },
        "channels": [
            {"name": channel.name, "reasons": list(channel.reasons), "repaired": channel.repaired}
            for channel in status.channels
        ],
        "warnings": list(status.warnings),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ms(seconds: float | None) -> float | None:
    finite = _finite(seconds)
    return None if finite is None else 1000.0 * finite


@dataclass(frozen=True, slots=True)
class MonitorSummary:
    """What a session was.

    Parameters
    ----------
    reason : {"duration", "idle", "stopped", "lost", "error"}
        Why it ended.
    seconds : float
        Signal, in s, lost samples included.
    n_samples, n_lost, n_repeated : int
        Samples that arrived, that did not, and that were left out because they had come before.
    n_gaps, n_restarts, n_clock_jumps : int
        As in `Status`.
    n_decisions, n_invalid : int
        Decisions, and how many of them were invalid.
    detections : dict of str to int
        How often each event was detected.
    delay_s : dict of str to float or None
        As in `Status`, over the whole session: the latest 100,000.
    warnings : tuple of str
        Each thing that went wrong, in its last words.
    """

    reason: EndReason
    seconds: float
    n_samples: int
    n_lost: int
    n_repeated: int
    n_gaps: int
    n_restarts: int
    n_clock_jumps: int
    n_decisions: int
    n_invalid: int
    detections: dict[str, int]
    delay_s: dict[str, float | None]
    warnings: tuple[str, ...]
