"""``segment evaluate``: a prediction against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segment.cli.arguments import check_files, parse_slices
from streamdetect.cli.console import needs_extra, table_console, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="The mask to score: 0 and 255, or 0 and 1.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="What is true, of the same shape: 0 and 255, or 0 and 1.")
    ],
    slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Score slices A to B - 1 of both along z only; all by default.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="PRED holds probabilities, 0 to 255 (or 65535): foreground is where they are P or more, 0 to 1.",
        ),
    ] = None,
    objects: Annotated[
        bool,
        typer.Option(
            "--instances",
            help="Also score connected objects (26 neighbours), matched where the IoU is above 0.5 and 0.75.",
        ),
    ] = False,
    min_voxels: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --instances: leave objects of fewer voxels out of both.", min=0),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Score a segmentation: IoU, Dice, precision and recall of the foreground.

    Objects that the ends of --slices cut are matched as they are between them.
    """
    with needs_extra("segment"):
        from segment.objects.masks import mask_slabs, open_numbers, read_mask
        from segment.scoring.metrics import count_slabs, count_voxels
        from segment.volumes import read_labels
    from streamdetect.errors import InputError

    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: expected a probability, 0 to 1")
    if min_voxels is not None and not objects:
        raise InputError("--min-voxels: goes with --instances")
    check_files((prediction, truth), json=json)
    advice = "for probabilities give --threshold P, 0 to 1"
    with open_numbers(prediction) as volume:
        first, stop = parse_slices(slices, volume.shape[0]) if slices is not None else (0, volume.shape[0])
        true = read_labels(truth, shape=volume.shape, of=prediction)
        figures: dict[str, Any] = {
            "prediction": str(prediction),
            "truth": str(truth),
            "slices": [first, stop],
            "threshold": threshold,
        }
        if objects:
            predicted = read_mask(volume, first, stop, threshold=threshold, advice=advice)
            figures |= count_voxels(predicted, true[first:stop]).as_dict()
            figures["instances"] = _score_instances(predicted, true[first:stop], min_voxels or 0)
        else:
            slabs = mask_slabs(volume, first, stop, threshold=threshold, advice=advice)
            figures |= count_slabs((mask, true[where]) for where, mask in slabs).as_dict()
    table_console(json).print(_table(figures))
    write_json(json, figures)


def _score_instances(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], min_voxels: int
) -> dict[str, float | int | None]:
    from segment.objects.instances import label_objects
    from segment.scoring.metrics import score_objects

    numbered = (label_objects(mask, min_voxels=min_voxels)[0] for mask in (predicted, true))
    return score_objects(*numbered) | {"min_voxels": min_voxels}


def _table(figures: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "score", box=None, pad_edge=False)
    for name, words in (("iou", "foreground IoU"), ("dice", "Dice"), ("precision", "precision"), ("recall", "recall")):
        table.add_row(words, _as_text(figures[name]))
    first, stop = figures["slices"]
    table.add_row("scored", f"{figures['n_voxels']:,} voxels, slices {first} to {stop - 1}")
    table.add_row("  right and foreground, background", f"{figures['tp']:,}, {figures['tn']:,}")
    table.add_row("  false, missed foreground", f"{figures['fp']:,}, {figures['fn']:,}")
    scores = figures.get("instances")
    if scores is not None:
        table.add_row("objects predicted, true", f"{scores['n_predicted']:,}, {scores['n_true']:,}")
        for percent in sorted(name.removeprefix("f1_") for name in scores if name.startswith("f1_")):
            parts = (_as_text(scores[f"{name}_{percent}"]) for name in ("f1", "precision", "recall"))
            table.add_row(
                f"objects with IoU > 0.{percent}: F1, precision, recall",
                f"{', '.join(parts)} ({scores[f'n_matched_{percent}']:,} matched)",
            )
    return table


def _as_text(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
