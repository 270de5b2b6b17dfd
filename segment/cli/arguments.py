"""What several commands take: names of files, slices, the size of a voxel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from streamdetect.cli.console import check_outputs
from streamdetect.errors import InputError

if TYPE_CHECKING:
    from segment.serving.blocks import Region
    from segment.volumes import VoxelSize

_VOLUMES = ("OUT", "probabilities")  # of the outputs: these may be an OME-Zarr, which is a folder


def check_files(
    inputs: Iterable[Path | str | None], arguments: Mapping[str, Path] | None = None, **options: Path | None
) -> None:
    """Refuse, before the work begins, files that cannot or should not be written after it.

    As `streamdetect.cli.console.check_outputs`, and with what volumes need: ``file.h5:/dataset`` is that file, a folder
    of slices gets no other slices, and an OME-Zarr may be replaced, unless it is read.

    Parameters
    ----------
    inputs : iterable of path or None
        What the command reads.
    arguments : mapping of str to Path, optional
        What it writes to names that are arguments, by what ``--help`` calls them.
    **options : Path or None
        What it writes to names that are options.

    Raises
    ------
    InputError
        An output's folder does not exist or is not writable; its name is that of a folder, a device, an input, or
        another output; it would lie among slices that are read.
    """
    from segment.volumes.slices import ENDINGS
    from segment.volumes.volume import split_dataset

    arguments = arguments or {}
    read = [split_dataset(path)[0] for path in inputs if path is not None]
    folders = {path.resolve(): f"{path}, which is read" for path in read if path.is_dir()}
    files: dict[str, Path] = {}
    for name, path in {**arguments, **options}.items():
        if path is None or str(path) == "-":
            continue
        label = f"{name} {path}" if name in arguments else f"--{name} {path}"
        final = path.resolve()
        if final in folders:
            raise InputError(f"{label}: would overwrite {folders[final]}; choose another name")
        if final.parent in folders and path.suffix.lower() in ENDINGS:
            raise InputError(f"{label}: would lie among the slices of {folders[final.parent]}; choose another folder")
        if name in _VOLUMES and path.is_dir():  # create_volume knows whether it may be replaced
            folders[final] = f"{path}, which is written too"
        else:
            files[name] = path
    try:
        check_outputs(read, **files)
    except InputError as error:
        is_argument = str(error).startswith(tuple(f"--{name} " for name in arguments))
        raise InputError(str(error).removeprefix("--" if is_argument else "")) from error


def parse_slices(text: str, n_slices: int, option: str = "--slices") -> tuple[int, int]:
    """Read ``A:B`` as slices A to B - 1 of a volume.

    Raises
    ------
    InputError
        It is no such range, or the volume has no such slices.

    Examples
    --------
    >>> parse_slices("132:165", 165)
    (132, 165)
    """
    start, _, end = text.partition(":")
    try:
        first, stop = int(start), int(end)
    except ValueError:
        raise InputError(f"{option} {text}: expected A:B, such as 105:125 for slices 105 to 124") from None
    if not 0 <= first < stop <= n_slices:
        raise InputError(
            f"{option} {text}: expected A:B with 0 <= A < B <= {n_slices}, for the {n_slices} slices that there are"
        )
    return first, stop


def parse_roi(text: str, shape: tuple[int, int, int], option: str = "--roi") -> Region:
    """Read ``Z0:Z1,Y0:Y1,X0:X1`` as a region of a volume; ``:`` alone is all of an axis.

    Parameters
    ----------
    text : str
        The first voxel along each axis, and one past the last.
    shape : tuple of int
        Of the volume, (z, y, x).
    option : str
        For messages.

    Raises
    ------
    InputError
        It is no such region, or does not lie within the volume.

    Examples
    --------
    >>> parse_roi("0:16,:,100:200", (165, 768, 1024))
    ((0, 16), (0, 768), (100, 200))
    """
    parts = text.split(",")
    spans = []
    try:
        for part, n in zip(parts, shape, strict=True):
            start, colon, stop = part.strip().partition(":")
            spans.append((int(start or 0), int(stop or n)) if colon else (-1, -1))
    except ValueError:
        spans = []
    if not spans or not all(0 <= start < stop <= n for (start, stop), n in zip(spans, shape, strict=True)):
        limits = ",".join(f"0:{n}" for n in shape)
        raise InputError(
            f"{option} {text}: expected Z0:Z1,Y0:Y1,X0:X1 in voxels within {limits}, such as "
            f"{','.join(f'0:{(n + 1) // 2}' for n in shape)}"
        )
    z, y, x = spans
    return z, y, x


def known_voxel_size(voxel_nm: VoxelSize | None, path: Path, needed_by: str = "") -> VoxelSize:
    """Return the size of a voxel, or refuse a volume that does not say it.

    Parameters
    ----------
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x), from the file or from ``--voxel-size``.
    path : Path
        The file, for the message.
    needed_by : str
        The option that needs it, where the command does without it otherwise.

    Raises
    ------
    InputError
        It is None.
    """
    if voxel_nm is None:
        why = f", which {needed_by} needs" if needed_by else ""
        raise InputError(
            f"{path}: does not say how large a voxel is{why}: give --voxel-size Z,Y,X in nm, such as 5,5,5"
        )
    return voxel_nm
