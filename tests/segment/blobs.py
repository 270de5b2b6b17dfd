"""A volume that a tiny network learns in seconds: bright blobs on a dark, noisy ground."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segment.training.augment import Slab
from segment.training.train import TrainSettings
from segment.training.unet import NetworkSettings

INTENSITY = (40.0, 200.0)


def make_blobs(shape=(12, 64, 64), seed=0) -> Slab:
    rng = np.random.default_rng(seed)
    labels = ndimage.gaussian_filter(rng.standard_normal(shape), 4) > 0.02
    image = np.where(labels, 160, 80) + rng.normal(0, 15, shape)
    return Slab(np.clip(image, 0, 255).astype(np.uint8), labels)


def tiny_settings(**changes) -> TrainSettings:
    settings = {
        "network": NetworkSettings(4, 1, 1, (-1, 0, 1)),
        "minutes": None,
        "epochs": 10.0,
        "batch": 4,
        "patch": 32,
        "learning_rate": 5e-3,
        "average": 0.9,
        "precision": "float32",
        "validate_every_s": 1e9,
    }
    return TrainSettings(**(settings | changes))
