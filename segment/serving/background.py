"""Which blocks show nothing that could be segmented."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

POOL = 8  # pixels along y and x whose mean is looked at: noise goes, membranes stay
RANGE = 0.2  # of the volume's intensity range: a block whose means differ by less shows nothing


def shows_nothing(image: NDArray[Any], intensity: tuple[float, float]) -> bool:
    """Tell whether a block is background: resin, or what a microscope pads with.

    Parameters
    ----------
    image : ndarray, shape (z, y, x)
        With what is around the block.
    intensity : (float, float)
        Low and high of the volume, in either order.

    Notes
    -----
    The rule: of the means over 8 by 8 pixels, the 1st and the 99th percentile differ by less than a fifth of the
    volume's intensity range.
    """
    n_z, n_y, n_x = image.shape
    rows, columns = (min(POOL, n) for n in (n_y, n_x))
    means = np.empty((n_z, n_y // rows, n_x // columns), np.float32)
    for plane, mean in zip(image, means, strict=True):
        whole = plane[: n_y // rows * rows, : n_x // columns * columns]
        mean[...] = whole.reshape(n_y // rows, rows, n_x // columns, columns).mean(axis=(1, 3), dtype=np.float32)
    low, high = np.percentile(means, (1, 99))
    return bool(high - low < RANGE * abs(intensity[1] - intensity[0]))
