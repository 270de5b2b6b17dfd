from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from blobs import INTENSITY, make_blobs, tiny_settings

from segment.errors import InputError
from segment.training.augment import Slab
from segment.training.checkpoint import load_checkpoint
from segment.training.optimise import choose_precision, combined_loss
from segment.training.train import train
from segment.training.validation import Validation


def test_it_learns_and_reports(tmp_path):
    seen = []
    trained = train(
        [make_blobs()],
        make_blobs(seed=1),
        INTENSITY,
        tiny_settings(),
        checkpoint=tmp_path / "run.npz",
        on_progress=lambda done, figures: seen.append((done, figures["loss"])),
    )
    assert trained.iou > 0.9
    assert 0 < trained.threshold < 1
    first, last = trained.history.losses[0][2], trained.history.losses[-1][2]
    assert last < first / 2
    assert trained.history.step == len(seen) == 120  # 10 epochs of 49,152 voxels, 4,096 a step
    assert seen[-1][0] == 1.0
    kept = load_checkpoint(tmp_path / "run.npz")
    assert kept.state["history"]["step"] == 120
    for one, other in zip(kept.best, trained.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_seed_trains_the_same():
    first, second = (train([make_blobs()], make_blobs(seed=1), INTENSITY, tiny_settings(epochs=1.0)) for _ in range(2))
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_resumed_run_ends_where_a_whole_one_does(tmp_path):
    class Crash(Exception):
        pass

    def crash(done, figures):
        if done > 0.5:
            raise Crash

    settings = tiny_settings(epochs=2.0, validate_every_s=0.0)  # a checkpoint after each step
    whole = train([make_blobs()], make_blobs(seed=1), INTENSITY, settings)
    path = tmp_path / "run.npz"
    with pytest.raises(Crash):
        train([make_blobs()], make_blobs(seed=1), INTENSITY, settings, checkpoint=path, on_progress=crash)
    assert 0 < load_checkpoint(path).state["history"]["step"] < 24
    resumed = train([make_blobs()], make_blobs(seed=1), INTENSITY, settings, checkpoint=path, resume=True)
    assert resumed.history.step == whole.history.step == 24
    for one, other in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    with pytest.raises(InputError, match="other settings"):
        train([make_blobs()], make_blobs(seed=1), INTENSITY, replace(settings, seed=1), checkpoint=path, resume=True)


def test_a_run_can_begin_with_the_weights_of_another(tmp_path):
    path = tmp_path / "run.npz"
    before = train([make_blobs()], make_blobs(seed=1), INTENSITY, tiny_settings(), checkpoint=path)
    after = train([make_blobs()], make_blobs(seed=1), INTENSITY, tiny_settings(epochs=0.01), start=path)
    assert after.iou > before.iou - 0.1
    other = tiny_settings(network=replace(tiny_settings().network, width=8))
    with pytest.raises(InputError, match=r"run\.npz: its network has another width"):
        train([make_blobs()], make_blobs(seed=1), INTENSITY, other, start=path)


def test_minutes_end_the_run_by_the_clock():
    ticks = itertools.count(0.0, 1.0)  # the clock moves a second each time it is asked
    settings = tiny_settings(minutes=0.5, epochs=None)
    trained = train([make_blobs()], make_blobs(seed=1), INTENSITY, settings, clock=lambda: next(ticks))
    assert 25 <= trained.history.step <= 31


def test_it_stops_early_when_nothing_gets_better():
    settings = tiny_settings(epochs=100.0, learning_rate=1e-12, validate_every_s=0.0, patience=3)
    trained = train([make_blobs()], make_blobs(seed=1), INTENSITY, settings)
    assert trained.history.step < 30


def test_unmarked_slices_are_refused():
    blobs = make_blobs()
    empty = Slab(blobs.image, np.zeros_like(blobs.labels))
    with pytest.raises(InputError, match="training slices"):
        train([empty], blobs, INTENSITY, tiny_settings())
    with pytest.raises(InputError, match="validation slices"):
        train([blobs], empty, INTENSITY, tiny_settings())


def test_a_loss_that_is_no_number_says_what_to_do():
    with pytest.raises(InputError, match="learning_rate"):
        train([make_blobs()], make_blobs(seed=1), INTENSITY, tiny_settings(learning_rate=1e30))


def test_the_loss_is_cross_entropy_plus_dice():
    rng = np.random.default_rng(0)
    labels = (rng.random((2, 8, 8, 1)) > 0.5).astype(np.float32)
    logits = rng.standard_normal((2, 8, 8, 1)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    entropy = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    dice = (2 * (p * labels).sum() + 1) / (p.sum() + labels.sum() + 1)
    assert float(combined_loss(labels, logits)) == pytest.approx(entropy + 1 - dice, rel=1e-5)


def test_precision():
    assert choose_precision("float32") == "float32"
    assert choose_precision("bfloat16") == "mixed_bfloat16"
    assert choose_precision("auto") in ("float32", "mixed_bfloat16")
    with pytest.raises(InputError, match="precision"):
        choose_precision("float64")


def test_the_threshold_is_the_best_of_all():
    slab = make_blobs()

    class Fake:
        def predict_on_batch(self, image):
            return image[..., 1:2] * 4  # the middle slice: brighter is likelier

    look = Validation(slab, INTENSITY, tiny_settings().network, n_slices=None)
    threshold, iou = look.best_iou(Fake())
    probability = 1 / (1 + np.exp(-4 * ((slab.image - 40.0) / 80 - 1).clip(-2, 2)))

    def naive(at):
        return (slab.labels & (probability >= at)).sum() / (slab.labels | (probability >= at)).sum()

    assert iou == pytest.approx(naive(threshold), abs=1e-6)
    assert iou == pytest.approx(max(naive(at) for at in np.arange(1, 256) / 256), abs=1e-6)
