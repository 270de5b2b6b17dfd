"""Weights and metadata of networks that were never trained, as export takes them."""

from __future__ import annotations

import numpy as np

from networks import make_segment_metadata
from segment.serving.metadata import ModelMetadata, Network
from segment.training.unet import NetworkSettings, build_unet


def make_metadata(network: NetworkSettings, threshold: float = 0.5) -> ModelMetadata:
    return make_segment_metadata(
        target="blobs",
        slice_offsets=network.slice_offsets,
        stride=network.stride,
        halo=network.halo,
        threshold=threshold,
        network=Network(stem=network.stem, width=network.width, depth=network.depth),
    )


def make_weights(network: NetworkSettings):
    """Random weights, batch statistics included, whose probabilities differ from pixel to pixel."""
    rng = np.random.default_rng(0)
    weights = []
    for variable in build_unet(network).weights:
        value = rng.standard_normal(variable.shape)
        if "kernel" in variable.path:
            value *= np.sqrt(2 / np.prod(variable.shape[:3])) * (10 if "head" in variable.path else 1)
        else:
            value = 0.2 * value + ("gamma" in variable.path or "variance" in variable.path)
        weights.append(value.astype(np.float32))
    return weights
