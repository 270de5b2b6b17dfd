"""How well a network does on slices that it is not trained on, while it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segment.training.augment import Slab, normalise
from segment.training.unet import NetworkSettings

N_BINS = 256  # of the probabilities that the threshold is chosen from


class Validation:
    """The validation slab, laid out for the network.

    Parameters
    ----------
    slab : Slab
    intensity : tuple of float
        Grey values that become -1 and 1.
    network : NetworkSettings
    n_slices : int or None
        How many of its slices to look at, evenly spread; None for all.
    """

    def __init__(
        self, slab: Slab, intensity: tuple[float, float], network: NetworkSettings, n_slices: int | None
    ) -> None:
        n = len(slab.image)
        self._indices = np.unique(np.linspace(0, n - 1, min(n_slices or n, n)).round().astype(int))
        self._slab, self._intensity, self._network = slab, intensity, network

    def best_iou(self, model: Any) -> tuple[float, float]:
        """Return the threshold with the best IoU, and that IoU.

        Parameters
        ----------
        model : keras.Model
            As `build_unet` returns it.

        Returns
        -------
        threshold : float
            A multiple of 1/256.
        iou : float
            0 to 1.
        """
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
