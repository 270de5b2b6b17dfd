"""What a model in fewer bits gains and loses: it, the model that it was made from, and Keras, in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.bench.serving import keras_runner, simulate_planes, time_in_turn
from segment.errors import InputError
from segment.intensity import intensity_range
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.predict import predict_block
from segment.training.fit import score_slices
from segment.volumes import open_volume, read_labels
from streamdetect.files import file_sha256

N_SLICES = 16  # a block of `segment predict` where slices are as small as these
TILES = (512, 768, 1024, 1536, 2048)


def measure_fast(model_file: Path, fast_file: Path) -> dict[str, Any]:
    """Segment the same slices with a model, with the faster one made from it, and with Keras, in turn on all cores.

    Parameters
    ----------
    model_file : Path
        In float32: Keras takes its weights from there.
    fast_file : Path

    Returns
    -------
    dict
        Megavoxels a second, best of five rounds in turn: ``fast`` and ``float32`` (a block as `segment predict`
        computes it, without reading and writing files and without what is decided once a volume), ``keras`` (the
        network in a compiled graph, and no more), and ``ratio`` and ``ratio_to_keras`` of the first to the others.
    """
    image = simulate_planes(N_SLICES)
    models = {"fast": SegmentationModel.load(fast_file, device="cpu")}
    models["float32"] = SegmentationModel.load(model_file, device="cpu")
    runs: dict[str, Callable[[], Any]] = {name: block_runner(image, model) for name, model in models.items()}
    intensity = intensity_range(image, models["float32"].metadata.percentiles)
    runs["keras"] = keras_runner(model_file, image, intensity)
    for run in runs.values():
        run()  # memory is taken, and Keras's graph built, at the first call
    speeds = {name: image.size / 1e6 / seconds for name, seconds in time_in_turn(runs).items()}
    return speeds | {
        "ratio": speeds["fast"] / speeds["float32"],
        "ratio_to_keras": speeds["fast"] / speeds["keras"],
    }


def measure_accuracy(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Score models on the slices that the first of them was chosen on.

    Parameters
    ----------
    files : dict of str to Path
        Model files by name.
    folder : Path
        Holds the volume and the labels that the first model was trained on, under the names that it states.

    Returns
    -------
    dict
        Foreground IoU by name, at each model's threshold; ``slices`` and ``labels`` that they were scored on.

    Raises
    ------
    InputError
        The files are not there, or others, or the model was chosen on no slices.
    """
    models = {name: SegmentationModel.load(path, device="cpu") for name, path in files.items()}
    metadata = next(iter(models.values())).metadata
    training = metadata.training
    if training.validate_slices is None:
        raise InputError(f"{metadata.name}: states no slices that it was chosen on; leave --data out")
    for name, sha256 in ((training.image, training.image_sha256), (training.labels, training.labels_sha256)):
        if not (folder / name).is_file():
            raise InputError(f"--data {folder}: expected the files {training.image} and {training.labels} in it")
        if file_sha256(folder / name) != sha256:
            raise InputError(f"--data {folder}: {name} is another file than the one that {metadata.name} was made with")
    labels = read_labels(folder / training.labels)
    with open_volume(folder / training.image, voxel_nm=metadata.voxel_nm) as volume:
        intensity = intensity_range(volume, metadata.percentiles)
        scores: dict[str, Any] = {
            name: score_slices(model, volume, labels, intensity, training.validate_slices, "z").iou
            for name, model in models.items()
        }
    return scores | {"slices": list(training.validate_slices), "labels": training.labels}


def measure_tiles(model_file: Path) -> dict[str, float]:
    """Segment planes that are larger than a tile, with tiles of several sizes in turn.

    Parameters
    ----------
    model_file : Path

    Returns
    -------
    dict
        Megavoxels a second, best of five rounds, by the side of a tile in pixels; what the halos cost is included.
    """
    model = SegmentationModel.load(model_file, device="cpu")
    image = np.tile(simulate_planes(max(4, model.tiles_at_once)), (1, 3, 2))  # planes of 2304 by 2048 pixels
    smallest = 2 * model.metadata.halo + model.metadata.stride
    runs = {str(tile): block_runner(image, model, tile) for tile in TILES if smallest <= tile <= max(image.shape[1:])}
    return {tile: image.size / 1e6 / seconds for tile, seconds in time_in_turn(runs).items()}


def block_runner(image: NDArray[Any], model: SegmentationModel, tile: int | None = None) -> Callable[[], None]:
    """Return what computes all blocks of an image in memory, one after the other, with all that was planned before."""
    metadata = model.metadata
    intensity = intensity_range(image, metadata.percentiles)
    plan = plan_prediction(image, metadata, tile=tile, intensity=intensity, voxel_nm=metadata.voxel_nm)

    def run() -> None:
        for index in range(len(plan.blocks)):
            predict_block(image, model, plan, plan.blocks.block(index))

    return run
