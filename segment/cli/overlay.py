"""``segment overlay``: a picture of a segmentation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segment.cli.arguments import check_files
from streamdetect.cli.console import needs_extra, say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segment.objects.masks import Numbers
    from segment.volumes import Volume

COUNT = 4


class Axis(StrEnum):
    """Which way slices are cut."""

    Z = "z"
    Y = "y"
    X = "x"


def overlay(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The volume that was segmented.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="What was found: a mask, or numbered objects.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.")],
    truth: Annotated[
        Path | None, typer.Option(metavar="F", help="What is true: shows it too, and where the two differ.")
    ] = None,
    slices: Annotated[str | None, typer.Option(metavar="N,N,N", help="Show these slices; 0 is the first.")] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", help="Or so many, evenly spaced; 4 by default.", min=1, max=50)
    ] = None,
    axis: Annotated[Axis, typer.Option(help="Cut slices along this axis.")] = Axis.Z,
    pixels: Annotated[
        int, typer.Option(metavar="N", help="Longer side of each slice in the picture.", min=100, max=4000)
    ] = 540,
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, in place of what the file says.")
    ] = None,
) -> None:
    """Draw slices with the outlines of a segmentation as one PNG.

    Raw slices are beside it; with --truth, what is right, missed and false is coloured. The scale bar needs the voxel
    size.
    """
    with needs_extra("segment"):
        from segment.scoring.overlay import PANEL_INCHES, choose_slices, overlay_figure
        from segment.volumes import open_volume, parse_voxel_size
    from streamdetect.errors import InputError
    from streamdetect.files import whole_file

    if out.suffix.lower() != ".png":
        raise InputError(f"OUT.png {out}: the picture's name must end in .png")
    if slices is not None and count is not None:
        raise InputError("--slices and --count: give one of the two")
    check_files((image, mask, truth), {"OUT.png": out})
    which = axis.value
    with open_volume(image, voxel_nm=parse_voxel_size(voxel_size) if voxel_size is not None else None) as volume:
        n_slices = volume.shape["zyx".index(which)]
        numbers = choose_slices(n_slices, count or COUNT) if slices is None else _parse_numbers(slices, n_slices, which)
        shown = _cut(volume, numbers, which)
        figure = overlay_figure(
            shown,
            _cut_objects(mask, volume, numbers, which),
            None if truth is None else _cut_objects(truth, volume, numbers, which),
            slices=numbers,
            voxel_nm=volume.voxel_nm,
            axis=which,
        )
        if volume.voxel_nm is None:
            say(f"{image}: does not say how large a voxel is: no scale bar; give --voxel-size Z,Y,X in nm for one")
    with whole_file(out) as partial:
        figure.savefig(partial, format="png", dpi=pixels / PANEL_INCHES)
    say(f"wrote {out}: {len(numbers)} slices")


def _parse_numbers(text: str, n_slices: int, axis: str) -> list[int]:
    from streamdetect.errors import InputError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--slices {text}: expected whole numbers, such as 10,20,30") from None
    if not all(0 <= number < n_slices for number in numbers):
        raise InputError(f"--slices {text}: expected numbers from 0 to {n_slices - 1}, the slices along {axis}")
    return numbers


def _cut(volume: Volume | Numbers, numbers: list[int], axis: str) -> NDArray[Any]:
    """Read slices across an axis, stacked along the first."""
    import numpy as np

    index = "zyx".index(axis)
    parts = []
    for number in numbers:
        key = [slice(0, n) for n in volume.shape]
        key[index] = slice(number, number + 1)
        parts.append(np.moveaxis(volume[tuple(key)], index, 0))
    return np.concatenate(parts)


def _cut_objects(path: Path, image: Volume, numbers: list[int], axis: str) -> NDArray[Any]:
    """Read slices of a mask as booleans, or of numbered objects as they are."""
    from segment.errors import VolumeError
    from segment.objects.masks import open_numbers, read_mask

    with open_numbers(path) as volume:
        if tuple(volume.shape) != tuple(image.shape):
            raise VolumeError(f"{path}: expected the shape of the image, {image.shape}, found {volume.shape}")
        cut = _cut(volume, numbers, axis)
    if cut.dtype.kind == "u" and cut.dtype.itemsize > 2:  # wider than any probability: numbered objects
        return cut
    try:
        return read_mask(cut)
    except VolumeError as error:
        raise VolumeError(f"{path}{str(error).removeprefix('volume')}") from error
