"""How live sessions stand, as a picture for a terminal and as plain lines for a pipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamdetect.session import SILENT_S
from streamdetect.status import EventStatus, Status

_BAR_WIDTH = 30
_MAX_ROWS = 20
_HEADINGS = ("session", "stream", "state", "event", "found", "signal", "channels", "lag", "load")
_GOOD, _WARN, _BAD, _FAINT = "green", "yellow", "bold red", "dim"


def render(statuses: Sequence[Status]) -> RenderableType:
    """Draw how sessions stand: one in full, several as a table.

    Parameters
    ----------
    statuses : sequence of Status
        At least one.

    Returns
    -------
    rich renderable
    """
    return _render_one(statuses[0]) if len(statuses) == 1 else _render_many(statuses)


def _render_one(status: Status) -> RenderableType:
    events = Table.grid(padding=(0, 2))
    for name, event in status.events.items():
        style = _FAINT if status.state == "waiting" else ""  # it is not of now
        threshold = f"threshold {event.threshold:.2f}"
        count = _count(event.n_detections, "detection")
        events.add_row(name, _bar(event), _probability(event), threshold, count, style=style)
    lines: list[RenderableType] = [_head(status), events]
    if status.reason:
        lines.append(Text(f"no decision: {status.reason}", style=_WARN))
    if status.detections:
        recent = "   ".join(f"{one.event} {_ago(age_s)}" for one, age_s in status.detections)
        lines.append(Text(f"last: {recent}"))
    health = Table.grid(padding=(0, 2))
    health.add_row("signal", _signal_light(status), _describe_signal(status))
    health.add_row("channels", _channel_light(status), _describe_channels(status))
    health.add_row("speed", _light(True), _describe_speed(status))
    lines.append(health)
    lines += [Text(f"warning: {warning}", style=_BAD) for warning in status.warnings]
    return Group(*lines)


def _render_many(statuses: Sequence[Status]) -> RenderableType:
    """Draw a line a session, those in trouble first; plain padding, for a table of rich takes 1 ms a row."""
    by_trouble = sorted(statuses, key=lambda status: (status.state != "waiting", not _is_in_trouble(status)))
    shown = by_trouble[:_MAX_ROWS]
    widths = [max(len(text) for text in column) for column in zip(*(_cells(one) for one in shown), strict=True)]
    widths = [max(width, len(heading)) for width, heading in zip(widths, _HEADINGS, strict=True)]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("  ".join(map(str.ljust, _HEADINGS, widths)) + "\n", style="bold")
    for status in shown:
        style = _BAD if status.state == "waiting" else _WARN if _is_in_trouble(status) else ""
        text.append("  ".join(map(str.ljust, _cells(status), widths)) + "\n", style=style)
    if len(shown) < len(statuses):
        text.append(f"… and {len(statuses) - len(shown)} more\n")
    for status in statuses:
        for warning in status.warnings:
            text.append(f"{status.name}: {warning}\n", style=_BAD)
    load = sum(status.load for status in statuses)
    n_waiting = sum(status.state == "waiting" for status in statuses)
    text.append(f"{len(statuses)} streams, {n_waiting} waiting, load {100 * load:.0f} % of a core", style=_FAINT)
    return text


def _cells(status: Status) -> tuple[str, ...]:
    name, event = max(status.events.items(), key=lambda item: _above(item[1]))
    return (
        status.name,
        status.stream,
        _state(status).plain,
        status.reason or f"{name} {_probability(event)}",
        str(sum(one.n_detections for one in status.events.values())),
        _signal_light(status).plain,
        _channel_light(status).plain,
        _lag(status),
        f"{100 * status.load:.0f} %",
    )


def _is_in_trouble(status: Status) -> bool:
    is_fine = status.state != "waiting" and not status.reason and not status.warnings and not status.n_gaps
    return not (is_fine and not any(channel.reasons for channel in status.channels))


def _head(status: Status) -> Text:
    rate = f"{status.sfreq:g} Hz" + (f" (measured {status.effective_sfreq:.2f})" if status.effective_sfreq else "")
    return Text.assemble(
        _state(status), "  ", (status.name, "bold"), f" on {status.stream}  {_clock_time(status.seconds)}  {rate}"
    )


def _state(status: Status) -> Text:
    style = {"running": _GOOD, "waiting": _BAD, "ended": _FAINT}[status.state]
    silent = f" {status.seconds_since_last_sample:.0f} s" if status.state == "waiting" else ""
    return Text(f"● {status.state}{silent}", style=style)


def _bar(event: EventStatus) -> Text:
    """Draw a probability as a bar with a mark at the threshold."""
    filled = 0 if math.isnan(event.probability) else round(event.probability * _BAR_WIDTH)
    mark = min(_BAR_WIDTH - 1, round(event.threshold * _BAR_WIDTH))
    bar = Text("█" * filled + "░" * (_BAR_WIDTH - filled), style=_GOOD if event.probability >= event.threshold else "")
    return Text.assemble(bar[:mark], ("│", "bold"), bar[mark + 1 :])


def _probability(event: EventStatus) -> str:
    return "  – " if math.isnan(event.probability) else f"{event.probability:.2f}"


def _light(is_good: bool, word: str = "") -> Text:
    return Text("● ok" if is_good else f"● {word}", style=_GOOD if is_good else _WARN)


def _signal_light(status: Status) -> Text:
    if status.state == "waiting":
        return Text("● none", style=_BAD)
    if any(warning.startswith("timing:") for warning in status.warnings):
        return _light(False, "timing")
    return _light(not status.n_gaps, f"{status.n_lost} lost")


def _describe_signal(status: Status) -> str:
    parts = [f"{status.n_lost} samples lost", _count(status.n_gaps, "gap"), _count(status.n_clock_jumps, "clock jump")]
    if status.n_repeated:
        parts.append(f"{status.n_repeated} repeated")
    if status.jitter_s is not None:
        parts.append(f"jitter {1000 * status.jitter_s:.1f} ms")
    return ", ".join(parts)


def _channel_light(status: Status) -> Text:
    n_bad = sum(bool(channel.reasons) for channel in status.channels)
    return _light(n_bad == 0, f"{n_bad} bad")


def _describe_channels(status: Status) -> str:
    return ", ".join(
        f"{channel.name} {'+'.join(channel.reasons)}{' (repaired)' if channel.repaired else ''}"
        for channel in status.channels
        if channel.reasons
    )


def _describe_speed(status: Status) -> str:
    decisions = f"{status.n_decisions} decisions, {status.n_invalid} invalid"
    return f"lag {_lag(status)}, load {100 * status.load:.0f} % of a core, {decisions}"


def _lag(status: Status) -> str:
    median = status.delay_s["median"]
    return "–" if median is None or median < 0 else f"{1000 * median:.1f} ms"  # faster play runs ahead of the clock


def _above(event: EventStatus) -> float:
    """Return how near an event is to its threshold; NaN comes last."""
    return -math.inf if math.isnan(event.probability) else event.probability - event.threshold


def _ago(age_s: float) -> str:
    return f"{max(0.0, age_s):.1f} s ago"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def format_statuses(statuses: Sequence[Status]) -> str:
    """Put how sessions stand into plain text, a line each.

    Parameters
    ----------
    statuses : sequence of Status

    Returns
    -------
    str
    """
    if len(statuses) == 1:
        return _format(statuses[0])
    return "\n".join(f"{status.name}: {_format(status)}" for status in statuses)


def _format(status: Status) -> str:
    seconds = f"{status.seconds:.0f} s"
    if status.state == "ended":
        return f"{seconds}  ended"
    if status.seconds_since_last_sample > SILENT_S:
        silent = f"no sample for {status.seconds_since_last_sample:.0f} s, waiting"
        return "  ".join([seconds, silent, *status.warnings])
    parts = [seconds, f"{status.effective_sfreq or status.sfreq:.1f} Hz"]
    if status.reason or not status.n_decisions:
        parts.append(f"no decision: {status.reason or 'no samples yet'}")
    else:
        parts += [f"{name} {event.probability:.2f}" for name, event in status.events.items()]
    if status.detections:
        detection, age_s = status.detections[0]
        parts.append(f"last {detection.event} {_ago(age_s)}")
    if status.n_lost:
        parts.append(f"{status.n_lost} lost")
    bad = _describe_channels(status)
    parts += [bad] if bad else []
    return "  ".join([*parts, f"lag {_lag(status)}", f"load {100 * status.load:.0f} %", *status.warnings])
