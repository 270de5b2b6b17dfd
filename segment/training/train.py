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
from segment.training.augment import Slab, draw_batch, list_planes
from segment.training.backend import load_keras
from segment.training.checkpoint import Arrays, Checkpoint, fit_weights, load_checkpoint, save_checkpoint
from segment.training.optimise import compile_unet, schedule
from segment.training.unet import NetworkSettings
from segment.training.validation import Validation
from segment.training.weights import load_weights

AVERAGE_EVERY = 10  # steps between additions to the moving average
N_VALIDATED = 10  # slices of the validation slab that are looked at while training, evenly spread

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
    keras.utils.set_random_seed(settings.seed)
    run = _Run(slabs, validation, intensity, settings, checkpoint, clock)
    if resume:
        run.restore()
    elif start is not None:
        run.begin_with(start)
    with closing(_prefetch(run.draw, run.history.step)) as batches:
        for batch in batches:
            if run.done >= 1 or run.stalled:
                break
            run.step(*batch)
            on_progress(min(run.done, 1.0), run.figures)
    return run.finish()


class _Run:
    """The state of a run: the network, its moving average, the best of that, and the history."""

    def __init__(
        self,
        slabs: Sequence[Slab],
        validation: Slab,
        intensity: tuple[float, float],
        settings: TrainSettings,
        checkpoint: Path | None,
        clock: Callable[[], float],
    ) -> None:
        network = settings.network
        self._slabs, self._intensity, self._settings = slabs, intensity, settings
        self._checkpoint, self._clock = checkpoint, clock
        self._planes = list_planes(slabs, settings.patch, network.stride, settings.axes)
        self._validation = Validation(validation, intensity, network, N_VALIDATED)
        self._whole_validation = Validation(validation, intensity, network, None)
        self._last_step: int | None = None
        if settings.epochs is not None:
            n_voxels = sum(slab.image.size for slab in slabs)
            self._last_step = math.ceil(settings.epochs * n_voxels / (settings.batch * settings.patch**2))
        self._model, self._averaged = (
            compile_unet(network, settings.learning_rate, settings.weight_decay, settings.precision) for _ in range(2)
        )
        self._average: Arrays = self._model.get_weights()
        self._best: Arrays = []
        self._losses: list[float] = []
        self._began = clock()
        self._validated_at = 0.0
        self.history = History()

    def begin_with(self, start: Path | str) -> None:
        """Take the weights of another run or model."""
        load_weights(start, self._model)
        self._average = self._model.get_weights()

    def restore(self) -> None:
        """Go on from the checkpoint."""
        if self._checkpoint is None:
            raise InputError("resume: needs a checkpoint to go on from")
        loaded = load_checkpoint(self._checkpoint)
        if loaded.state["settings"] != _describe(self._settings):
            raise InputError(f"{self._checkpoint}: was begun with other settings: give the same ones, or begin anew")
        fit_weights(loaded.weights, self._model, str(self._checkpoint))
        self._average, self._best = loaded.average, loaded.best
        self.history = _load_history(loaded.state["history"])
        optimizer = self._model.optimizer
        optimizer.build(self._model.trainable_variables)
        for variable, value in zip(optimizer.variables, loaded.optimizer, strict=True):
            variable.assign(value)
        self._began -= self.history.seconds
        self._validated_at = self.history.seconds

    @property
    def done(self) -> float:
        """How much of the run is done; 1 or more at its end."""
        if self._last_step is not None:
            return self.history.step / self._last_step
        return self.history.seconds / (60 * self._settings.minutes) if self._settings.minutes else 1.0

    @property
    def stalled(self) -> bool:
        """Whether the last looks at the validation slab were all worse than an earlier one."""
        ious = [iou for _, _, iou in self.history.validations]
        return len(ious) > self._settings.patience and int(np.argmax(ious)) < len(ious) - self._settings.patience

    @property
    def figures(self) -> dict[str, float]:
        """What is shown on the way."""
        history = self.history
        return {
            "loss": history.losses[-1][2] if history.losses else math.nan,
            "iou": history.validations[-1][2] if history.validations else math.nan,
            "steps_per_s": history.step / max(history.seconds, 1e-9),
        }

    def draw(self, step: int) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng((self._settings.seed, step))
        offsets = self._settings.network.slice_offsets
        return draw_batch(self._slabs, self._planes, self._settings.batch, offsets, self._intensity, rng)

    def step(self, image: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Learn from a batch; every now and then average, validate and keep."""
        settings, history = self._settings, self.history
        self._model.optimizer.learning_rate.assign(settings.learning_rate * schedule(self.done))
        self._losses.append(float(self._model.train_on_batch(image, labels)))
        history.step += 1
        history.seconds = self._clock() - self._began
        if history.step % AVERAGE_EVERY == 0:
            if not math.isfinite(self._losses[-1]):
                raise InputError("learning_rate: the loss is no number any more; try a tenth of it")
            self._add_to_average()
            history.losses.append((history.step, history.seconds, float(np.mean(self._losses))))
            self._losses.clear()
        if history.seconds - self._validated_at >= settings.validate_every_s:
            self.validate()

    def validate(self) -> None:
        """Look at the validation slab with the moving average, and keep the state."""
        self._averaged.set_weights(self._average)
        _, iou = self._validation.best_iou(self._averaged)
        if not self._best or iou > max((earlier for _, _, earlier in self.history.validations), default=-1.0):
            self._best = [each.copy() for each in self._average]
        self.history.seconds = self._validated_at = self._clock() - self._began
        self.history.validations.append((self.history.step, self.history.seconds, iou))
        if self._checkpoint is not None:
            state = {"settings": _describe(self._settings), "history": asdict(self.history)}
            optimizer = [np.asarray(each.numpy()) for each in self._model.optimizer.variables]
            kept = Checkpoint(state, self._model.get_weights(), self._average, self._best, optimizer)
            save_checkpoint(kept, self._checkpoint)

    def finish(self) -> Trained:
        """Choose the threshold for the best weights, on the whole validation slab."""
        history = self.history
        if not history.validations or history.validations[-1][0] != history.step:
            self.validate()
        self._averaged.set_weights(self._best)
        threshold, iou = self._whole_validation.best_iou(self._averaged)
        return Trained(self._best, threshold, iou, history)

    def _add_to_average(self) -> None:
        step = self.history.step
        # at first the average is one over the steps so far, or it would hold on to the random weights of the start
        share = min(self._settings.average**AVERAGE_EVERY, step / (step + 10 * AVERAGE_EVERY))
        for mean, weight in zip(self._average, self._model.get_weights(), strict=True):
            mean += (1 - share) * (weight - mean)


def _prefetch(draw: Callable[[int], Batch], first: int) -> Generator[Batch, None, None]:
    """Draw the next batch in another thread while the network works on this one."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw, first)
        for step in count(first + 1):
            batch, following = following.result(), pool.submit(draw, step)
            yield batch


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
