"""``segment instances``: a mask in, numbered objects out."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from segment.cli.arguments import check_files, known_voxel_size
from segment.cli.engines import Scheduler, Workers, block_progress, choose_engine
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
    split_gb: Annotated[
        float, typer.Option(metavar="GB", help="With --split: leave objects whole that would take more memory.", min=0)
    ] = 4.0,
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, in place of what the file says.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Give each connected object of a mask a number.

    From 1, in the order of their first voxel along z, then y, then x. The mask may be larger than memory: it is cut
    into blocks, and an object that several of them share is one. Blocks are kept in a folder beside OUT until it is
    there.
    """
    with needs_extra("segment"):
        from segment.objects.blockwise import label_volume
        from segment.objects.instances import NECK_NM
        from segment.objects.masks import open_numbers
        from segment.volumes import parse_voxel_size
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
        if min_nm3 is not None and volume.voxel_nm is not None:
            min_voxels = math.ceil(min_nm3 / math.prod(volume.voxel_nm) - 1e-9)  # a limit met exactly is met
        voxel_nm = volume.voxel_nm
        with block_progress() as on_progress:
            run = label_volume(
                volume,
                out,
                voxel_nm,
                engine=choose_engine(workers, scheduler),
                connectivity=cast("Connectivity", connectivity),
                min_voxels=min_voxels or 0,
                neck_nm=neck_nm,
                max_split_bytes=split_gb * 1e9,
                advice="for probabilities, make a mask of them first, as  segment predict  does",
                on_progress=on_progress,
            )
    figures: dict[str, Any] = {
        "mask": str(mask),
        "labels": str(out),
        "n_objects": run.n_objects,
        "connectivity": connectivity,
        "min_voxels": min_voxels or 0,
        "neck_nm": neck_nm,
        "n_not_split": run.n_too_large,
        "voxel_nm": list(voxel_nm) if voxel_nm is not None else None,
        "dtype": str(run.dtype),
        "n_blocks": run.n_blocks,
        "step_seconds": run.seconds,
        "seconds": time.perf_counter() - started,
    }
    if run.n_too_large:
        say(f"left whole, as to split them takes more than {split_gb:g} GB (--split-gb): {run.n_too_large:,} objects")
    typer.echo(f"objects: {run.n_objects:,}", err=json is not None and str(json) == "-")
    say(f"wrote {out}, {run.dtype}, in {figures['seconds']:.1f} s")
    write_json(json, figures)
