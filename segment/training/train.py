"""The training loop: patches in, averaged weights and their history out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from segment.training.augment import Slab, draw_batch, list_planes, normalise
from segment.training.backend import load_keras
from segment.training.checkpoint import Arrays, Checkpoint, fit_weights, load_checkpoint, save_checkpoint
from segment.training.unet import NetworkSettings, build_unet
from segment.training.weights import load_weights

AVERAGE_EVERY = 10  # steps between additions to the moving average
WARM_UP = 0.02  # of the run: the learning rate rises in a line, then falls in a cosine to FINAL of its peak
FINAL = 0.01
N_VALIDATED = 10  # slices of the validation slab that are looked at while training, evenly spread
N_BINS = 256  # of the probabilities that the threshold is chosen from
DICE_SMOOTH = 1.0

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class TrainSettings:
    """What a person may choose about training.

    Parameters
    ----------
    network : NetworkSettings
    minutes : float or None
        How long to train, validation included; the schedule fits itself to it.
    epochs : float or None
        Or how often, in place of ``minutes``: an epoch draws as many voxels as there are to train on.
    batch : int
        Patches a step.
    patch : int
        Side of a patch in pixels.
    axes : str
        The axes along which slices are cut: ``"zyx"`` suits isotropic voxels.
    learning_rate : float
        Its peak.
    weight_decay : float
    average : float
        Share that a moving average of the weights keeps after each step.
    validate_every_s : float
        Seconds between looks at the validation slab, and between checkpoints.
    patience : int
        Stop early after this many looks without a better one.
    precision : {"auto", "float32", "bfloat16"}
        ``auto`` computes in bfloat16 where the processor does so in hardware.
    seed : int
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    minutes: float | None = 60.0
    epochs: float | None = None
    batch: int = 4
    patch: int = 256
    axes: str = "zyx"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    validate_every_s: float = 120.0
    patience: int = 20
    precision: str = "auto"
    seed: int = 0


@dataclass
class History:
    """What happened in a run.

    Parameters
    ----------
    losses : list of tuple
        Step, seconds, mean loss since the entry before.
    validations : list of tuple
        Step, seconds, IoU of the moving average at the best threshold.
    step : int
        Steps done.
    seconds : float
        Time taken, over all parts of a run that was resumed.
    """

    losses: list[tuple[int, float, float]] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Parameters
    ----------
    weights : list of ndarray
        The moving average that scored best.
    threshold : float
        Probability at which the IoU on the validation slab is best.
    iou : float
        That IoU; chosen on these slices, so no score.
    history : History
    """

    weights: Arrays
    threshold: float
    iou: float
    history: History


Progress = Callable[[float, dict[str, float]], None]  # part of the run that is done, 0 to 1; loss, IoU, steps a second


def train(
    slabs: Sequence[Slab],
    validation: Slab,
    intensity: tuple[float, float],
    settings: TrainSettings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    start: Path | str | None = None,
    on_progress: Progress = lambda done, figures: None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train a network on slabs of a volume, and keep the weights that do best on another.

    Parameters
    ----------
    slabs : sequence of Slab
        What to train on.
    validation : Slab
        What to choose on: weights, threshold and the time to stop. Apart from the others in space.
    intensity : tuple of float
        Grey values that become -1 and 1.
    settings : TrainSettings
    checkpoint : Path, optional
        Where the state is kept, at each validation and at the end.
    resume : bool
        Go on from ``checkpoint``.
    start : Path or str, optional
        A checkpoint, a model file, or the name of a shipped model whose weights to begin with.
    on_progress : callable
        Called after each step.
    clock : callable
        Monotonic time in s.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        The slabs are too small, have nothing marked, or the checkpoint is one of other settings.

    Notes
    -----
    The loss is binary cross-entropy plus soft Dice over the batch (Milletari, Navab & Ahmadi 2016,
    doi:10.1109/3DV.2016.79), minimised by AdamW (Loshchilov & Hutter 2019, ICLR) on a cosine schedule (Loshchilov &
    Hutter 2017, ICLR). The batch of step k is a function of the seed and k, so that a resumed run sees what the whole
    one would have seen. Everything runs on whichever backend Keras is set to.
    """
    keras = load_keras()
    for label, marked in (("training", [slab.labels for slab in slabs]), ("validation", [validation.labels])):
        if not any(labels.any() for labels in marked):
            raise InputError(f"labels: nothing is marked in the {label} slices; choose other slices")
    network = settings.network
    planes = list_planes(slabs, settings.patch, network.stride, settings.axes)
    keras.utils.set_random_seed(settings.seed)
    model = _build(settings)
    served = _build(settings)  # holds the moving average
    history = History()
    best: Arrays = []
    if resume:
        if checkpoint is None:
            raise InputError("resume: needs a checkpoint to go on from")
        loaded = load_checkpoint(checkpoint)
        if loaded.state["settings"] != _describe(settings):
            raise InputError(f"{checkpoint}: was begun with other settings: give the same ones, or begin anew")
        fit_weights(loaded.weights, model, str(checkpoint))
        fit_weights(loaded.average, served, str(checkpoint))
        best, history = loaded.best, _load_history(loaded.state["history"])
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, loaded.optimizer, strict=True):
            variable.assign(value)
    elif start is not None:
        load_weights(start, model)
    average = served.get_weights() if resume else model.get_weights()
    trained_voxels = sum(slab.image.size for slab in slabs)
    last_step = None
    if settings.epochs is not None:
        last_step = math.ceil(settings.epochs * trained_voxels / (settings.batch * settings.patch**2))
    began = clock() - history.seconds
    look = _Look(validation, intensity, network)
    losses: list[float] = []
    validated_at = history.validations[-1][1] if history.validations else history.seconds

    def done() -> float:
        if last_step is not None:
            return history.step / max(last_step, 1)
        return history.seconds / (60 * (settings.minutes or 0)) if settings.minutes else 1.0

    def keep() -> None:
        if checkpoint is None:
            return
        state = {"settings": _describe(settings), "history": asdict(history)}
        optimizer = [np.asarray(each.numpy()) for each in model.optimizer.variables]
        save_checkpoint(Checkpoint(state, model.get_weights(), average, best, optimizer), checkpoint)

    def validate() -> None:
        nonlocal best, validated_at
        served.set_weights(average)
        iou = look.best_iou(served)[1]
        if not best or iou > max((earlier[2] for earlier in history.validations), default=-1.0):
            best = [each.copy() for each in average]
        history.seconds = validated_at = clock() - began
        history.validations.append((history.step, history.seconds, iou))
        keep()

    def draw(step: int) -> Batch:
        rng = np.random.default_rng((settings.seed, step))
        return draw_batch(slabs, planes, settings.batch, network.slice_offsets, intensity, rng)

    with closing(_prefetch(draw, history.step)) as batches:
        for x, y in batches:
            if done() >= 1 or _stalled(history, settings.patience):
                break
            model.optimizer.learning_rate.assign(settings.learning_rate * schedule(done()))
            losses.append(float(model.train_on_batch(x, y)))
            history.step += 1
            history.seconds = clock() - began
            if history.step % AVERAGE_EVERY == 0:
                share = min(settings.average**AVERAGE_EVERY, history.step / (history.step + 10 * AVERAGE_EVERY))
                for mean, weight in zip(average, model.get_weights(), strict=True):
                    mean += (1 - share) * (weight - mean)
                if not math.isfinite(losses[-1]):
                    raise InputError("learning_rate: the loss is no number any more; try a tenth of it")
                history.losses.append((history.step, history.seconds, float(np.mean(losses))))
                losses.clear()
            if history.seconds - validated_at >= settings.validate_every_s:
                validate()
            iou = history.validations[-1][2] if history.validations else math.nan
            rate = history.step / max(history.seconds, 1e-9)
            loss = history.losses[-1][2] if history.losses else math.nan
            on_progress(min(done(), 1.0), {"loss": loss, "iou": iou, "steps_per_s": rate})
    if not history.validations or history.validations[-1][0] != history.step:
        validate()
    served.set_weights(best)
    threshold, iou = _Look(validation, intensity, network, n_slices=None).best_iou(served)
    return Trained(best, threshold, iou, history)


def schedule(done: float) -> float:
    """Return the share of the peak learning rate when a part of the run is done.

    Examples
    --------
    >>> [round(schedule(done), 2) for done in (0.0, 0.01, 0.02, 0.51, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.01]
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


def _build(settings: TrainSettings) -> Any:
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(choose_precision(settings.precision))
    try:
        model = build_unet(settings.network)
    finally:
        keras.config.set_dtype_policy(before)
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    # XLA's convolutions take twice as long as oneDNN's on a CPU (measured: 1.8 and 3.9 steps a second)
    model.compile(optimizer, loss=combined_loss, jit_compile=False)
    return model


class _Look:
    """The validation slab, laid out for the network."""

    def __init__(
        self, slab: Slab, intensity: tuple[float, float], network: NetworkSettings, n_slices: int | None = N_VALIDATED
    ) -> None:
        n = len(slab.image)
        self._indices = np.unique(np.linspace(0, n - 1, min(n_slices or n, n)).round().astype(int))
        self._slab, self._intensity, self._network = slab, intensity, network

    def best_iou(self, model: Any) -> tuple[float, float]:
        """Return the threshold with the best IoU, and that IoU."""
        counts = np.zeros((2, N_BINS), np.int64)  # pixels of the background and the foreground, by probability
        for index in self._indices:
            probability = self._predict(model, int(index))
            labels = self._slab.labels[index]
            bins = np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)
            for foreground in (0, 1):
                counts[foreground] += np.bincount(bins[labels == foreground], minlength=N_BINS)
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # at or above the lower edge of each bin
        iou = above[1] / np.maximum(above[0] + counts[1].sum(), 1)
        best = 1 + int(iou[1:].argmax())
        return best / N_BINS, float(iou[best])

    def _predict(self, model: Any, index: int) -> NDArray[np.float64]:
        n, rows, columns = self._slab.image.shape
        around = np.clip(index + np.array(self._network.slice_offsets), 0, n - 1)
        image = normalise(np.moveaxis(self._slab.image[around], 0, -1), self._intensity)
        stride = self._network.stride
        pad = ((0, -rows % stride), (0, -columns % stride), (0, 0))
        logits = model.predict_on_batch(np.pad(image, pad, mode="edge")[None])
        return 1 / (1 + np.exp(-logits[0, :rows, :columns, 0].astype(np.float64)))


def _prefetch(draw: Callable[[int], Batch], first: int) -> Generator[Batch, None, None]:
    """Draw the next batch in another thread while the network works on this one."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw, first)
        for step in count(first + 1):
            batch, following = following.result(), pool.submit(draw, step)
            yield batch


def _stalled(history: History, patience: int) -> bool:
    ious = [iou for _, _, iou in history.validations]
    return len(ious) > patience and int(np.argmax(ious)) < len(ious) - patience


def _describe(settings: TrainSettings) -> dict[str, Any]:
    described = asdict(settings)
    described["network"]["slice_offsets"] = list(settings.network.slice_offsets)
    return described


def _load_history(document: dict[str, Any]) -> History:
    return History(
        [tuple(entry) for entry in document["losses"]],
        [tuple(entry) for entry in document["validations"]],
        document["step"],
        document["seconds"],
    )
