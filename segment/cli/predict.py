"""``segment predict``: a volume in, a mask out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from segment.cli.engines import Scheduler, Workers
from streamdetect.cli.console import needs_extra

DEFAULT_MODEL = "mitochondria-epfl-plus"


def predict(
    image: Annotated[Path, typer.Argument(metavar="IN", help="The volume: TIFF, slices, HDF5, MRC or Zarr.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The mask to write, 0 and 255: .tif or .ome.zarr.")],
    model: Annotated[
        str, typer.Option(metavar="M.onnx", help="A model file, or the name of a shipped model.")
    ] = DEFAULT_MODEL,
    probabilities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write probabilities, 0 to 255: .tif or .ome.zarr.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="D", help="auto, cpu or cuda; auto takes CUDA where it can be had.")
    ] = "auto",
    voxel_size: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Size of a voxel in nm, in place of what the file says.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Swap dark and bright, for membranes that are bright on a dark ground.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(metavar="N", help="The largest side of a tile in pixels; 2048, or what memory allows.", min=1),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Take the mean over 8 orientations of each tile, for 8 times the time.")
    ] = False,
    axes: Annotated[
        str,
        typer.Option(
            metavar="A", help="Cut slices along these axes and take the mean: z, or zyx for 3 times the time."
        ),
    ] = "z",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Probability at or above which a voxel is foreground; the model's by default."),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="Segment this region only; the result is 0 outside of it."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Segment only where FILE is not 0: of the volume's shape, or smaller by whole numbers.",
        ),
    ] = None,
    skip_background: Annotated[
        bool,
        typer.Option(
            "--skip-background",
            help="Leave out blocks that show nothing: means of 8 by 8 pixels span less than a fifth of the contrast.",
        ),
    ] = False,
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Write coarser levels too, for viewers; for .ome.zarr.")
    ] = False,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Cores to use; all by default.", min=1)] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    shard_id: Annotated[
        int | None, typer.Option(metavar="I", help="Do one part of the blocks, 0 to N - 1; see --num-shards.", min=0)
    ] = None,
    num_shards: Annotated[
        int | None, typer.Option(metavar="N", help="Into how many parts the blocks are split, for job arrays.", min=1)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run of OUT that did not end, where it stood.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take: blocks, bytes, time; write nothing.")
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Segment a volume.

    It may be larger than memory: blocks are read, segmented and written as they come. What is done is kept in OUT.run
    until OUT appears, whole, with a record beside it, OUT.run.json; after a crash or Ctrl-C, --resume goes on there.
    """
    with needs_extra("segment"):
        from segment.cli.predict_request import Request
        from segment.cli.predict_run import run_request
        from streamdetect.runtime import Device
    from streamdetect.errors import InputError

    if device not in get_args(Device):
        raise InputError(f"--device {device}: expected {', '.join(get_args(Device))}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: expected a probability, 0 to 1")
    if (shard_id is None) != (num_shards is None):
        raise InputError("--shard-id and --num-shards: expected both or none, such as --shard-id 0 --num-shards 8")
    if shard_id is not None and num_shards is not None and shard_id >= num_shards:
        raise InputError(f"--shard-id {shard_id}: expected 0 to {num_shards - 1}, for --num-shards {num_shards}")
    if (workers is not None) + (scheduler is not None) + (shard_id is not None) > 1:
        raise InputError("--workers, --scheduler and --shard-id: expected one of them")
    raise typer.Exit(
        run_request(
            Request(
                image=image,
                out=out,
                model=model,
                probabilities=probabilities,
                device=device,
                voxel_size=voxel_size,
                invert=invert,
                tile=tile,
                tta=tta,
                axes=axes,
                threshold=threshold,
                roi=roi,
                mask=mask,
                skip_background=skip_background,
                pyramid=pyramid,
                threads=threads,
                workers=workers,
                scheduler=scheduler,
                shard=shard_id or 0,
                n_shards=num_shards or 1,
                resume=resume,
                dry_run=dry_run,
                json=json,
            )
        )
    )
