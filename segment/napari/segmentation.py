"""What the widget does in its worker thread: a region through the network, its objects, their measures. No Qt here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.intensity import intensity_range
from segment.napari.layers import LayerVoxels
from segment.volumes import VoxelSize
from segment.volumes.stored import Box
from streamdetect.runtime import Device

if TYPE_CHECKING:
    from segment.objects.instances import Labels
    from segment.objects.measure import ObjectShape
    from segment.serving.metadata import ModelMetadata
    from segment.serving.resample import Ratios

RESULT_BYTES = 13  # a voxel of the region: probability, its mask, labels while they are found and before

OnProgress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Task:
    """What to segment, and how.

    Parameters
    ----------
    image : LayerVoxels
        The whole layer.
    region : tuple of slice
        The part of it to segment, (z, y, x).
    model : str
        A model file, or the name of a shipped model.
    device : {"auto", "cpu", "cuda"}
    axes : str
        The axes that slices are cut along.
    invert : bool
        Swap dark and bright.
    voxel_nm : tuple of float or None
        Size in nm, (z, y, x); None stands for the model's.
    """

    image: LayerVoxels
    region: Box
    model: str
    device: Device = "auto"
    axes: str = "z"
    invert: bool = False
    voxel_nm: VoxelSize | None = None


@dataclass(frozen=True, eq=False)
class Segmented:
    """What came of a task.

    Parameters
    ----------
    task : Task
    probability : ndarray of float32, shape of the region
        0 to 1.
    metadata : ModelMetadata
        Of the model.
    sha256 : str
        Of the model's file.
    provider : str
        ONNX Runtime's name of what ran the network.
    voxel_nm : tuple of float
        The task's, or the model's where it was not known.
    remarks : tuple of str
        What the user should know about the choices.
    """

    task: Task
    probability: NDArray[np.float32]
    metadata: ModelMetadata
    sha256: str
    provider: str
    voxel_nm: VoxelSize
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """Objects in a segmented region.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape of the region
        0 is background.
    objects : list of ObjectShape
        Positions are those in the layer; the border that they may touch is the region's.
    """

    labels: Labels
    objects: list[ObjectShape]


def segment_region(task: Task, free_bytes: int, on_progress: OnProgress, cancelled: Cancelled) -> Segmented:
    """Segment a region of a layer.

    Parameters
    ----------
    task : Task
    free_bytes : int
        Memory that may be used.
    on_progress, cancelled : callable
        As for `segment.serving.predict.predict_volume`.

    Returns
    -------
    Segmented
        As in the segmented whole: the network sees what is around the region, and the intensities are the layer's.

    Raises
    ------
    InputError
        An argument cannot be used, or the region needs more memory than there is.
    Cancelled
        It was asked to.
    """
    from segment.serving.model import SegmentationModel
    from segment.serving.plan import choose_ratios, plan_prediction
    from segment.serving.predict import predict_volume

    model = SegmentationModel.load(task.model, device=task.device)
    metadata = model.metadata
    voxel_nm = task.voxel_nm or metadata.voxel_nm
    seen = grow_box(task.region, task.image.shape, metadata, task.axes, choose_ratios(voxel_nm, metadata.voxel_nm))
    _check_memory(task, seen, free_bytes)
    intensity = intensity_range(task.image, metadata.percentiles)
    around = task.image.crop(seen)
    plan = plan_prediction(
        around, metadata, axes=task.axes, intensity=intensity, invert=task.invert, voxel_nm=task.voxel_nm
    )
    probability = predict_volume(
        around,
        model,
        axes=task.axes,
        intensity=intensity,
        invert=task.invert,
        voxel_nm=voxel_nm,
        on_progress=on_progress,
        cancelled=cancelled,
    )
    inner = tuple(
        slice(own.start - outer.start, own.stop - outer.start) for own, outer in zip(task.region, seen, strict=True)
    )
    remarks = tuple(option_words(remark) for remark in plan.remarks)
    return Segmented(
        task, np.ascontiguousarray(probability[inner]), metadata, model.sha256, model.provider, voxel_nm, remarks
    )


def grow_box(box: Box, shape: tuple[int, int, int], metadata: ModelMetadata, axes: str, ratios: Ratios) -> Box:
    """Return a box with what the network sees around it, within the volume.

    Parameters
    ----------
    box : tuple of slice
        (z, y, x).
    shape : tuple of int
        Of the volume.
    metadata : ModelMetadata
    axes : str
        The axes that slices are cut along.
    ratios : tuple of float
        Voxels of the model's grid in one of the volume's.

    Returns
    -------
    tuple of slice
        Begins and ends on multiples of the network's stride, as tiles of the whole do.
    """
    grown = []
    for axis, (side, n, ratio) in enumerate(zip(box, shape, ratios, strict=True)):
        within = metadata.halo if axes != "zyx"[axis] else 0
        across = max(metadata.slice_offsets) if "zyx"[axis] in axes else 0
        margin = math.ceil(max(within, across) / ratio) + (ratio != 1)
        start, stop = max(0, side.start - margin), side.stop + margin
        grown.append(slice(start - start % metadata.stride, min(n, stop + -stop % metadata.stride)))
    z, y, x = grown
    return z, y, x


def find_objects(
    segmented: Segmented, threshold: float, min_voxels: int, on_progress: OnProgress, cancelled: Cancelled
) -> Found:
    """Make a mask of probabilities, number its objects, and measure them.

    Parameters
    ----------
    segmented : Segmented
    threshold : float
        Probability, 0 to 1, at or above which a voxel is foreground.
    min_voxels : int
        Objects of fewer voxels are left out.
    on_progress : callable
        Called with the objects that are measured and those in all.
    cancelled : callable
        Asked after each object whether to give up.

    Raises
    ------
    Cancelled
        It was asked to.
    """
    from segment.objects.instances import label_objects

    mask = segmented.probability >= np.float32(threshold)
    labels, _ = label_objects(mask, min_voxels=min_voxels)
    return Found(labels, measure_labels(labels, segmented, on_progress, cancelled))


def measure_labels(
    labels: Labels, segmented: Segmented, on_progress: OnProgress, cancelled: Cancelled
) -> list[ObjectShape]:
    """Measure numbered objects of a segmented region, also such as were changed by hand.

    Parameters
    ----------
    labels : ndarray of unsigned int, shape of the region
    segmented, on_progress, cancelled
        As for `find_objects`.

    Returns
    -------
    list of ObjectShape
        Positions are those in the layer.
    """
    from segment.objects.measure import measure_objects
    from segment.serving.predict import Cancelled

    def on_object(n_done: int, n_objects: int) -> None:
        if cancelled():
            raise Cancelled("cancelled")
        on_progress(n_done, n_objects)

    start = [side.start for side in segmented.task.region]
    objects = measure_objects(labels, segmented.voxel_nm, on_object=on_object)
    return [_move(one, start, segmented.voxel_nm) for one in objects]


def _move(one: ObjectShape, start: Sequence[int], voxel_nm: VoxelSize) -> ObjectShape:
    """Return an object of a region as one of the volume that the region begins in at a voxel."""
    changes: dict[str, Any] = {}
    for axis, by, side in zip("zyx", start, voxel_nm, strict=True):
        for name, distance in (
            (f"centroid_{axis}_voxel", by),
            (f"centroid_{axis}_nm", by * side),
            (f"box_{axis}_start_voxel", by),
            (f"box_{axis}_stop_voxel", by),
        ):
            changes[name] = getattr(one, name) + distance
    return replace(one, **changes)


def option_words(text: str) -> str:
    """Write a message's options as the widget's fields are called.

    Examples
    --------
    >>> option_words("no voxel size is stated; give --voxel-size Z,Y,X")
    'no voxel size is stated; give “voxel size” Z,Y,X'
    """
    return re.sub(r"--([a-z][a-z-]*)", lambda option: f"“{option[1].replace('-', ' ')}”", text)


def _check_memory(task: Task, seen: Box, free_bytes: int) -> None:
    n_region, n_seen = (math.prod(side.stop - side.start for side in box) for box in (task.region, seen))
    needed = RESULT_BYTES * n_region + 4 * n_seen
    if needed > free_bytes:
        shape = " × ".join(f"{side.stop - side.start:,}" for side in task.region)
        raise InputError(
            f"region of {shape} voxels: would take {needed / 1e9:,.1f} GB of memory, {free_bytes / 1e9:,.1f} GB are "
            "free; choose a smaller region, or run  segment predict  on the file"
        )
