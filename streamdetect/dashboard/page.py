"""One browser tab: a Bokeh document that is kept up to date from the feed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bokeh.core.properties import Bool, Float, Int, String
from bokeh.model import DataModel
from bokeh.models import CustomJS
from jinja2 import Environment, FileSystemLoader

from streamdetect.dashboard.feed import Feed, Mark
from streamdetect.dashboard.figures import LABEL_WIDTH, ProbabilityFigure, ScalpFigure, TraceFigure, strip_height
from streamdetect.dashboard.scalp import BANDS, band_power, place_electrodes, scalp_grid
from streamdetect.dashboard.status import channel_words, describe
from streamdetect.dashboard.theme import EVENT_MARKERS, palette
from streamdetect.dashboard.traces import WINDOW_S, Track

if TYPE_CHECKING:
    from bokeh.document import Document

FRAME_MS = 60  # between two frames, where the browser keeps up
FRAMES_AHEAD = 2  # that may be on the way to the browser: no more are sent before it has drawn them
STATUS_S = 0.25
SCALP_S = 0.25
SCALES_UV = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)  # µV a row
MAX_ROWS = 64
MAX_MARKS = 50  # more are not seen at once
_CLIP_ROWS = 1.3  # a trace that leaves its row by more is cut off there, to leave the others legible
_SCALP_EASE = 0.15  # share of the way that the limits of the colours go to where they should be, each time
_HERE = Path(__file__).parent


class View(DataModel):
    """What a person chose in this tab; set by the page's script."""

    dark = Bool(False)
    paused = Bool(False)
    scale = Float(0.0)  # µV a row; 0 chooses
    rows = Int(0)  # channels at a time; 0 for as many as can be told apart
    first = Int(0)  # index of the topmost channel
    band = Int(0)  # of the map, in BANDS
    note = String("")  # JSON: a number that rises, and the text to send as a marker


class Status(DataModel):
    """What the script shows around the figures."""

    text = String("{}")  # JSON, from streamdetect.dashboard.status.describe
    rows = String("{}")  # JSON: which channels stand where, and what is wrong with them
    scale = Float(0.0)  # µV a row
    channels = String("")  # which of the channels are shown


class Pulse(DataModel):
    """Frames sent, and frames drawn: a browser that is slow, or asleep, gets fewer, and none pile up."""

    sent = Int(0)
    drawn = Int(0)


class Page:
    """Keeps a document up to date.

    Parameters
    ----------
    document : bokeh.document.Document
        Empty; gets its content here.
    feed : Feed
        Where the data come from; shared with other pages.
    """

    def __init__(self, document: Document, feed: Feed) -> None:
        self._document = document
        self._feed = feed
        self.view, self.status, self.pulse = View(), Status(), Pulse()
        self.traces = TraceFigure()
        self.probabilities = ProbabilityFigure(self.traces.x_range)
        self.scalp = ScalpFigure()
        self._auto: tuple[Track, float] | None = None
        self._held: tuple[Track, tuple[int, np.ndarray, np.ndarray]] | None = None  # while it is paused
        self._probability: Track | None = None
        self._n_signal = self._n_probability = self._n_marks = 0
        self._shown: tuple[object, ...] = ()
        self._picks = range(0)
        self._bad: list[str] = []
        self._thresholds: list[float] = []
        self._limits: tuple[float, float] | None = None
        self._status_due = self._scalp_due = 0.0

        document.title = "streamdetect"
        document.template = Environment(loader=FileSystemLoader(_HERE), autoescape=False).get_template("page.html")
        document.template_variables["css"] = (_HERE / "page.css").read_text(encoding="utf-8")
        document.template_variables["script"] = (_HERE / "page.js").read_text(encoding="utf-8")
        document.template_variables["bands"] = [label for label, _, _ in BANDS]
        document.template_variables["scales"] = SCALES_UV
        document.template_variables["label_width"] = LABEL_WIDTH
        for drawn in (self.traces, self.probabilities, self.scalp):
            document.add_root(drawn.figure)
        models = {"view": self.view, "status": self.status, "pulse": self.pulse}
        self.traces.figure.tags = list(models.values())  # a model that no root holds is not synchronised
        begin = CustomJS(args=models, code="window.dashboard.begin(view, status, pulse)")
        document.js_on_event("document_ready", begin)
        for name, react in (("dark", self._paint), ("paused", self._pause), ("note", self._annotate)):
            self.view.on_change(name, lambda attr, old, new, react=react: self._combined(react))
        self._paint()
        document.add_periodic_callback(self.tick, FRAME_MS)

    def tick(self) -> None:
        """Send what is new, unless the browser still draws what it has."""
        if self.pulse.sent - self.pulse.drawn < FRAMES_AHEAD:
            self._combined(self._update)

    def _combined(self, change: Callable[[], None]) -> None:
        self._document.hold("combine")
        try:
            change()
        finally:
            self._document.unhold()

    def _update(self) -> None:
        now = self._feed.clock()
        self._show_signal()
        if not self.view.paused:
            self._show_probabilities()
        self._show_marks()
        if now >= self._scalp_due and not self.view.paused:
            self._scalp_due = now + SCALP_S
            self._show_scalp()
        if now >= self._status_due:
            self._status_due = now + STATUS_S
            text = json.dumps(describe(self._feed), ensure_ascii=False)
            if text != self.status.text:
                self.status.text = text
        self.pulse.sent += 1

    def _show_signal(self) -> None:
        signal = self._held[0] if self._held else self._feed.signal
        if signal is None:
            return
        scale = self.view.scale or self._auto_scale(signal)
        n_rows = min(self.view.rows or MAX_ROWS, MAX_ROWS, len(signal.ch_names))
        first = max(0, min(self.view.first, len(signal.ch_names) - n_rows))
        shown = (signal, scale, n_rows, first)
        if shown != self._shown:
            self._shown, self._n_signal, self._n_marks = shown, 0, -1
            self._picks = range(first, first + n_rows)
            self._bad = []
            self.traces.set_rows(n_rows, top=0.055 * n_rows)
            self.traces.set_scale(scale, n_rows)
            self.status.scale = scale
            self.status.channels = f"{first + 1}–{first + n_rows} of {len(signal.ch_names)}"
        words = [channel_words(self._feed.health, signal.ch_names[pick]) for pick in self._picks]
        if words != self._bad:
            self._bad = words
            self.traces.set_bad(words, palette(self.view.dark))
            self.status.rows = json.dumps(
                {
                    "top": self.traces.figure.y_range.end,
                    "bottom": self.traces.figure.y_range.start,
                    "rows": [
                        {"name": signal.ch_names[pick], "word": word}
                        for pick, word in zip(self._picks, words, strict=True)
                    ],
                }
            )
        if self._n_signal == 0 or not self.view.paused:
            self._draw_signal(signal, scale)

    def _draw_signal(self, signal: Track, scale: float) -> None:
        """Send the points that are not yet there: all of them where the rows are new."""
        self._n_signal, times, points = self._held[1] if self._held else signal.read(self._n_signal)
        if not len(times):
            return
        heights = np.clip(points[self._picks.start : self._picks.stop] / np.float32(scale), -_CLIP_ROWS, _CLIP_ROWS)
        x = self._to_axis(times)
        columns = {f"y{row}": height - np.float32(row) for row, height in enumerate(heights)}
        self.traces.points.stream({"x": x, **columns}, rollover=signal.points_in_window)
        self.traces.x_range.update(start=x[-1] - 1000 * WINDOW_S, end=x[-1])

    def _pause(self) -> None:
        """Hold what is drawn, so that its scale and its channels can still be chosen."""
        signal = self._feed.signal
        self._held = (signal, signal.read(0)) if self.view.paused and signal is not None else None

    def _auto_scale(self, signal: Track) -> float:
        """Return the scale that suits the first second of this signal, chosen once."""
        if self._auto is None or self._auto[0] is not signal:
            recent = signal.last_second()
            if recent.shape[1] < 0.9 * signal.sfreq:
                return SCALES_UV[3]
            swing = 2 * float(np.median(np.nanpercentile(np.abs(np.nan_to_num(recent)), 98, axis=1)))
            self._auto = signal, next((scale for scale in SCALES_UV if scale >= swing), SCALES_UV[-1])
        return self._auto[1]

    def _show_probabilities(self) -> None:
        probability, health = self._feed.probability, self._feed.health
        if probability is None:
            return
        names, known = probability.ch_names, health.events if health is not None else {}
        thresholds = [min(max(known[name].threshold, 0.001), 0.999) if name in known else 0.5 for name in names]
        if probability is not self._probability or thresholds != self._thresholds:
            self._probability, self._thresholds, self._n_probability, self._n_marks = probability, thresholds, 0, -1
            self.probabilities.set_events(names)
            self.probabilities.paint(palette(self.view.dark))
        self._n_probability, times, points = probability.read(self._n_probability)
        if len(times):
            columns = {f"y{row}": strip_height(row, points[row], thresholds[row]) for row in range(len(names))}
            self.probabilities.points.stream(
                {"x": self._to_axis(times), **columns}, rollover=probability.points_in_window
            )

    def _show_marks(self) -> None:
        """Flag the detections and annotations of the last seconds."""
        if self._feed.n_marks == self._n_marks:
            return
        self._n_marks = self._feed.n_marks
        marks = list(self._feed.marks)[-MAX_MARKS:]
        colors = palette(self.view.dark)
        events = self._probability.ch_names if self._probability is not None else ()
        rows = [events.index(mark.text) if mark.kind == "detection" and mark.text in events else -1 for mark in marks]
        color = [colors.events[row % len(colors.events)] if row >= 0 else colors.annotation for row in rows]
        n_rows = max(1, len(self._picks))
        x = self._to_axis(np.array([mark.time for mark in marks]))
        self.traces.marks.data = {
            "x": x,
            "text": [_flag(mark) for mark in marks],
            "y": [0.5 + n_rows * (0.04 - 0.03 * (index % 2)) for index in range(len(marks))],
            "color": color,
            "dash": ["solid" if mark.kind == "detection" else "dotted" for mark in marks],
        }
        self.probabilities.marks.data = dict(self.traces.marks.data)
        flags = [(when, row) for when, row in zip(x, rows, strict=True) if row >= 0]
        self.probabilities.flags.data = {
            "x": [when for when, _ in flags],
            "y": [strip_height(row, 1.0) for _, row in flags],
            "color": [colors.events[row % len(colors.events)] for _, row in flags],
            "marker": [EVENT_MARKERS[row % len(EVENT_MARKERS)] for _, row in flags],
        }

    def _show_scalp(self) -> None:
        signal, health = self._feed.signal, self._feed.health
        if signal is None or (recent := signal.last_second()).shape[1] < signal.sfreq / 2:
            return
        bad = frozenset(health.bad_channels if health is not None else ())
        grid = scalp_grid(signal.ch_names, bad)
        picks, places = place_electrodes(signal.ch_names)
        self.scalp.place(places, np.array([signal.ch_names[pick] in bad for pick in picks], bool))
        if grid is None:
            self.scalp.show(None, (0.0, 1.0))
            return
        power = band_power(recent, signal.sfreq)[self.view.band]
        low, high = float(power[grid.picks].min()), float(power[grid.picks].max())
        middle, half = (low + high) / 2, max(3.0, (high - low) / 2)  # a map of equal values is one colour, not noise
        wanted = (middle - half, middle + half)
        before = self._limits or wanted
        self._limits = (
            before[0] + _SCALP_EASE * (wanted[0] - before[0]),
            before[1] + _SCALP_EASE * (wanted[1] - before[1]),
        )
        self.scalp.show(grid.image(power), self._limits)

    def _paint(self) -> None:
        colors = palette(self.view.dark)
        for drawn in (self.traces, self.probabilities, self.scalp):
            drawn.paint(colors)
        self.traces.set_bad(self._bad, colors)
        self._n_marks = -1  # their colours too

    def _annotate(self) -> None:
        text = str(json.loads(self.view.note)["text"]).strip()
        self._feed.annotate(text[:200] or "note")

    def _to_axis(self, times: np.ndarray) -> np.ndarray:
        """Turn LSL times into ms since 1970 as the wall's clock counts them, which Bokeh's time axis shows."""
        return 1000.0 * (times + self._feed.wall_offset_s)


def _flag(mark: Mark) -> str:
    return f"▼ {mark.text}" if mark.kind == "detection" else f"✎ {mark.text}"
