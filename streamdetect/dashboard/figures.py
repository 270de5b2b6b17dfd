"""The page's three Bokeh figures, and the colours they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    DatetimeTickFormatter,
    FixedTicker,
    LinearColorMapper,
    Range1d,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from streamdetect.dashboard.scalp import EDGE_RADIUS, GRID_SIZE, head_outline
from streamdetect.dashboard.theme import EVENT_DASHES, SCALP_COLORS, Palette

LABEL_WIDTH = 112  # pixels left of both figures of time, so that their seconds stand above each other
_FIXED = "fixed"  # a second x range, 0 to 1 over the width, for what does not move with time
_REACH = 1.25 * EDGE_RADIUS  # from the middle of the map, with room for the nose and the ears
STRIP = 0.82  # height of an event's probability of 1, in rows


class _Rows:
    """What the two figures of time share: a line a row, the first row at the top, and marks across all of them.

    Attributes
    ----------
    figure : bokeh.plotting.figure
        The figure.
    points : ColumnDataSource
        ``x`` in ms since 1970, and ``y0``, ``y1``, … in rows. New points are streamed here; the browser makes the
        lines of them.
    marks : ColumnDataSource
        Vertical lines with a word: ``x``, ``text``, ``y`` of the word, ``color`` and ``dash``.
    """

    def __init__(self, name: str, x_range: Range1d | None = None, **options: Any) -> None:
        self.x_range = x_range or Range1d(0.0, 1.0)
        self.figure = figure(
            name=name,
            x_axis_type="datetime",
            x_range=self.x_range,
            y_range=Range1d(-1.0, 0.5),
            tools="",
            toolbar_location=None,
            sizing_mode="stretch_both",
            min_width=200,
            min_height=60,
            min_border_left=LABEL_WIDTH,
            min_border_right=28,
            extra_x_ranges={_FIXED: Range1d(0.0, 1.0)},
            lod_threshold=None,
            **options,
        )
        formats = dict.fromkeys(("milliseconds", "seconds", "minsec", "minutes"), "%H:%M:%S")
        self.figure.xaxis.formatter = DatetimeTickFormatter(**formats)
        self.figure.xaxis.minor_tick_line_color = None
        self.figure.yaxis.major_tick_line_color = None
        self.figure.yaxis.minor_tick_line_color = None
        self.figure.ygrid.grid_line_color = None
        self.points = ColumnDataSource({"x": []})
        self._lines = ColumnDataSource({"xs": [], "ys": [], "color": [], "width": [], "dash": []})
        self.figure.multi_line("xs", "ys", source=self._lines, line_color="color", line_width="width", line_dash="dash")
        # A glyph for each line would cost the browser three times as much: it sorts all points of each at each frame.
        join = CustomJS(args={"points": self.points, "lines": self._lines}, code="window.dashboard.join(points, lines)")
        for source, change in ((self.points, "streaming"), (self.points, "data"), (self._lines, "data")):
            source.js_on_change(change, join)
        self.marks = ColumnDataSource({"x": [], "text": [], "y": [], "color": [], "dash": []})
        self.figure.vspan("x", source=self.marks, line_color="color", line_dash="dash", line_width=2)

    def set_rows(self, n_rows: int, top: float) -> None:
        """Make room for so many rows, and some above the first, in rows."""
        self.points.data = {"x": np.empty(0), **{f"y{row}": np.empty(0, np.float32) for row in range(n_rows)}}
        self.figure.y_range.update(start=-n_rows + 0.25, end=0.5 + top)

    def style(self, colors: Sequence[str], widths: Sequence[float], dashes: Sequence[str]) -> None:
        """Say how the line of each row looks."""
        blank: list[list[float]] = [[] for _ in colors]
        self._lines.data = {"xs": blank, "ys": blank, "color": colors, "width": widths, "dash": dashes}


class TraceFigure(_Rows):
    """The signal, a row a channel. The names beside the rows are the page's, whose text costs nothing at each frame.

    Attributes
    ----------
    words : ColumnDataSource
        What is wrong with a channel, on its row: ``y`` and ``text``.
    bar : ColumnDataSource
        The bar that tells the scale.
    """

    def __init__(self) -> None:
        super().__init__("traces", min_border_top=0, min_border_bottom=0)
        self.figure.axis.visible = False
        self.words = ColumnDataSource({"y": [], "text": []})
        self.bar = ColumnDataSource({"x": [], "top": [], "bottom": [], "middle": [], "text": []})
        boxed = {
            "text_baseline": "middle",
            "text_font_size": "11px",
            "text_font_style": "bold",
            "padding": 2,
            "border_radius": 3,
            "background_fill_alpha": 0.85,
        }
        self._word_text = self.figure.text(0.004, "y", "text", source=self.words, x_range_name=_FIXED, **boxed)
        self._mark_text = self.figure.text("x", "y", "text", source=self.marks, x_offset=3, text_color="color", **boxed)
        self._bar_line = self.figure.segment(
            "x", "bottom", "x", "top", source=self.bar, x_range_name=_FIXED, line_width=3
        )
        self._bar_text = self.figure.text(
            *("x", "middle", "text"), source=self.bar, x_range_name=_FIXED, x_offset=-6, text_align="right", **boxed
        )

    def set_scale(self, microvolts: float, n_rows: int) -> None:
        """Draw the bar that says how high so many µV are; rows too low for it are taken together."""
        height = max(1, -(-n_rows // 14))
        bottom = -n_rows + 0.75
        self.bar.data = {
            "x": [0.992],
            "bottom": [bottom],
            "top": [bottom + height],
            "middle": [bottom + height / 2],
            "text": [f"{height * microvolts:g} µV"],
        }

    def set_bad(self, words: Sequence[str], colors: Palette) -> None:
        """Mark the rows of bad channels: a word each, empty for a good one."""
        self.style(
            [colors.bad if word else colors.trace for word in words],
            [2.0 if word else 1.0 for word in words],
            ["solid"] * len(words),
        )
        rows = [row for row, word in enumerate(words) if word]
        self.words.data = {"y": [-float(row) for row in rows], "text": [f"✕ {words[row]}" for row in rows]}

    def paint(self, colors: Palette) -> None:
        """Take on the colours of the page; those of the lines come with `set_bad`."""
        _paint_frame(self.figure, colors)
        self._word_text.glyph.update(text_color=colors.bad, background_fill_color=colors.background)
        self._mark_text.glyph.background_fill_color = colors.background
        self._bar_line.glyph.line_color = colors.text
        self._bar_text.glyph.update(text_color=colors.text, background_fill_color=colors.background)


class ProbabilityFigure(_Rows):
    """The probability of each event, a strip each, with its threshold in the middle.

    Attributes
    ----------
    flags : ColumnDataSource
        A sign for each detection in its event's strip: ``x``, ``y``, ``color`` and ``marker``.
    """

    def __init__(self, x_range: Range1d) -> None:
        super().__init__("probabilities", x_range, min_border_top=2, min_border_bottom=4)
        self._thresholds = ColumnDataSource({"y": []})
        self.flags = ColumnDataSource({"x": [], "y": [], "color": [], "marker": []})
        self._floors = ColumnDataSource({"y": []})
        self._floor_lines = self.figure.hspan("y", source=self._floors, line_width=1, level="underlay")
        self._threshold_lines = self.figure.hspan("y", source=self._thresholds, line_dash="dashed", line_width=1.5)
        self._flags = self.figure.scatter("x", "y", source=self.flags, marker="marker", size=11, fill_color="color")
        self._n_events = 0
        self.figure.axis.visible = False  # until there is something to show

    def set_events(self, names: Sequence[str]) -> None:
        """Give each event a strip; its colour comes with `paint`."""
        self._n_events = len(names)
        self.set_rows(len(names), top=0.1)
        self._floors.data = {"y": [strip_height(row, 0.0) for row in range(len(names))]}
        self._thresholds.data = {"y": [-float(row) for row in range(len(names))]}
        self.figure.axis.visible = True
        axis = self.figure.yaxis[0]
        axis.ticker = FixedTicker(ticks=[-row for row in range(len(names))])
        axis.major_label_overrides = {
            -row: name if len(name) <= 15 else f"{name[:14]}…" for row, name in enumerate(names)
        }

    def paint(self, colors: Palette) -> None:
        """Take on the colours of the page."""
        _paint_frame(self.figure, colors)
        rows = range(self._n_events)
        self.style(
            [colors.events[row % len(colors.events)] for row in rows],
            [1.8 for _ in rows],
            [EVENT_DASHES[row % len(EVENT_DASHES)] for row in rows],
        )
        self._floor_lines.glyph.line_color = colors.grid
        self._threshold_lines.glyph.line_color = colors.threshold
        self._flags.glyph.line_color = colors.background


def strip_height(row: int, probability: Any, threshold: float = 0.5) -> Any:
    """Return where a probability, a number or an array of them, is in an event's strip.

    The threshold is in the middle of the strip, 0 at its bottom and 1 at its top, in equal steps on either side:
    thresholds of rare events are so low that all would lie on the floor otherwise.

    Examples
    --------
    >>> (strip_height(0, np.array([0.0, 0.05, 0.1, 0.55, 1.0]), threshold=0.1) / STRIP).round(2).tolist()
    [-0.5, -0.25, 0.0, 0.25, 0.5]
    """
    return -row + STRIP * (np.interp(probability, (0.0, threshold, 1.0), (0.0, 0.5, 1.0)) - 0.5)


class ScalpFigure:
    """The power over the head, seen from above.

    Attributes
    ----------
    figure : bokeh.plotting.figure
        The figure.
    """

    def __init__(self) -> None:
        self.figure = figure(
            name="scalp",
            x_range=Range1d(-_REACH, _REACH),
            y_range=Range1d(-_REACH, _REACH),
            tools="",
            toolbar_location=None,
            sizing_mode="stretch_both",
            min_width=150,
            min_height=120,
            min_border=0,
        )
        self.figure.axis.visible = False
        self.figure.grid.visible = False
        self.figure.outline_line_color = None
        self._mapper = LinearColorMapper(palette=SCALP_COLORS, low=0.0, high=10.0, nan_color="rgba(0, 0, 0, 0)")
        blank = np.full((GRID_SIZE, GRID_SIZE), np.nan, np.float32)
        self._image = ColumnDataSource({"image": [blank]})
        corner, width = -EDGE_RADIUS, 2 * EDGE_RADIUS
        self.figure.image(
            "image", source=self._image, x=corner, y=corner, dw=width, dh=width, color_mapper=self._mapper
        )
        x, y = head_outline()
        self._outline = self.figure.line(x, y, line_width=2)
        self._good = ColumnDataSource({"x": [], "y": []})
        self._bad = ColumnDataSource({"x": [], "y": []})
        self._good_dots = self.figure.scatter("x", "y", source=self._good, size=3)
        self._bad_crosses = self.figure.scatter("x", "y", source=self._bad, size=9, marker="x", line_width=2.5)
        self._bar = ColorBar(color_mapper=self._mapper, width=9, padding=4, label_standoff=4, title="dB", margin=0)
        self._bar.major_label_text_font_size = self._bar.title_text_font_size = "11px"
        self.figure.add_layout(self._bar, "right")
        self._size: dict[str, int] = {}
        for side in ("inner_width", "inner_height"):  # the browser tells them
            self.figure.on_change(side, self._keep_round)

    def show(self, image: NDArray[np.float32] | None, limits: tuple[float, float]) -> None:
        """Draw a map in colours between two limits; None for none."""
        self._image.data = {"image": [image if image is not None else np.full((2, 2), np.nan, np.float32)]}
        self._mapper.update(low=limits[0], high=limits[1])

    def _keep_round(self, side: str, old: int, new: int) -> None:
        """Give both axes the same length a pixel, whatever the shape of the figure."""
        self._size[side] = new
        shortest = min(self._size.values())
        if len(self._size) == 2 and shortest > 0:
            for axis, name in ((self.figure.x_range, "inner_width"), (self.figure.y_range, "inner_height")):
                reach = _REACH * self._size[name] / shortest
                axis.update(start=-reach, end=reach)

    def place(self, places: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> None:
        """Draw the electrodes, shape (n, 2), those of bad channels as crosses."""
        self._good.data = {"x": places[~is_bad, 0], "y": places[~is_bad, 1]}
        self._bad.data = {"x": places[is_bad, 0], "y": places[is_bad, 1]}

    def paint(self, colors: Palette) -> None:
        """Take on the colours of the page."""
        _paint_frame(self.figure, colors)
        self.figure.outline_line_color = None
        self._outline.glyph.line_color = colors.text
        self._good_dots.glyph.update(line_color="#101418", fill_color="#ffffff")
        self._bad_crosses.glyph.line_color = colors.bad
        self._bar.update(
            background_fill_color=colors.background, major_label_text_color=colors.text, title_text_color=colors.text
        )


def _paint_frame(plot: figure, colors: Palette) -> None:
    plot.background_fill_color = plot.border_fill_color = colors.background
    plot.outline_line_color = colors.grid
    plot.xgrid.grid_line_color = colors.grid
    for axis in plot.axis:
        axis.update(major_label_text_color=colors.text, axis_line_color=colors.grid, major_tick_line_color=colors.grid)
