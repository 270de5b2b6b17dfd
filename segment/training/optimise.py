"""What is minimised, how, and in which precision: loss, learning rate, optimizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from segment.errors import InputError
from segment.training.backend import load_keras
from segment.training.unet import NetworkSettings, build_unet

WARM_UP = 0.02  # of the run: the learning rate rises in a line, then falls in a cosine to FINAL of its peak
FINAL = 0.01
DICE_SMOOTH = 1.0


def compile_unet(network: NetworkSettings, learning_rate: float, weight_decay: float, precision: str) -> Any:
    """Build a network with its loss and its optimizer.

    Parameters
    ----------
    network : NetworkSettings
    learning_rate, weight_decay : float
    precision : {"auto", "float32", "bfloat16"}

    Returns
    -------
    keras.Model
    """
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(choose_precision(precision))
    try:
        model = build_unet(network)
    finally:
        keras.config.set_dtype_policy(before)
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    # XLA's convolutions take twice as long as oneDNN's on a CPU (measured: 1.8 and 3.9 steps a second)
    model.compile(optimizer, loss=combined_loss, jit_compile=False)
    return model


def schedule(done: float) -> float:
    """Return the share of the peak learning rate when a part of the run is done.

    Examples
    --------
    >>> [round(schedule(done), 2) for done in (0.0, 0.01, 0.02, 0.51, 1.0)]
    [0.0, 0.5, 1.0, 0.51, 0.01]
    """
    if done < WARM_UP:
        return done / WARM_UP
    falling = min((done - WARM_UP) / (1 - WARM_UP), 1.0)
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * falling))


def combined_loss(labels: Any, logits: Any) -> Any:
    """Return binary cross-entropy plus soft Dice loss, both over all pixels of a batch.

    Parameters
    ----------
    labels : tensor, shape (n, height, width, 1)
        0 or 1.
    logits : tensor, shape (n, height, width, 1)

    Returns
    -------
    tensor, scalar
    """
    from keras import losses, ops

    probability = ops.sigmoid(logits)
    both = ops.sum(probability * labels)
    dice = (2 * both + DICE_SMOOTH) / (ops.sum(probability) + ops.sum(labels) + DICE_SMOOTH)
    return ops.mean(losses.binary_crossentropy(labels, logits, from_logits=True)) + 1 - dice


def choose_precision(precision: str) -> str:
    """Return the Keras policy for a precision: ``auto`` takes bfloat16 where the hardware computes in it.

    Raises
    ------
    InputError
        No such precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision: expected auto, float32 or bfloat16, found {precision}")
    if precision == "auto":
        precision = "bfloat16" if _computes_bfloat16() else "float32"
    return {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]


def _computes_bfloat16() -> bool:
    from keras import backend, distribution

    if any("gpu" in device.lower() or "cuda" in device.lower() for device in distribution.list_devices()):
        return True
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return backend.backend() == "tensorflow" and ("avx512_bf16" in flags or "amx_bf16" in flags)
