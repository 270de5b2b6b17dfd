"""A trained model made smaller, and let through only if it scores as well as before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.intensity import intensity_range
from segment.serving.metadata import METADATA_KEY, Conversion, ModelMetadata
from segment.serving.model import SegmentationModel
from segment.serving.plan import SAME_GRID, choose_ratios, format_nm
from segment.training.card import write_card
from segment.training.fit import Slices, list_versions, score_slices
from segment.training.precision import N_TILES, SAFE_BITS, draw_tiles, to_float16, to_int8
from segment.training.weights import WEIGHTS_KEY
from segment.volumes import Volume
from streamdetect.errors import ModelError, ParityError
from streamdetect.files import file_sha256, whole_file
from streamdetect.model_file import read_model

Precision = Literal["int8", "float16"]

MAX_LOSS = 0.005  # of IoU


@dataclass(frozen=True)
class ConvertSettings:
    """What a person may choose about making a model smaller.

    Parameters
    ----------
    precision : {"int8", "float16"}
    weight_bits : {7, 8}
        Of int8; see `segment.training.precision.to_int8`.
    calibrate : (int, int) or None
        Slices, first and one past the last, that give the ranges of values between the layers; for int8 only. None
        for those that the model was trained on, where it is the same volume.
    validate : (int, int) or None
        Slices that both models are scored on; None for those that the model was chosen on, likewise.
    test : (int, int) or None
        Slices to score once, with the finished model.
    max_loss : float
        Foreground IoU that may be lost on the slices to validate on.
    seed : int
        Of the choice of tiles.
    """

    precision: Precision = "int8"
    weight_bits: int = SAFE_BITS
    calibrate: Slices | None = None
    validate: Slices | None = None
    test: Slices | None = None
    max_loss: float = MAX_LOSS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Converted:
    """A model that was made smaller and written.

    Parameters
    ----------
    metadata : ModelMetadata
        Of the new file; its ``conversion`` holds the IoU before and after.
    n_voxels : int
        Voxels that the two were compared on.
    n_bytes, megavoxels_per_s : (int, int), (float, float)
        Before and after: size of the file, and speed through these voxels, in one run each that other work may have
        slowed.
    """

    metadata: ModelMetadata
    n_voxels: int
    n_bytes: tuple[int, int]
    megavoxels_per_s: tuple[float, float]


def convert_model(
    source: str | PathLike[str],
    image: Volume,
    labels: NDArray[np.bool_],
    out: Path,
    settings: ConvertSettings | None = None,
    *,
    command: str = "",
) -> Converted:
    """Write a model with fewer bits, with a model card beside it, unless it scores worse.

    Parameters
    ----------
    source : path or str
        A model file in float32, or the name of a shipped model.
    image : Volume
        With the voxel size of the model, or none stated.
    labels : ndarray of bool, shape of the image
        What is marked in it.
    out : Path
        The ``.onnx`` file; the card takes its name with ``.md``. Both are replaced only once they are complete.
    settings : ConvertSettings, optional
    command : str
        What was typed.

    Returns
    -------
    Converted

    Raises
    ------
    ParityError
        More IoU is lost than may be. Nothing is written.
    InputError
        The model was converted before, or it, the volume and the slices do not go together.
    """
    settings = settings or ConvertSettings()
    content, path = read_model(source, METADATA_KEY)
    original = SegmentationModel(content, str(path), device="cpu")
    _check_fit(original.metadata, str(path), image, labels)
    runs, validate = _choose_slices(image, original.metadata, settings)
    intensity = intensity_range(image, original.metadata.percentiles)
    if settings.precision == "int8":
        tiles = draw_tiles(image, runs, original.metadata, np.random.default_rng(settings.seed))
        smaller = to_int8(content, tiles, intensity, settings.weight_bits)
    else:
        smaller = to_float16(content)
    try:
        served = SegmentationModel(smaller, device="cpu")
    except ModelError as error:
        raise ParityError(f"in {settings.precision}, {error}; nothing was written") from error
    times, counts = [time.perf_counter()], []
    for model in (original, served):
        counts.append(score_slices(model, image, labels, intensity, validate, "z"))
        times.append(time.perf_counter())
    iou = _pass_gate(counts[0].iou, counts[1].iou, validate, settings)
    conversion = Conversion(
        precision=settings.precision,
        weight_bits=settings.weight_bits if settings.precision == "int8" else 16,
        source=original.metadata.name,
        source_sha256=original.sha256,
        calibrate_slices=runs,
        n_tiles=N_TILES if runs else 0,
        validate_slices=validate,
        source_iou=iou[0],
        iou=iou[1],
        command=command,
        versions=list_versions(),
    )
    scores: dict[str, Any] = {
        "protocol": f"threshold taken over; compared with float32 on slices {validate[0]}:{validate[1]}",
        "validation_iou": iou[1],
    }
    if settings.test is not None:
        scores["protocol"] += f"; slices {settings.test[0]}:{settings.test[1]} scored once"
        for axes in dict.fromkeys(("z", original.metadata.axes)):
            scored = score_slices(served, image, labels, intensity, settings.test, axes)
            scores[f"test_axes_{axes}"] = scored.as_dict()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    metadata = original.metadata.model_copy(
        update={"name": out.stem, "created": created, "scores": scores, "conversion": conversion}
    )
    smaller = _with_metadata(smaller, metadata)
    with whole_file(out) as model_file, whole_file(out.with_suffix(".md")) as card_file:
        model_file.write_bytes(smaller)
        card_file.write_text(write_card(metadata, smaller), encoding="utf-8")
    n_voxels = counts[0].n_voxels
    before, after = (n_voxels / 1e6 / (end - began) for began, end in pairwise(times))
    return Converted(metadata, n_voxels, (len(content), len(smaller)), (before, after))


def _check_fit(metadata: ModelMetadata, label: str, image: Volume, labels: NDArray[np.bool_]) -> None:
    if metadata.conversion is not None:
        raise InputError(
            f"{label}: is in {metadata.conversion.precision} already; give the model that it was made from, "
            f"{metadata.conversion.source}"
        )
    if labels.shape != image.shape:
        raise InputError(f"labels: expected the image's shape {image.shape}, found {labels.shape}")
    if image.voxel_nm is not None and choose_ratios(image.voxel_nm, metadata.voxel_nm) != SAME_GRID:
        raise InputError(
            f"{image.name}: expected voxels of the model's {format_nm(metadata.voxel_nm)} nm, found "
            f"{format_nm(image.voxel_nm)} nm; give a volume like the one that it was trained on"
        )


def _choose_slices(
    image: Volume, metadata: ModelMetadata, settings: ConvertSettings
) -> tuple[tuple[Slices, ...], Slices]:
    """Return the runs to calibrate on and the slices to validate on, all apart from each other and from the test."""
    training, validate = metadata.training, settings.validate
    runs = (settings.calibrate,) if settings.calibrate is not None else training.train_slices
    if settings.calibrate is None or validate is None:
        if training.validate_slices is None or file_sha256(image.path) != training.image_sha256:
            raise InputError(
                f"--slices and --validate-slices: give both, as {image.name} is not the file that the model was "
                f"trained on ({training.image})"
            )
        validate = validate or training.validate_slices
    if settings.precision != "int8":
        runs = ()  # float16 needs no ranges
    used = sorted([*runs, validate, *([settings.test] if settings.test is not None else [])])
    for one, other in pairwise(used):
        if other[0] < one[1]:
            raise InputError(
                f"slices {one[0]}:{one[1]} and {other[0]}:{other[1]} overlap: those for the ranges, for the comparison "
                "and for the test must lie apart"
            )
    return runs, validate


def _pass_gate(
    before: float | None, after: float | None, validate: Slices, settings: ConvertSettings
) -> tuple[float, float]:
    """Return both IoU, or refuse a model that lost too much of it."""
    label = f"slices {validate[0]}:{validate[1]}"
    if not before or after is None:
        raise InputError(f"{label}: the model finds nothing that is marked there; choose other slices to validate on")
    if not before - after <= settings.max_loss:
        raise ParityError(
            f"IoU on {label}: {after:.4f} in {settings.precision}, {before:.4f} in float32, a loss of more than "
            f"{settings.max_loss:g}; nothing was written; calibrate on other slices, or allow more with --max-loss"
        )
    return before, after


def _with_metadata(content: bytes, metadata: ModelMetadata) -> bytes:
    """Return the file with another document, and without the weights that only training could use."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(content)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != WEIGHTS_KEY}
    del model.metadata_props[:]
    helper.set_model_props(model, kept | {METADATA_KEY: metadata.to_json()})
    return bytes(model.SerializeToString())
