"""Pictures of a segmentation: slices with outlines, beside the truth where it is known.

Colours are those of Okabe and Ito, told apart by colour-blind readers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.scoring.metrics import count_voxels
from streamdetect.scoring.figures import BLUE, ORANGE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YELLOW = "#F0E442"  # of the same palette
PREDICTED, TRUE = ORANGE, SKY
AGREES, MISSED, FALSE = BLUE, VERMILION, YELLOW

PANEL_INCHES = 3.6  # the longer side of a slice
DPI = 150
CONTRAST = (0.5, 99.5)  # percentiles of the shown slices that become black and white

_OPACITY = {AGREES: 0.35, MISSED: 0.85, FALSE: 0.8}
_BAR_PART = 0.3  # of the width, at most
_BAR_THICKNESS = 0.008  # of the width
_NM_PER_UM = 1000.0


def overlay_figure(
    image: NDArray[Any],
    prediction: NDArray[Any],
    truth: NDArray[Any] | None = None,
    *,
    slices: Sequence[int] | None = None,
    voxel_nm: tuple[float, float, float] | None = None,
    axis: str = "z",
    panel_inches: float = PANEL_INCHES,
) -> Figure:
    """Draw slices, a row each: raw beside the outlines of a prediction; with the truth, that, and where they differ.

    Parameters
    ----------
    image : ndarray, shape (n, rows, columns)
        The slices, in any unit; all at one contrast, from their percentiles 0.5 to 99.5.
    prediction : ndarray of bool or unsigned integers, shape (n, rows, columns)
        The foreground, or objects by number, which then have an outline each.
    truth : ndarray of bool or unsigned integers, shape (n, rows, columns), optional
        What should have been found.
    slices : sequence of int, optional
        Number of each slice in its volume; 0 to n - 1 by default.
    voxel_nm : tuple of float, optional
        Voxel size of the volume in nm, (z, y, x): gives the scale bar, and pixels their shape.
    axis : {"z", "y", "x"}
        Which axis the slices are cut along: rows and columns are then (y, x), (z, x) or (z, y).
    panel_inches : float
        Longer side of each picture.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved with ``dpi=DPI``, or any other.

    Raises
    ------
    InputError
        Shapes differ, there are no slices, or there is no such axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    numbers = list(range(len(image))) if slices is None else [int(number) for number in slices]
    _check_slices(image, prediction, truth, numbers, axis)
    row_nm, column_nm = _plane_size(voxel_nm, axis)
    low, high = np.percentile(image, CONTRAST)
    titles = ("raw", "prediction") if truth is None else ("raw", "truth", "prediction", "difference")
    n_rows, n_columns = image.shape[1:]
    height, width = n_rows * row_nm, n_columns * column_nm
    panel = np.array([width, height]) * panel_inches / max(width, height)
    size = panel * [len(titles), len(image)] + [0.5 + 0.08 * len(titles), 0.8 + 0.08 * len(image)]
    size[0] = max(size[0], 4.8)  # the legend needs as much
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(float(size[0]), float(size[1])), dpi=DPI, layout=engine)
    panels = figure.subplots(len(image), len(titles), squeeze=False)
    for row, number in enumerate(numbers):
        by_title = dict(zip(titles, panels[row], strict=True))
        for title, shown in by_title.items():
            shown.imshow(image[row], cmap="gray", vmin=low, vmax=max(high, low + 1e-12), aspect=row_nm / column_nm)
            shown.set(xticks=[], yticks=[])
            shown.spines[:].set_visible(False)
            if row == 0:
                shown.set_title(title, fontsize=9)
        by_title["raw"].set_ylabel(f"{axis} = {number}", fontsize=9)
        if voxel_nm is not None:
            _draw_scale(by_title["raw"], n_columns, (row_nm, column_nm))
        _draw_outlines(by_title["prediction"], prediction[row], PREDICTED)
        if truth is not None:
            _draw_outlines(by_title["truth"], truth[row], TRUE)
            _draw_difference(by_title["difference"], prediction[row] > 0, truth[row] > 0)
    figure.legend(handles=_legend(truth is not None), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def choose_slices(n_slices: int, count: int) -> list[int]:
    """Return evenly spaced slices: the middles of `count` equal parts of a volume.

    Parameters
    ----------
    n_slices : int
        How many there are.
    count : int
        How many to choose; all, where there are not more.

    Returns
    -------
    list of int

    Examples
    --------
    >>> choose_slices(165, 3)
    [27, 82, 137]
    >>> choose_slices(2, 3)
    [0, 1]
    """
    count = min(count, n_slices)
    return [(2 * index + 1) * n_slices // (2 * count) for index in range(count)]


def scale_bar(width_nm: float) -> tuple[float, str]:
    """Return the length of a scale bar in nm and its text, for a picture of a width.

    Parameters
    ----------
    width_nm : float
        Above 0.

    Returns
    -------
    length_nm : float
        1, 2 or 5 times a power of ten; at most three tenths of the width.
    text : str

    Examples
    --------
    >>> scale_bar(5120.0)
    (1000.0, '1 µm')
    >>> scale_bar(640.0)
    (100.0, '100 nm')
    """
    longest = _BAR_PART * width_nm
    power = 10.0 ** np.floor(np.log10(longest))
    length = float(max(factor * power for factor in (1, 2, 5) if factor * power <= longest * (1 + 1e-9)))
    return length, f"{length / _NM_PER_UM:g} µm" if length >= _NM_PER_UM else f"{length:g} nm"


def _check_slices(
    image: NDArray, prediction: NDArray, truth: NDArray | None, numbers: Sequence[int], axis: str
) -> None:
    if axis not in ("z", "y", "x"):
        raise InputError(f"axis must be z, y or x, found {axis!r}")
    if image.ndim != 3 or 0 in image.shape:
        raise InputError(f"image: must hold slices of rows and columns, one at least, found the shape {image.shape}")
    for name, other in (("prediction", prediction), ("truth", truth)):
        if other is not None and other.shape != image.shape:
            raise InputError(f"{name}: must have the shape of the image, {image.shape}, found {other.shape}")
    if len(numbers) != len(image):
        raise InputError(f"slices: must number each of the {len(image)} slices, found {len(numbers)} numbers")


def _plane_size(voxel_nm: tuple[float, float, float] | None, axis: str) -> tuple[float, float]:
    """Return height and width of a pixel in nm, or 1 and 1."""
    if voxel_nm is None:
        return 1.0, 1.0
    row, column = (size for size, name in zip(voxel_nm, "zyx", strict=True) if name != axis)
    return row, column


def _draw_outlines(axis: Axes, objects: NDArray, color: str) -> None:
    """Outline the foreground, or each object; along the edge of the picture too."""
    numbers = [True] if objects.dtype == np.bool_ else np.unique(objects[objects > 0]).tolist()
    for number in numbers:
        where = objects == number
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        if len(rows) == 0:
            continue
        top, left = rows[0], columns[0]
        inside = np.pad(where[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float32)
        # From just outside the box, half-way between pixels.
        axis.contour(
            np.arange(left - 1, left - 1 + inside.shape[1]),
            np.arange(top - 1, top - 1 + inside.shape[0]),
            inside,
            levels=[0.5],
            colors=[color],
            linewidths=1.1,
        )


def _draw_difference(axis: Axes, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    """Colour what both have, what was missed and what is false, and write the slice's IoU."""
    from matplotlib.colors import to_rgba

    colored = np.zeros((*true.shape, 4), np.float32)
    for where, color in ((predicted & true, AGREES), (~predicted & true, MISSED), (predicted & ~true, FALSE)):
        colored[where] = to_rgba(color, _OPACITY[color])
    axis.imshow(colored, aspect=axis.get_aspect(), interpolation_stage="rgba")
    iou = count_voxels(predicted, true).iou
    axis.yaxis.set_label_position("right")
    axis.set_ylabel("no foreground" if iou is None else f"IoU {iou:.3f}", fontsize=9)


def _draw_scale(axis: Axes, n_columns: int, pixel_nm: tuple[float, float]) -> None:
    """Draw a scale bar into the lower left corner."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    row_nm, column_nm = pixel_nm
    length_nm, text = scale_bar(n_columns * column_nm)
    bar = AnchoredSizeBar(
        axis.transData,
        length_nm / column_nm,
        text,
        loc="lower left",
        color="white",
        size_vertical=_BAR_THICKNESS * n_columns * column_nm / row_nm,
        label_top=True,
        pad=0.4,
        borderpad=0.4,
        sep=2,
        fontproperties=FontProperties(size=7),
    )
    bar.patch.set(facecolor="black", alpha=0.6, linewidth=0)
    axis.add_artist(bar)


def _legend(has_truth: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=PREDICTED, linewidth=1.5, label="predicted")]
    if has_truth:
        handles.insert(0, Line2D([], [], color=TRUE, linewidth=1.5, label="true"))
        named = ((AGREES, "both"), (MISSED, "missed"), (FALSE, "false"))
        handles += [Patch(facecolor=color, alpha=max(0.6, _OPACITY[color]), label=label) for color, label in named]
    return handles
