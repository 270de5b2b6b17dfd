"""How fast a model is served, beside Keras with the same weights, and what memory a large volume takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.intensity import intensity_range
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.synthetic import simulate_volume
from segment.training.backend import load_keras
from segment.training.unet import build_unet
from segment.training.weights import load_weights, network_of
from segment.volumes import create_volume
from streamdetect.bench.process import run_measured

PLANE = (768, 1024)  # of the EPFL volumes
N_SLICES = 4
N_ROUNDS = 5
LARGE = (512, 1024, 1024)  # of uint16: 1.07 GB
GRAIN = (32, 256, 256)  # what the large volume is laid out of


def measure_speed(model_file: Path) -> dict[str, float]:
    """Segment the same slices with ONNX Runtime and with Keras in turn, in float32 on all cores.

    Parameters
    ----------
    model_file : Path
        A model file that training can begin with: Keras takes its weights from there.

    Returns
    -------
    dict
        Megavoxels a second, best of five rounds in turn: ``onnxruntime`` (`predict_volume`, all that it does
        included), ``keras`` (the network in a compiled graph, and no more), their ``ratio``, and the largest
        ``difference`` of a probability.
    """
    served = SegmentationModel.load(model_file, device="cpu")
    image = simulate_planes(N_SLICES)
    intensity = intensity_range(image, served.metadata.percentiles)
    run_keras = keras_runner(model_file, image, intensity)

    def run_onnxruntime() -> NDArray[np.float32]:
        return predict_volume(image, served, intensity=intensity, voxel_nm=served.metadata.voxel_nm)

    difference = float(np.abs(run_keras() - run_onnxruntime()).max())
    best = time_in_turn({"keras": run_keras, "onnxruntime": run_onnxruntime})
    speeds = {name: image.size / 1e6 / seconds for name, seconds in best.items()}
    return speeds | {"ratio": speeds["onnxruntime"] / speeds["keras"], "difference": difference}


def simulate_planes(n_slices: int) -> NDArray[np.uint8]:
    """Return simulated slices of the size of the EPFL volumes, shape (n_slices, 768, 1024)."""
    image = simulate_volume((n_slices, 256, 256)).image
    return np.tile(image, (1, PLANE[0] // 256, PLANE[1] // 256))


def keras_runner(
    model_file: Path, image: NDArray[Any], intensity: tuple[float, float]
) -> Callable[[], NDArray[np.float32]]:
    """Return what runs the slices through Keras, with the weights of a model file, in a compiled graph."""
    load_keras()  # quiets TensorFlow, so before it
    import tensorflow as tf

    network = network_of(SegmentationModel.load(model_file, device="cpu").metadata)
    trained = build_unet(network)
    load_weights(model_file, trained)
    low, high = intensity

    @tf.function
    def graph(slices: Any) -> Any:
        scaled = tf.clip_by_value((slices - low) * (2.0 / (high - low)) - 1.0, -2.0, 2.0)
        return tf.sigmoid(trained(scaled, training=False))

    around = np.arange(len(image))[:, None] + np.array(network.slice_offsets)
    channels = np.moveaxis(image[np.clip(around, 0, len(image) - 1)], 1, -1).astype(np.float32)
    return lambda: np.stack([np.asarray(graph(tf.constant(each[None])))[0, ..., 0] for each in channels])


def time_in_turn(runs: Mapping[str, Callable[[], Any]], n_rounds: int | None = None) -> dict[str, float]:
    """Return the seconds of the quickest of some calls of each; called in turn, all meet the same other work."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(n_rounds or N_ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def measure_memory(model_file: Path, folder: Path) -> dict[str, float]:
    """Segment a volume of 1 GB in a process of its own.

    Parameters
    ----------
    model_file : Path
    folder : Path
        Where 2 GB may be written.

    Returns
    -------
    dict
        ``volume_gb``, ``peak_gb`` of resident memory, ``seconds`` and ``megavoxels_per_s``.
    """
    grain = simulate_volume(GRAIN).image.astype(np.uint16) * 257
    slab = np.tile(grain, (1, LARGE[1] // GRAIN[1], LARGE[2] // GRAIN[2]))
    volume = folder / "large.ome.zarr"
    with create_volume(volume, LARGE, np.uint16, (5.0, 5.0, 5.0)) as writer:
        for _ in range(LARGE[0] // GRAIN[0]):
            writer.append(slab)
    arguments = ["predict", str(volume), str(folder / "mask.ome.zarr"), "--model", str(model_file), "--device", "cpu"]
    figures = run_measured("segment.cli.main", arguments, folder / "large.json")
    return {
        "volume_gb": int(np.prod(LARGE)) * 2 / 1e9,
        "peak_gb": figures["peak_gb"],
        "seconds": figures["seconds"],
        "megavoxels_per_s": figures["json"]["megavoxels_per_s"],
    }
