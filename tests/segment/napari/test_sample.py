"""The sample in napari's menu."""

from __future__ import annotations

import numpy as np


def test_napari_opens_it(napari):
    image, labels = napari.components.ViewerModel().open_sample("streamdetect", "fib-sem")
    assert image.data.shape == labels.data.shape
    for layer in (image, labels):
        np.testing.assert_array_equal(layer.scale, (5, 5, 5))
        assert {str(unit) for unit in layer.units} == {"nanometer"}
    assert labels.data.max() > 3
    assert image.data[labels.data > 0].mean() < image.data[labels.data == 0].mean() - 20  # they are dark
