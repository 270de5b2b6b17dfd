"""``segment instances``: a mask in, numbered objects out."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from segment.cli.arguments import check_files, known_voxel_size
from streamdetect.cli.console import needs_extra, say, write_json

if TYPE_CHECKING:
    from segment.objects.instances import Connectivity


def instances(
    mask: Annotated[Path, typer.Argument(metavar="IN", help="The mask: 0 and 255, or 0 and 1.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The numbered objects to write: .tif or .ome.zarr.")],
    connectivity: Annotated[
        int, typer.Option(metavar="N", help="Join voxels that share a face (6), an edge (18) or a corner (26).")
    ] = 26,
    min_voxels: Annotated[
        int | None, typer.Option(metavar="N", help="Leave out objects of fewer voxels.", min=0)
    ] = None,
    min_nm3: Annotated[
        float | None, typer.Option("--min-nm3", metavar="V", help="Leave out objects of less than V nm³.", min=0)
    ] = None,
    split: Annotated[
        bool,
        typer.Option("--split", help="Split touching objects at necks, by a watershed of the distance to the edge."),
    ] = False,
    neck_nm: Annotated[
        float | None,
        typer.Option(
            metavar="NM",
            help="With --split: cut where the radius is NM smaller than on both sides; less cuts more. 30 by default.",
        ),
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, in place of what the file says.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Give each connected object of a mask a number.

    From 1, in the order of their first voxel along z, then y, then x. The volume is held in memory: 6 bytes a voxel.
    """
    with needs_extra("segment"):
        import numpy as np

        from segment.objects.instances import NECK_NM, label_objects
        from segment.objects.masks import open_numbers, read_mask
        from segment.volumes import create_volume, parse_voxel_size
    from streamdetect.errors import InputError

    if connectivity not in (6, 18, 26):
        raise InputError(f"--connectivity {connectivity}: expected 6, 18 or 26")
    if min_voxels is not None and min_nm3 is not None:
        raise InputError("--min-voxels and --min-nm3: give one of the two")
    if neck_nm is not None and not (split and neck_nm > 0):
        raise InputError(f"--neck-nm {neck_nm:g}: goes with --split, and must be above 0 nm")
    if split and neck_nm is None:
        neck_nm = NECK_NM
    check_files((mask,), {"OUT": out}, json=json)
    started = time.perf_counter()
    with open_numbers(mask, voxel_nm=parse_voxel_size(voxel_size) if voxel_size is not None else None) as volume:
        if split or min_nm3 is not None:
            known_voxel_size(volume.voxel_nm, mask, needed_by="--split" if split else "--min-nm3")
        create_volume(
            out, volume.shape, np.uint32, volume.voxel_nm
        )  # refuses a name now that it would refuse at the end
        if min_nm3 is not None and volume.voxel_nm is not None:
            min_voxels = math.ceil(min_nm3 / math.prod(volume.voxel_nm) - 1e-9)  # a limit met exactly is met
        labels, n_objects = label_objects(
            read_mask(volume, advice="for probabilities, make a mask of them first, as  segment predict  does"),
            connectivity=cast("Connectivity", connectivity),
            min_voxels=min_voxels or 0,
            neck_nm=neck_nm,
            voxel_nm=volume.voxel_nm,
        )
        voxel_nm = volume.voxel_nm
    with create_volume(out, labels.shape, labels.dtype, voxel_nm) as writer:
        for z in range(len(labels)):
            writer.append(labels[z : z + 1])
    figures: dict[str, Any] = {
        "mask": str(mask),
        "labels": str(out),
        "n_objects": n_objects,
        "connectivity": connectivity,
        "min_voxels": min_voxels or 0,
        "neck_nm": neck_nm,
        "voxel_nm": list(voxel_nm) if voxel_nm is not None else None,
        "dtype": str(labels.dtype),
        "seconds": time.perf_counter() - started,
    }
    typer.echo(f"objects: {n_objects:,}", err=json is not None and str(json) == "-")
    say(f"wrote {out}, {labels.dtype}, in {figures['seconds']:.1f} s")
    write_json(json, figures)
