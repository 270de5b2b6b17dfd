"""A package for the BioImage Model Zoo (bioimage.io): one zip for any program that reads the zoo.

Our graph takes tiles with their neighbouring slices and the intensities that become -1 and 1; programs that read the
zoo give an image, and know percentiles. So the package holds the same network with both ends changed (`zoo_graph.py`):
it takes a stack, finds each slice's neighbours itself, and has its intensities scaled by the percentiles that the
description asks for.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.serving.metadata import METADATA_KEY, ModelMetadata
from segment.serving.model import SegmentationModel
from segment.synthetic import VOXEL_RANGE_NM, simulate_volume
from segment.training.zoo_description import describe_package, least_side, write_readme
from segment.training.zoo_graph import check_graph, opset_of, take_stacks
from streamdetect.files import whole_file
from streamdetect.model_file import read_model

_SMALLEST_SIDE = 128  # pixels of the example: less would show next to nothing
_COVER_SIDE = 256  # pixels


Check = tuple[str, str]  # what was checked, and "passed" or "failed"


@dataclass(frozen=True)
class ZooReport:
    """What the validation said of a package.

    Parameters
    ----------
    checks : tuple of (str, str)
        What bioimageio.core checked, and ``"passed"``.
    warnings : tuple of str
        What it would like to be told besides.
    max_difference : float
        Largest difference of a probability between the package's graph and the model.
    n_pixels : int
        Pixels that were compared.
    n_bytes : int
        Size of the zip.
    """

    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    max_difference: float
    n_pixels: int
    n_bytes: int


def export_zoo(
    model: str | PathLike[str], path: str | PathLike[str], *, authors: Sequence[str], license: str, seed: int = 0
) -> ZooReport:
    """Write a model as a package for the zoo, once bioimageio.core has found it valid and got the same results.

    Parameters
    ----------
    model : path or str
        A model file, or the name of a shipped one. A model card beside it goes into the package's documentation.
    path : path
        The ``.zip`` file; replaced only once it is complete.
    authors : sequence of str
        Names of those who made the model.
    license : str
        Of the model, as SPDX writes it: ``"BSD-3-Clause"``.
    seed : int
        Of the simulated stack that serves as the example.

    Returns
    -------
    ZooReport

    Raises
    ------
    ModelError
        It is no segmentation model that this version can run.
    InputError
        bioimageio.core does not take the description, or cannot run it; or the file cannot be written.
    ParityError
        The package's graph gives other probabilities than the model. Nothing is written.
    """
    from bioimageio.spec.model import ModelDescr

    path = Path(path)
    if path.suffix != ".zip":
        raise InputError(f"{path}: a package's name must end in .zip")
    content, source = read_model(model, METADATA_KEY)
    served = SegmentationModel(content, str(source), device="cpu")
    graph = take_stacks(content, served.metadata)
    stack = _example_stack(served.metadata, seed)
    probability, largest = check_graph(graph, served, stack)
    card = source.with_suffix(".md")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights.onnx").write_bytes(graph)
        _write_examples(folder, stack, probability, served.metadata.threshold)
        (folder / "README.md").write_text(write_readme(served, card), encoding="utf-8")
        description = describe_package(
            folder,
            served,
            opset=opset_of(graph),
            format_version=ModelDescr.implemented_format_version,
            authors=authors,
            license=license,
        )
        checks, warnings = _validate(description, folder / "package.zip")
        package = (folder / "package.zip").read_bytes()
    with whole_file(path) as partial:
        partial.write_bytes(package)
    return ZooReport(checks, warnings, largest, probability.size, len(package))


def _example_stack(metadata: ModelMetadata, seed: int) -> NDArray[np.uint8]:
    """Simulate a stack of a size that the description allows."""
    side = -(-max(least_side(metadata), _SMALLEST_SIDE) // metadata.stride) * metadata.stride
    z_nm, y_nm, x_nm = np.clip(metadata.voxel_nm, *VOXEL_RANGE_NM).tolist()
    depth = 2 * max(metadata.slice_offsets) + 4
    return simulate_volume((depth, side, side), voxel_nm=(z_nm, y_nm, x_nm), seed=seed).image


def _write_examples(folder: Path, stack: NDArray[np.uint8], probability: NDArray[np.float32], threshold: float) -> None:
    """Write the stack and what the model makes of it: for machines, for people, and as a picture."""
    import tifffile
    from PIL import Image

    np.save(folder / "test_input.npy", stack[None, None].astype(np.float32))
    np.save(folder / "test_output.npy", probability[None, None])
    tifffile.imwrite(folder / "sample_input.tif", stack, photometric="minisblack")
    tifffile.imwrite(folder / "sample_output.tif", probability, photometric="minisblack")
    grey, found = stack[len(stack) // 2], probability[len(stack) // 2] >= threshold
    raw = np.repeat(grey[..., None], 3, axis=2)
    marked = raw.copy()
    marked[found] = (raw[found] // 2 + np.array((115, 79, 0))).astype(np.uint8)  # half orange, of Okabe and Ito
    picture = Image.fromarray(np.concatenate((raw, marked), axis=1))
    picture.resize((2 * _COVER_SIDE, _COVER_SIDE)).save(folder / "cover.png")


def _validate(description: dict[str, Any], package: Path) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Pack a description and have bioimageio.core run the package; return its checks and warnings, or refuse."""
    from bioimageio.core import test_description
    from bioimageio.spec import InvalidDescr, build_description, save_bioimageio_package
    from loguru import logger

    logger.disable("bioimageio")  # what it logs is in its summary too
    try:
        built = build_description(description)
        if isinstance(built, InvalidDescr):
            summary = built.validation_summary
        else:
            save_bioimageio_package(built, output_path=package)
            summary = test_description(package)
    finally:
        logger.enable("bioimageio")
    if summary.status != "passed":
        error = next(error for detail in summary.details for error in detail.errors)
        place = next((f"{part}: " for part in error.loc), "")
        raise InputError(
            f"bioimageio.core does not take the package: {place}{shorten(error.msg, 160)}; nothing was written"
        )
    warnings = (warning for detail in summary.details for warning in detail.warnings if warning.severity > logging.INFO)
    return (
        tuple((detail.name, detail.status) for detail in summary.details),
        tuple(warning.msg for warning in warnings),
    )
