import numpy as np

from segment.serving.background import shows_nothing


def test_noise_alone_is_background_and_a_membrane_is_not():
    noise = np.random.default_rng(0).normal(128, 20, (3, 64, 64)).clip(0, 255).astype(np.uint8)
    assert shows_nothing(noise, (60.0, 200.0))
    assert shows_nothing(np.zeros((1, 1, 1), np.uint8), (200.0, 60.0))
    noise[:, :, 20:28] -= 60
    assert not shows_nothing(noise, (60.0, 200.0))
