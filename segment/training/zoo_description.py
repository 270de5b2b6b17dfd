"""What the BioImage Model Zoo is told of a model: its description, and a page for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from segment.serving.metadata import ModelMetadata
from segment.serving.model import SegmentationModel
from segment.training.card import CARD_MARK
from streamdetect import __version__

UNET = {
    "text": "Ronneberger, Fischer & Brox 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation",
    "doi": "10.1007/978-3-319-24574-4_28",
}
_REFUSED_IN_NAMES = r"[^A-Za-z0-9_+\- ()]+"
_LONGEST_NAME = 128


def describe_package(
    folder: Path,
    model: SegmentationModel,
    *,
    opset: int,
    format_version: str,
    authors: Sequence[str],
    license: str,
) -> dict[str, Any]:
    """Return a package's description.

    Parameters
    ----------
    folder : Path
        Where its files lie; `segment.training.zoo` has their names.
    model : SegmentationModel
        What it is made from.
    opset : int
        Version of ONNX's operators in the weights.
    format_version : str
        Of the description, as bioimageio.spec counts.
    authors : sequence of str
        Their names.
    license : str
        As SPDX writes it.

    Returns
    -------
    dict
        As bioimageio.spec reads it. The image has the axes (batch, channel, z, y, x); its smallest tile is as large as
        leaves something when the halo is cut off.
    """
    metadata = model.metadata
    low, high = metadata.percentiles
    reach, side = max(metadata.slice_offsets), least_side(metadata)
    smallest = {"z": (2 * reach + 1, 1), "y": (side, metadata.stride), "x": (side, metadata.stride)}
    halos = {"z": reach, "y": metadata.halo, "x": metadata.halo}
    ends: dict[str, list[dict[str, Any]]] = {
        name: [{"type": "batch"}, {"type": "channel", "channel_names": [channel]}]
        for name, channel in (("image", "intensity"), ("probability", "foreground"))
    }
    for axis, scale in zip("zyx", metadata.voxel_nm, strict=True):
        space = {"type": "space", "id": axis, "unit": "nanometer", "scale": scale}
        least, step = smallest[axis]
        ends["image"].append({**space, "size": {"min": least, "step": step}})
        halo = {"halo": halos[axis]} if halos[axis] else {}
        ends["probability"].append({**space, "size": {"tensor_id": "image", "axis_id": axis}, **halo})
    scale_range = {"axes": ["channel", "z", "y", "x"], "min_percentile": low, "max_percentile": high}

    def file(name: str) -> dict[str, str]:
        return {"source": str(folder / name)}

    return {
        "type": "model",
        "format_version": format_version,
        "name": re.sub(_REFUSED_IN_NAMES, "-", f"{metadata.name} (U-Net, {metadata.target})")[:_LONGEST_NAME],
        "description": f"Finds {metadata.target} in electron-microscopy volumes with voxels of {_voxel(metadata)}, "
        "slice by slice with the slices around it.",
        "authors": [{"name": name} for name in authors],
        "license": license,
        "cite": [UNET],
        "tags": ["electron-microscopy", "semantic-segmentation", "unet", "onnx", "3d", metadata.target],
        "timestamp": datetime.fromisoformat(metadata.created).isoformat(),
        "covers": [file("cover.png")],
        "documentation": file("README.md"),
        "inputs": [
            {
                "id": "image",
                "axes": ends["image"],
                "data": {"type": "float32"},
                "preprocessing": [{"id": "scale_range", "kwargs": scale_range}],
                "test_tensor": file("test_input.npy"),
                "sample_tensor": file("sample_input.tif"),
            }
        ],
        "outputs": [
            {
                "id": "probability",
                "axes": ends["probability"],
                "data": {"type": "float32", "range": [0, 1]},
                "test_tensor": file("test_output.npy"),
                "sample_tensor": file("sample_output.tif"),
            }
        ],
        "weights": {"onnx": {**file("weights.onnx"), "opset_version": opset}},
        "config": {
            "bioimageio": {
                "modality": "electron microscopy",
                "target_structure": [metadata.target],
                "task": "semantic segmentation",
                "architecture_type": "U-Net",
            },
            "segment": {"version": __version__, "model_sha256": model.sha256, **metadata.model_dump(mode="json")},
        },
    }


def least_side(metadata: ModelMetadata) -> int:
    """Return the smallest height and width of a tile: without its halo, one stride is left."""
    return 2 * metadata.halo + metadata.stride


def write_readme(model: SegmentationModel, card: Path) -> str:
    """Return a package's documentation.

    Parameters
    ----------
    model : SegmentationModel
        What it is made from.
    card : Path
        Its model card, which goes to the end; there may be none.

    Returns
    -------
    str
        Markdown.
    """
    metadata = model.metadata
    voxel = _voxel(metadata)
    low, high = metadata.percentiles
    offsets = ", ".join(map(str, metadata.slice_offsets))
    lines = [
        f"# {metadata.name}",
        "",
        f"A U-Net that finds {metadata.target} in electron-microscopy volumes with voxels of {voxel}: a stack in, for "
        "each voxel a probability out.",
        "",
        "## Use",
        "",
        f"- Voxels of another size: resample the stack to {voxel} first, and the result back. Inverted contrast: "
        "invert it.",
        f"- Intensities: percentiles {low:g} and {high:g} of the *whole* volume become 0 and 1 (`scale_range`), and "
        "inside -1 and 1, clipped at -2 and 2. Taken tile by tile, or slice by slice, they make seams.",
        f"- Each slice is segmented with the slices at {offsets} from it. Beyond both ends of the stack, the last "
        "slice is repeated.",
        f"- Height and width of a tile are multiples of {metadata.stride}; the halo is cut off the result.",
        f"- A voxel is foreground where its probability is {metadata.threshold:.4g} or more.",
        "",
        f"Made by segment {__version__} from the model file with the SHA-256 `{model.sha256}`. `segment predict` runs "
        "that file on volumes larger than memory, resamples, and can cut slices along three axes.",
        "",
        "The example is a simulated stack.",
        "",
        "## Validation",
        "",
        "Label some slices of your own volume that were chosen by chance, segment them, and compare voxel by voxel: "
        "intersection over union, precision, recall (`segment evaluate PREDICTION TRUTH`). Scores on the volume that a "
        "model was trained on say little of another microscope.",
        "",
    ]
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if CARD_MARK in text:
        lines += ["---", "", "The model card:", "", re.sub(r"^#", "##", text, flags=re.MULTILINE)]
    return "\n".join(lines)


def _voxel(metadata: ModelMetadata) -> str:
    return " × ".join(f"{size:g}" for size in metadata.voxel_nm) + " nm (z × y × x)"
