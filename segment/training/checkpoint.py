"""The state of a training run in one file, so that it can go on after a crash and be tuned further later."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.errors import InputError
from streamdetect.files import whole_file

_FORMAT = "segment-checkpoint-1"
Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run needs to go on.

    Parameters
    ----------
    state : dict
        Step, seconds, history, settings: whatever is JSON.
    weights, average, best, optimizer : list of ndarray
        The network's weights, their moving average, the average that scored best, and the optimizer's variables.
    """

    state: dict[str, Any]
    weights: Arrays
    average: Arrays
    best: Arrays
    optimizer: Arrays


_GROUPS = ("weights", "average", "best", "optimizer")


def save_checkpoint(checkpoint: Checkpoint, path: str | PathLike[str]) -> None:
    """Write a checkpoint; the earlier one stays until the new one is complete.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    arrays: dict[str, Any] = {"format": np.array(_FORMAT), "state": np.array(json.dumps(checkpoint.state))}
    for group in _GROUPS:
        arrays |= {f"{group}.{index:04d}": values for index, values in enumerate(getattr(checkpoint, group))}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def load_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read a checkpoint. Nothing is unpickled.

    Raises
    ------
    InputError
        There is no such file, or it is no checkpoint.
    """
    try:
        # numpy leaves a file that it opened itself open where it cannot read it
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            if "format" not in file or str(file["format"]) != _FORMAT:
                raise InputError(f"{path}: is no checkpoint of segment train; give one that it wrote (.npz)")
            groups = {
                group: [file[name] for name in sorted(file.files) if name.startswith(f"{group}.")] for group in _GROUPS
            }
            return Checkpoint(json.loads(str(file["state"])), **groups)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a checkpoint: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: is no checkpoint of segment train, or is damaged; give one that it wrote (.npz)"
        ) from error


def fit_weights(weights: Sequence[NDArray[np.float32]], model: Any, label: str) -> None:
    """Put weights into a network.

    Raises
    ------
    InputError
        They are those of a network of another shape.
    """
    expected, found = [tuple(each.shape) for each in model.weights], [each.shape for each in weights]
    if expected != found:
        raise InputError(f"{label}: its network has another width, depth, stem or number of slices than is asked for")
    model.set_weights(list(weights))
