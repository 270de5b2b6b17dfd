"""Pieces of a report, one HTML file with nothing to fetch from a network: figures, tables, and the file itself."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from streamdetect.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mne import Report

_DPI = 100
_LONG_CELL = 30  # characters; longer cells may be broken anywhere


def save_page(report: Report, path: str | Path) -> Path:
    """Write a report as one HTML file, whole or not at all.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder, whole_file(path) as partial:
        saved = Path(folder) / "report.html"  # MNE takes no other suffix
        report.save(saved, open_browser=False, verbose="error")
        shutil.copyfile(saved, partial)
    return path


def figure_html(figure: Figure, caption: str) -> str:
    """Draw a figure as a PNG inside the page.

    Notes
    -----
    `mne.Report.add_figure` (1.13) shears a figure whose width is no whole number of pixels.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    encoded = base64.b64encode(drawn.getvalue()).decode("ascii")
    return (
        f'<figure style="text-align: center"><img src="data:image/png;base64,{encoded}" style="max-width: 100%" '
        f'alt=""><figcaption style="max-width: 60em; margin: 0.5em auto 2em auto">{caption}</figcaption></figure>'
    )


def table_html(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of text as an HTML table; a heading of empty strings is left out."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} style="padding: 0.15em 1.2em 0.15em 0; text-align: left; vertical-align: top; '
            f'{"overflow-wrap: anywhere" if len(cell) > _LONG_CELL else "white-space: nowrap"}">'
            f"{escape(cell).replace(chr(10), '<br>')}</{tag}>"
            for cell in row
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = f"<tr>{cells(heading, 'th')}</tr>" if any(heading) else ""
    return f'<table style="margin: 0 0 1em 0">{head}{body}</table>'
