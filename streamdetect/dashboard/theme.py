"""Colours, light and dark, told apart by colour-blind readers too (Okabe and Ito); words and dashes say the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of the figures; those of the page around them are in ``page.css``."""

    background: str
    text: str
    grid: str
    trace: str
    bad: str
    annotation: str
    threshold: str
    events: tuple[str, ...]


LIGHT = Palette(
    background="#ffffff",
    text="#1c2530",
    grid="#e3e7ec",
    trace="#24506e",
    bad="#c04a00",
    annotation="#5b4a8a",
    threshold="#6b7785",
    events=("#0072b2", "#b05f00", "#00795a", "#a04080", "#8a6d00", "#2f6f9f"),
)
DARK = Palette(
    background="#161c24",
    text="#e6ebf0",
    grid="#2b3440",
    trace="#8fc7ea",
    bad="#ff9a4d",
    annotation="#c3b1f0",
    threshold="#94a1b0",
    events=("#56b4e9", "#e69f00", "#2fc79a", "#e58fc0", "#f0e442", "#9cc9ff"),
)
EVENT_MARKERS = ("triangle", "square", "diamond", "inverted_triangle", "hex", "star")
EVENT_DASHES = ("solid", "dashed", "dotdash", "dotted", "dashdot", "solid")
SCALP_COLORS = "Cividis256"


def palette(is_dark: bool) -> Palette:
    """Return the colours for a dark or a light page."""
    return DARK if is_dark else LIGHT
