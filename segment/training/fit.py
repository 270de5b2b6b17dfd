"""From an annotated volume to a model file: cut, train, choose, score, export."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.intensity import intensity_range
from segment.scoring.metrics import VoxelCounts, count_voxels
from segment.serving.metadata import ModelMetadata, Network, Training
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.augment import Slab
from segment.training.checkpoint import Arrays
from segment.training.export import ExportReport, convert, export_model, gate_tiles
from segment.training.train import Progress, Trained, TrainSettings, train
from segment.volumes import Volume, VoxelSize
from segment.volumes.volume import split_dataset
from streamdetect.cli.console import n_cores
from streamdetect.files import file_sha256

GAP = 8  # slices that are left out on either side of the validation slab
VALIDATED_SHARE = 8  # where no slab is named, the last eighth of the volume
PERCENTILES = (1.0, 99.0)
_PACKAGES = ("streamdetect", "numpy", "keras", "tensorflow-cpu", "tensorflow", "tf2onnx", "onnx", "onnxruntime")

Slices = tuple[int, int]  # first, and one past the last


@dataclass(frozen=True)
class Split:
    """Which slices serve what; all but the tested ones are seen while training.

    Parameters
    ----------
    train : tuple of (int, int)
        Runs of slices to learn from.
    validate : (int, int)
        Slices that weights and threshold are chosen on.
    test : (int, int) or None
        Slices that are scored once, with the exported model.
    """

    train: tuple[Slices, ...]
    validate: Slices
    test: Slices | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model that was trained and written.

    Parameters
    ----------
    trained : Trained
    metadata : ModelMetadata
    exported : ExportReport
    """

    trained: Trained
    metadata: ModelMetadata
    exported: ExportReport


def split_slices(
    n_slices: int, train: Sequence[Slices] = (), validate: Slices | None = None, test: Slices | None = None
) -> Split:
    """Divide a volume's slices, and refuse a division in which what is chosen or scored was trained on.

    Parameters
    ----------
    n_slices : int
    train : sequence of (int, int)
        First and one past the last; by default all that the others leave, 8 slices from them.
    validate : (int, int), optional
        By default the last eighth.
    test : (int, int), optional

    Returns
    -------
    Split

    Raises
    ------
    InputError
        A range is empty, outside the volume, or overlaps another.

    Examples
    --------
    >>> split_slices(165)
    Split(train=((0, 137),), validate=(145, 165), test=None)
    >>> split_slices(165, validate=(80, 100), test=(120, 165)).train
    ((0, 72),)
    """
    if validate is None:
        end = test[0] - GAP if test is not None else n_slices
        if test is not None and end < 1:
            raise InputError(
                f"--test-slices {test[0]}:{test[1]}: leave no slices before them to choose on; name --validate-slices"
            )
        validate = (end - max(1, end // VALIDATED_SHARE), end)
    kept = [validate] + ([test] if test is not None else [])
    if not train:
        blocked = np.zeros(n_slices, bool)
        for first, last in kept:
            blocked[max(0, first - GAP) : last + GAP] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[True], blocked, [True]]).astype(np.int8)))
        runs = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        train = [run for run in runs if run[1] - run[0] > 2 * GAP]
        if not train:
            left_out = " and ".join(f"{first}:{last}" for first, last in kept)
            raise InputError(
                f"--validate-slices, --test-slices: {left_out} of {n_slices} slices leave no {2 * GAP + 1} in a row to "
                f"train on that are {GAP} away from them; choose fewer, or name --train-slices"
            )
    for option, (first, last) in [*(("train", run) for run in train), *zip(("validate", "test"), kept, strict=False)]:
        if not 0 <= first < last <= n_slices:
            raise InputError(
                f"--{option}-slices {first}:{last}: expected 0 <= A < B <= {n_slices}, the number of slices"
            )
    ordered = sorted([*train, *kept])
    for one, other in pairwise(ordered):
        if other[0] < one[1]:
            raise InputError(
                f"slices {one[0]}:{one[1]} and {other[0]}:{other[1]} overlap: what is chosen or "
                "scored must not be trained on"
            )
    return Split(tuple(train), validate, test)


def fit_model(
    image: Volume,
    labels: NDArray[np.bool_],
    labels_path: Path,
    voxel_nm: VoxelSize,
    split: Split,
    settings: TrainSettings,
    out: Path,
    *,
    target: str = "mitochondria",
    checkpoint: Path | None = None,
    resume: bool = False,
    start: Path | str | None = None,
    command: str = "",
    on_progress: Progress = lambda done, figures: None,
    on_scoring: Callable[[str], None] = lambda axes: None,
) -> Fitted:
    """Train on slices of a volume, choose on others, score on others again, and write the model file.

    Parameters
    ----------
    image : Volume
    labels : ndarray of bool, shape (z, y, x)
        What is marked in it.
    labels_path : Path
        Where they come from; the model file keeps the hash.
    voxel_nm : (float, float, float)
        Size of a voxel in nm.
    split : Split
    settings : TrainSettings
    out : Path
        The ``.onnx`` file.
    target : str
        What is marked.
    checkpoint, resume, start, on_progress
        As for `train`.
    command : str
        What was typed.
    on_scoring : callable
        Called with the slicing axes before the test slices are predicted.

    Returns
    -------
    Fitted

    Raises
    ------
    InputError
        The labels do not fit the image, or slices or settings cannot be used.
    ParityError
        The exported graph differs from the trained network; nothing was written.
    """
    if labels.shape != image.shape:
        raise InputError(f"labels: expected the image's shape {image.shape}, found {labels.shape}")
    intensity = intensity_range(image, PERCENTILES)
    slabs = [Slab(image[first:last], labels[first:last]) for first, last in split.train]
    first, last = split.validate
    validation = Slab(image[first:last], labels[first:last])
    trained = train(
        slabs,
        validation,
        intensity,
        settings,
        checkpoint=checkpoint,
        resume=resume,
        start=start,
        on_progress=on_progress,
    )
    metadata = _describe(image, labels_path, voxel_nm, split, settings, trained, out.stem, target, command, start)
    if split.test is not None:
        scores = _score(trained.weights, metadata, settings, image, labels, intensity, split.test, on_scoring)
        protocol = f"{metadata.scores['protocol']}; slices {split.test[0]}:{split.test[1]} scored once"
        metadata = metadata.model_copy(update={"scores": {**metadata.scores, "protocol": protocol, **scores}})
    tiles = gate_tiles(validation, settings.network.slice_offsets, settings.network.stride)
    exported = export_model(trained.weights, tiles, intensity, metadata, out)
    return Fitted(trained, metadata, exported)


def _score(
    weights: Arrays,
    metadata: ModelMetadata,
    settings: TrainSettings,
    image: Volume,
    labels: NDArray[np.bool_],
    intensity: tuple[float, float],
    test: Slices,
    on_scoring: Callable[[str], None],
) -> dict[str, Any]:
    """Segment the test slices as they are served in the whole volume, and score them."""
    content, _ = convert(weights, settings.network, metadata.to_json())
    model = SegmentationModel(content, threads=n_cores())
    scores: dict[str, Any] = {}
    for axes in dict.fromkeys(("z", settings.axes)):
        on_scoring(axes)
        scores[f"test_axes_{axes}"] = score_slices(model, image, labels, intensity, test, axes).as_dict()
    return scores


def score_slices(
    model: SegmentationModel,
    image: Volume,
    labels: NDArray[np.bool_],
    intensity: tuple[float, float],
    slices: Slices,
    axes: str,
) -> VoxelCounts:
    """Segment some slices as they are in the whole volume, and count at the model's threshold.

    Parameters
    ----------
    model : SegmentationModel
    image : Volume
        On the model's grid.
    labels : ndarray of bool, shape of the image
    intensity : tuple of float
        Grey values that become -1 and 1.
    slices : (int, int)
        First, and one past the last.
    axes : str
        The axes that slices are cut along.

    Returns
    -------
    VoxelCounts
    """
    metadata = model.metadata
    reach = max(metadata.slice_offsets)
    margin = reach if axes == "z" else reach + metadata.halo  # what is further off changes nothing in there
    first = max(0, slices[0] - margin) // metadata.stride * metadata.stride
    part = image[first : slices[1] + margin]
    probability = predict_volume(part, model, axes=axes, intensity=intensity, voxel_nm=metadata.voxel_nm)
    mask = probability[slices[0] - first : slices[1] - first] >= metadata.threshold
    return count_voxels(mask, labels[slices[0] : slices[1]])


def _describe(
    image: Volume,
    labels_path: Path,
    voxel_nm: VoxelSize,
    split: Split,
    settings: TrainSettings,
    trained: Trained,
    name: str,
    target: str,
    command: str,
    start: Path | str | None,
) -> ModelMetadata:
    network, history = settings.network, trained.history
    labels_file, dataset = split_dataset(labels_path)
    return ModelMetadata(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        target=target,
        voxel_nm=voxel_nm,
        slice_offsets=network.slice_offsets,
        stride=network.stride,
        halo=network.halo,
        percentiles=PERCENTILES,
        axes=settings.axes,
        threshold=trained.threshold,
        network=Network(stem=network.stem, width=network.width, depth=network.depth),
        training=Training(
            image=image.name,
            image_sha256=file_sha256(image.path),
            labels=labels_file.name if dataset is None else f"{labels_file.name}:{dataset}",
            labels_sha256=file_sha256(labels_file),
            train_slices=split.train,
            validate_slices=split.validate,
            seed=settings.seed,
            steps=history.step,
            seconds=history.seconds,
            batch=settings.batch,
            patch_pixels=settings.patch**2,
            versions=list_versions(),
            command=command,
            machine=f"{n_cores()} cores, {_processor()}",
            start=Path(start).name if start else None,
        ),
        scores={
            "protocol": "weights and threshold chosen on the validation slices",
            "validation_iou": trained.iou,
        },
    )


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that training depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # tensorflow goes by either name
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
