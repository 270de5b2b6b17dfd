"""A simulated stack to try the widget on."""

from __future__ import annotations

from typing import Any

SHAPE = (48, 320, 320)
SEED = 1


def make_sample() -> list[tuple[Any, dict[str, Any], str]]:
    """Simulate a FIB-SEM stack with its mitochondria, a second's work; napari calls it.

    Returns
    -------
    list of (data, arguments, type)
        An image of 5 nm voxels, and its numbered mitochondria.
    """
    from segment.objects.instances import label_objects
    from segment.synthetic import simulate_volume

    volume = simulate_volume(SHAPE, seed=SEED)
    labels, _ = label_objects(volume.mitochondria)
    place = {"scale": volume.voxel_nm, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
    return [
        (volume.image, {"name": "FIB-SEM, simulated", **place}, "image"),
        (labels, {"name": "mitochondria, truth", "visible": False, **place}, "labels"),
    ]
