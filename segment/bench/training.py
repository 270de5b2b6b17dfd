"""How many steps a second the network trains, in float32 and in bfloat16."""

from __future__ import annotations

import time
from dataclasses import replace

from segment.synthetic import simulate_volume
from segment.training.augment import Slab
from segment.training.train import TrainSettings, train
from segment.training.unet import NetworkSettings

SHAPE = (64, 320, 320)
PATCH = 256
NETWORK = NetworkSettings()
N_STEPS, N_FIRST = 60, 10  # the graph is built in the first ones


def measure_steps() -> dict[str, float]:
    """Train the default network on simulated slices for 60 steps in each precision.

    Returns
    -------
    dict
        Steps a second of ``float32`` and ``bfloat16``, without the first ten, in which the graph is built; a step is 4
        patches of 256 by 256 pixels.
    """
    volume = simulate_volume(SHAPE)
    slabs = [Slab(volume.image[:48], volume.mitochondria[:48])]
    validation = Slab(volume.image[56:], volume.mitochondria[56:])
    return {precision: _steps_per_s(slabs, validation, precision) for precision in ("float32", "bfloat16")}


def _steps_per_s(slabs: list[Slab], validation: Slab, precision: str) -> float:
    settings = TrainSettings(
        network=NETWORK, minutes=None, patch=PATCH, axes="z", precision=precision, validate_every_s=1e9
    )
    epochs = (N_STEPS - 0.5) * settings.batch * PATCH**2 / sum(slab.image.size for slab in slabs)
    times: list[float] = []
    train(
        slabs,
        validation,
        (60.0, 200.0),
        replace(settings, epochs=epochs),
        on_progress=lambda done, figures: times.append(time.perf_counter()),
    )
    later = times[N_FIRST:]
    return (len(later) - 1) / (later[-1] - later[0])
