from __future__ import annotations

import numpy as np
import pytest

from segment.errors import InputError
from segment.training.unet import NetworkSettings, build_unet


@pytest.mark.parametrize(("depth", "stem", "n_slices"), [(1, 1, 1), (2, 2, 3), (3, 1, 1), (2, 4, 1)])
def test_output_has_the_size_of_the_input(depth, stem, n_slices):
    offsets = tuple(range(-(n_slices // 2), n_slices // 2 + 1))
    settings = NetworkSettings(4, depth, stem, offsets)
    model = build_unet(settings)
    for rows, columns in ((settings.stride, 3 * settings.stride), (2 * settings.stride, settings.stride)):
        assert model(np.zeros((2, rows, columns, n_slices), np.float32)).shape == (2, rows, columns, 1)


def reach(settings: NetworkSettings) -> int:
    """How far from a block of `stride` pixels a change of the image changes it: tried out, pixel by pixel."""
    import keras

    keras.utils.set_random_seed(1)
    model = build_unet(settings)
    rng = np.random.default_rng(0)
    n = 2 * settings.halo + settings.stride
    image = rng.standard_normal((1, settings.stride, n, 1)).astype(np.float32)
    distances = np.arange(1, settings.halo + 1)
    columns = np.concatenate([settings.halo - distances, settings.halo + settings.stride - 1 + distances])
    changed = np.repeat(image, len(columns) + 1, axis=0)  # the last one is left as it is
    changed[np.arange(len(columns)), :, columns] += 1e3
    block = np.asarray(model(changed))[:, :, settings.halo : settings.halo + settings.stride]
    differs = (block[:-1] != block[-1]).any(axis=(1, 2, 3))
    return int(np.tile(distances, 2)[differs].max())


@pytest.mark.parametrize(("depth", "stem"), [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4)])
def test_the_radius_is_what_the_network_sees(depth, stem):
    settings = NetworkSettings(8, depth, stem, (0,))
    assert (
        settings.radius - 1 <= reach(settings) <= settings.radius <= settings.halo < settings.radius + settings.stride
    )


def test_the_stem_is_most_of_the_saving():
    def operations(stem, depth):  # convolutions weigh by the positions that they run at
        settings = NetworkSettings(16, depth, stem, (0,))
        model = build_unet(settings)
        return model.count_params() / 4 ** (stem == 2)

    assert operations(2, 3) < operations(1, 3) / 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": 0}, "width"),
        ({"depth": 7}, "depth"),
        ({"stem": 3}, "stem"),
        ({"slice_offsets": (0, 1)}, "slice_offsets"),
        ({"slice_offsets": (-1, 1)}, "slice_offsets"),
        ({"slice_offsets": (1, 0, -1)}, "slice_offsets"),
    ],
)
def test_settings_out_of_range_are_named(arguments, named):
    with pytest.raises(InputError, match=f"^{named}: "):
        NetworkSettings(**arguments)
