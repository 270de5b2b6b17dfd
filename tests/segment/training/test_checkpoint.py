from __future__ import annotations

import numpy as np
import pytest

from segment.errors import InputError
from segment.training.checkpoint import Checkpoint, fit_weights, load_checkpoint, save_checkpoint
from segment.training.unet import NetworkSettings, build_unet


def make_checkpoint():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)]
    return Checkpoint({"step": 7}, arrays, arrays[::-1], arrays, [np.zeros((), np.float32)] * 12)


def test_what_was_saved_is_loaded(tmp_path):
    saved = make_checkpoint()
    save_checkpoint(saved, tmp_path / "run.npz")
    loaded = load_checkpoint(tmp_path / "run.npz")
    assert loaded.state == saved.state
    for group in ("weights", "average", "best", "optimizer"):
        for one, other in zip(getattr(loaded, group), getattr(saved, group), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.npz"):
        load_checkpoint(path)


def test_another_npz_and_a_missing_file_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(tmp_path / "other.npz")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))  # one array, no archive
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(tmp_path / "array.npz")
    with pytest.raises(InputError, match="No such file"):
        load_checkpoint(tmp_path / "nowhere.npz")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", format=np.array("segment-checkpoint-1"), state=np.array([object()], dtype=object))
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(tmp_path / "evil.npz")


def test_weights_of_another_network_are_refused():
    narrow, wide = (build_unet(NetworkSettings(width, 1, 1, (0,))) for width in (4, 8))
    with pytest.raises(InputError, match="another width, depth, stem"):
        fit_weights(narrow.get_weights(), wide, "old.npz")
