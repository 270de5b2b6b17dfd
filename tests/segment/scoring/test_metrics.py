from __future__ import annotations

import numpy as np
import pytest
from naive_objects import object_f1, voxel_scores

from segment.errors import InputError
from segment.scoring.metrics import VoxelCounts, count_slabs, count_voxels, find_overlaps, score_objects


def random_masks(seed, shape=(6, 7, 8)):
    rng = np.random.default_rng(seed)
    true = rng.random(shape) < rng.uniform(0.1, 0.9)
    return true ^ (rng.random(shape) < rng.uniform(0.0, 0.6)), true


@pytest.mark.parametrize("seed", range(5))
def test_voxel_scores_are_those_of_sets(seed):
    predicted, true = random_masks(seed)
    assert count_voxels(predicted, true).as_dict() == pytest.approx(voxel_scores(predicted, true))


@pytest.mark.parametrize("cuts", [(), (1,), (2, 2, 5), (0, 6)])
def test_slabs_add_up_to_the_whole(cuts):
    predicted, true = random_masks(7)
    slabs = zip(np.split(predicted, cuts), np.split(true, cuts), strict=True)
    assert count_slabs(slabs) == count_voxels(predicted, true)


def test_what_is_undefined_is_none():
    nothing, something = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    both_empty = count_voxels(nothing, nothing)
    assert (both_empty.iou, both_empty.dice, both_empty.precision, both_empty.recall) == (None, None, None, None)
    missed = count_voxels(nothing, something)
    assert (missed.iou, missed.dice, missed.precision, missed.recall) == (0.0, 0.0, None, 0.0)
    false = count_voxels(something, nothing)
    assert (false.iou, false.dice, false.precision, false.recall) == (0.0, 0.0, 0.0, None)


def test_counts_larger_than_32_bits():
    counts = VoxelCounts(tp=2**40, fp=2**40) + VoxelCounts(tp=2**40, fn=2**41)
    assert (counts.n_voxels, counts.iou) == (5 * 2**40, 2 / 5)


def random_objects(seed, shape=(5, 12, 12), n=6):
    """Boxes that overlap here and there, and the same moved by a voxel or left out, under other numbers."""
    rng = np.random.default_rng(seed)
    true, predicted = np.zeros(shape, np.uint32), np.zeros(shape, np.uint16)
    for number in range(1, n + 1):
        start = [int(rng.integers(0, size - 3)) for size in shape]
        sides = [int(rng.integers(1, 5)) for _ in shape]
        true[tuple(slice(a, a + b) for a, b in zip(start, sides, strict=True))] = number
        moved = [max(0, a + int(rng.integers(-1, 2))) if rng.random() < 0.5 else a for a in start]
        if rng.random() < 0.8:
            predicted[tuple(slice(a, a + b) for a, b in zip(moved, sides, strict=True))] = 1000 - number
    return predicted, true


@pytest.mark.parametrize("seed", range(8))
def test_object_scores_are_those_of_every_pair(seed):
    predicted, true = random_objects(seed)
    scores = score_objects(predicted, true, thresholds=(0.5, 0.6, 0.75, 0.9))
    for threshold in (0.5, 0.6, 0.75, 0.9):
        assert scores[f"f1_{100 * threshold:g}"] == pytest.approx(object_f1(predicted, true, threshold))
    assert (scores["n_predicted"], scores["n_true"]) == (len(np.unique(predicted)) - 1, len(np.unique(true)) - 1)


def test_some_of_the_random_objects_match_and_some_do_not():
    shares = [score_objects(*random_objects(seed))["f1_50"] for seed in range(8)]
    assert 0.2 < np.mean(shares) < 0.9


@pytest.mark.parametrize("seed", range(8))
def test_matches_above_one_half_are_one_to_one(seed):
    overlaps = find_overlaps(*random_objects(seed))
    above = overlaps.iou > 0.5
    assert len(set(overlaps.true[above])) == len(set(overlaps.predicted[above])) == above.sum()


def test_the_same_objects_under_other_numbers_score_one():
    _, true = random_objects(3)
    numbers = np.array([0, 9, 2**62, 4, 2**63 + 1, 1, 7], np.uint64)
    scores = score_objects(numbers[true], true)
    assert (scores["f1_50"], scores["f1_75"], scores["precision_75"], scores["recall_75"]) == (1, 1, 1, 1)


def test_a_merger_and_a_split_count_as_wrong():
    two = np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]], np.uint32)
    one = np.array([[[1, 1, 1, 1, 1, 1, 1, 1]]], np.uint32)
    assert score_objects(one, two)["n_matched_50"] == 0  # each half is exactly one half: not above it
    assert score_objects(two, one)["f1_50"] == 0


def test_no_objects():
    nothing, something = np.zeros((1, 2, 2), np.uint32), np.ones((1, 2, 2), np.uint32)
    assert score_objects(nothing, nothing)["f1_50"] is None
    missed = score_objects(nothing, something)
    assert (missed["f1_50"], missed["precision_50"], missed["recall_50"]) == (0.0, None, 0.0)
    assert find_overlaps(nothing, something).iou.shape == (0,)


def test_bad_input_is_refused():
    mask = np.zeros((2, 3, 4), bool)
    labels = mask.astype(np.uint32)
    with pytest.raises(InputError, match=r"same shape, found \(2, 3, 4\) and \(1, 3, 4\)"):
        count_voxels(mask, mask[:1])
    with pytest.raises(InputError, match="boolean, found uint32"):
        count_voxels(labels, mask)
    with pytest.raises(InputError, match="same shape"):
        score_objects(labels, labels[:1])
    for threshold in (0.3, 1.0):
        with pytest.raises(InputError, match=r"0\.5 or more"):
            score_objects(labels, labels, thresholds=(threshold,))
