"""Where on the head the members of the vote look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.stages.metadata import ModelMetadata

if TYPE_CHECKING:
    import mne
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_POSITIONS = 4  # fewer make no map
MAX_COLUMNS = 6  # more maps beside each other are too small to read in the report
TITLE_WIDTH = 28  # characters that fit over a map
N_BARS = 12  # strongest channels of a bar chart
# Centre of the sphere that fits the electrodes of the 10-05 template best, in m; its radius is 99 mm.
HEAD_CENTRE_M = (0.0008, -0.0163, -0.0013)
_KINDS = {"lda": "LDA pattern", "lr": "LR pattern", "rf": "forest importance"}
_SIGNED_COLORMAP = "RdBu_r"
_UNSIGNED_COLORMAP = "cividis"


def channel_values(metadata: ModelMetadata, member: str, event: str) -> NDArray[np.float64]:
    """Return how much a member looks at what each channel gives, band by band.

    Parameters
    ----------
    metadata : ModelMetadata
        With ``patterns``.
    member, event : str
        Names; both must be in the patterns.

    Returns
    -------
    ndarray, shape (n_labels, n_channels), float64
        Relative to the largest magnitude, -1 to 1; an importance is 0 to 1.
    """
    values = np.array(metadata.patterns[member][event], dtype=np.float64)
    largest = np.abs(values).max()
    return values.reshape(len(metadata.features.labels), -1) / (largest or 1.0)


def make_montage(ch_names: Iterable[str]) -> mne.channels.DigMontage:
    """Look up where channels sit, by their names in the 10-05 system.

    Parameters
    ----------
    ch_names : iterable of str
        Names in any case; trailing dots, as PhysioNet has them, do not matter.

    Returns
    -------
    mne.channels.DigMontage
        The channels whose position is known; of two names for one place, the first.
    """
    import mne

    # MNE 1.13 renamed standard_1005 and warns of the old name.
    known = mne.channels.get_builtin_montages()
    montage = mne.channels.make_standard_montage("colin27_1005" if "colin27_1005" in known else "standard_1005")
    places = montage.get_positions()
    by_name = {name.lower(): position for name, position in places["ch_pos"].items()}
    found: dict[str, NDArray[np.float64]] = {}
    taken: set[tuple[float, ...]] = set()
    for name in ch_names:
        position = by_name.get(name.rstrip(".").lower())
        if position is not None and tuple(position) not in taken:
            taken.add(tuple(position))
            found[name] = position
    landmarks = {name: places[name] for name in ("nasion", "lpa", "rpa", "coord_frame")}
    return mne.channels.make_dig_montage(found, **landmarks)


def electrode_directions(ch_names: Iterable[str]) -> tuple[tuple[float, float, float] | None, ...]:
    """Return the direction of each channel from the centre of the head, as `ChannelHealthSettings` takes it.

    Parameters
    ----------
    ch_names : iterable of str
        Names in the 10-05 system, as `make_montage` takes them.

    Returns
    -------
    tuple of (float, float, float) or None
        Unit vectors; x to the right, y to the nose, z to the vertex. None where the place is not known.

    Examples
    --------
    >>> [place and [round(one, 1) + 0.0 for one in place] for place in electrode_directions(["Cz", "EMG"])]
    [[0.0, 0.1, 1.0], None]
    """
    names = list(ch_names)
    places = make_montage(names).get_positions()["ch_pos"]
    directions = {name: place - HEAD_CENTRE_M for name, place in places.items()}
    return tuple(
        tuple((directions[name] / np.linalg.norm(directions[name])).round(6).tolist()) if name in directions else None
        for name in names
    )


def scalp_figure(metadata: ModelMetadata) -> Figure:
    """Draw what each member of the vote looks at: a map of the head for each event, member and band.

    Parameters
    ----------
    metadata : ModelMetadata
        With ``patterns``.

    Returns
    -------
    matplotlib.figure.Figure
        A bar chart of the strongest channels where fewer than four channels have a known position.
    """
    from matplotlib.figure import Figure

    members = [name for name in _KINDS if name in metadata.patterns]
    if not members:
        figure = Figure(figsize=(7, 1), layout="constrained")
        figure.text(0.5, 0.5, "The model file holds no patterns to draw.", ha="center", va="center")
        return figure
    montage = make_montage(metadata.ch_names)
    is_map = len(montage.ch_names) >= MIN_POSITIONS
    bands = range(len(metadata.features.labels))
    if len(members) * len(bands) <= MAX_COLUMNS:
        grid = [[(event, member, band) for member in members for band in bands] for event in metadata.event_names]
    elif len(bands) <= MAX_COLUMNS:
        grid = [[(event, member, band) for band in bands] for event in metadata.event_names for member in members]
    else:
        grid = [[(event, member, band) for member in members] for event in metadata.event_names for band in bands]
    width, height = (2.2, 2.7) if is_map else (2.6, 3.2)
    figure = Figure(figsize=(max(7.0, len(grid[0]) * width), len(grid) * height + 1.6), layout="constrained")
    axes = figure.subplots(len(grid), len(grid[0]), squeeze=False)
    for axis, (event, member, band) in zip(axes.ravel(), (cell for row in grid for cell in row), strict=True):
        if event not in metadata.patterns[member]:
            axis.axis("off")
            continue
        values = channel_values(metadata, member, event)[band]
        if is_map:
            _draw_map(axis, metadata, values, montage, is_signed=member != "rf")
        else:
            _draw_bars(axis, metadata, values, is_signed=member != "rf")
        words = textwrap.wrap(f"{_KINDS[member]}, {metadata.features.labels[band]}", TITLE_WIDTH)
        axis.set_title("\n".join([event, *words]), fontsize=9)
    left_out = [name for name in metadata.ch_names if name not in montage.ch_names]
    note = "Values relative to the largest of their event and member."
    if is_map:
        _add_colorbars(figure, axes, has_importance="rf" in members, has_pattern=members != ["rf"])
        if left_out:
            note += f" Left out, position unknown or taken: {_shorten(left_out)}."
    else:
        note += f" No maps: fewer than {MIN_POSITIONS} channels have a known position."
    figure.supxlabel(note, fontsize=9, wrap=True)
    return figure


def _draw_map(
    axis: Axes,
    metadata: ModelMetadata,
    values: NDArray[np.float64],
    montage: mne.channels.DigMontage,
    *,
    is_signed: bool,
) -> None:
    import mne

    info = mne.create_info(montage.ch_names, metadata.sfreq, "eeg").set_montage(montage)
    kept = np.array([metadata.ch_names.index(name) for name in montage.ch_names])
    mne.viz.plot_topomap(
        values[kept],
        info,
        axes=axis,
        show=False,
        contours=0,
        cmap=_SIGNED_COLORMAP if is_signed else _UNSIGNED_COLORMAP,
        vlim=(-1.0, 1.0) if is_signed else (0.0, 1.0),
    )


def _draw_bars(axis: Axes, metadata: ModelMetadata, values: NDArray[np.float64], *, is_signed: bool) -> None:
    strongest = np.argsort(-np.abs(values), kind="stable")[:N_BARS]
    axis.barh([metadata.ch_names[index] for index in strongest], values[strongest], color="#0072B2")
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlim(-1.05 if is_signed else 0, 1.05)
    axis.spines[["top", "right"]].set_visible(False)


def _add_colorbars(figure: Figure, axes: NDArray, *, has_pattern: bool, has_importance: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    look: dict[str, Any] = {"ax": axes.ravel().tolist(), "location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02}
    if has_pattern:
        bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), _SIGNED_COLORMAP), **look)
        bar.set_ticks([-1, 0, 1], labels=["less in the event", "pattern", "more in the event"], fontsize=8)
    if has_importance:
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _UNSIGNED_COLORMAP), **look)
        bar.set_ticks([0, 0.5, 1], labels=["unused", "forest importance", "most used"], fontsize=8)


def _shorten(names: list[str], n_shown: int = 8) -> str:
    rest = len(names) - n_shown
    return ", ".join(names[:n_shown]) + (f" and {rest} more" if rest > 0 else "")
