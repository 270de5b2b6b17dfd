"""``segment evaluate`` and ``segment overlay``, as a shell runs them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.image import imread
from naive_objects import components, object_f1, voxel_scores
from volume_files import write_volume

from segment.objects.instances import label_objects

RNG = np.random.default_rng(0)
TRUE = RNG.random((8, 12, 10)) < 0.15
PREDICTED = TRUE ^ (RNG.random(TRUE.shape) < 0.03)


@pytest.fixture
def truth(tmp_path):
    return write_volume(tmp_path / "truth.tif", TRUE * np.uint8(1))


@pytest.fixture
def prediction(tmp_path):
    return write_volume(tmp_path / "prediction.tif", PREDICTED * np.uint8(255))


def test_scores_of_the_foreground(command, prediction, truth):
    ended = command("evaluate", prediction, truth, "--json", "-")
    assert ended.code == 0
    figures = json.loads(ended.out)
    expected = voxel_scores(PREDICTED, TRUE)
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert "instances" not in figures
    assert f"{expected['iou']:.4f}" in ended.err


def test_slices_are_scored_alone(command, prediction, truth):
    figures = json.loads(command("evaluate", prediction, truth, "--slices", "2:7", "--json", "-").out)
    expected = voxel_scores(PREDICTED[2:7], TRUE[2:7])
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures["slices"] == [2, 7]


def test_a_slab_at_a_time_gives_the_same(command, prediction, truth, monkeypatch):
    whole = command("evaluate", prediction, truth, "--json", "-").out
    monkeypatch.setattr("segment.objects.masks.SLAB_VOXELS", 1)
    assert command("evaluate", prediction, truth, "--json", "-").out == whole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_probabilities_are_scored_at_a_threshold(command, refused, truth, tmp_path, dtype):
    top = np.iinfo(dtype).max
    values = np.random.default_rng(1).integers(0, top, TRUE.shape, endpoint=True).astype(dtype)
    probabilities = write_volume(tmp_path / "probabilities.tif", values)
    line = refused("evaluate", probabilities, truth)
    assert "expected a mask, 0 and 255 (or 0 and 1), found" in line
    assert line.endswith("for probabilities give --threshold P, 0 to 1")
    figures = json.loads(command("evaluate", probabilities, truth, "--threshold", 0.3, "--json", "-").out)
    assert figures["iou"] == pytest.approx(voxel_scores(values / top >= 0.3, TRUE)["iou"])
    assert figures["threshold"] == 0.3


def test_objects_are_scored_too(command, prediction, truth):
    figures = json.loads(command("evaluate", prediction, truth, "--instances", "--json", "-").out)
    assert figures["iou"] == pytest.approx(voxel_scores(PREDICTED, TRUE)["iou"])
    scores = figures["instances"]
    assert (scores["n_predicted"], scores["n_true"]) == (len(components(PREDICTED, 3)), len(components(TRUE, 3)))
    numbered = label_objects(PREDICTED)[0], label_objects(TRUE)[0]
    assert scores["f1_50"] == pytest.approx(object_f1(*numbered, 0.5))
    assert scores["f1_75"] == pytest.approx(object_f1(*numbered, 0.75))
    assert 0 < scores["f1_75"] < scores["f1_50"] < 1


def test_specks_can_be_left_out_of_both(command, prediction, truth):
    ended = command("evaluate", prediction, truth, "--instances", "--min-voxels", 4, "--json", "-")
    scores = json.loads(ended.out)["instances"]
    assert scores["n_predicted"] == sum(len(each) >= 4 for each in components(PREDICTED, 3))
    assert scores["n_true"] == sum(len(each) >= 4 for each in components(TRUE, 3))
    assert scores["min_voxels"] == 4


def test_a_prediction_of_nothing_has_a_score(command, truth, tmp_path):
    nothing = write_volume(tmp_path / "nothing.tif", np.zeros(TRUE.shape, np.uint8))
    ended = command("evaluate", nothing, truth, "--instances", "--json", tmp_path / "scores.json")
    assert ended.code == 0
    figures = json.loads((tmp_path / "scores.json").read_text())
    assert (figures["iou"], figures["recall"], figures["precision"]) == (0.0, 0.0, None)
    assert "undefined" in ended.out


def test_evaluate_refuses_what_it_cannot_use(refused, prediction, truth, tmp_path):
    other = write_volume(tmp_path / "other.tif", np.ones((8, 12, 11), np.uint8))
    assert "(8, 12, 11)" in (line := refused("evaluate", other, truth))
    assert "(8, 12, 10)" in line
    for slices in ("3:3", "5:2", "0:9", "-1:4", "4", "a:b"):
        assert f"--slices {slices}: expected A:B" in refused("evaluate", prediction, truth, "--slices", slices)
    assert "--threshold 1.5: expected a probability" in refused("evaluate", prediction, truth, "--threshold", 1.5)
    assert "leave the threshold out" in refused("evaluate", truth, truth, "--threshold", 0.5)
    assert "--min-voxels: goes with --instances" in refused("evaluate", prediction, truth, "--min-voxels", 3)
    assert "would overwrite" in refused("evaluate", prediction, truth, "--json", truth)
    assert "no such file" in refused("evaluate", tmp_path / "nowhere.tif", truth)


@pytest.fixture
def image(tmp_path):
    return write_volume(tmp_path / "image.tif", RNG.integers(0, 255, TRUE.shape).astype(np.uint8))


def test_a_picture_with_and_without_the_truth(command, image, prediction, truth, tmp_path):
    two, four = tmp_path / "two.png", tmp_path / "four.png"
    ended = command("overlay", image, prediction, two, "--slices", "0,7", "--pixels", 100)
    assert (ended.code, ended.out) == (0, "")
    assert command("overlay", image, prediction, four, "--truth", truth, "--slices", "0,7", "--pixels", 100).code == 0
    small, large = imread(two).shape, imread(four).shape
    assert large[1] > 1.5 * small[1]
    assert large[0] == pytest.approx(small[0], rel=0.2)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_slices_are_those_that_were_asked_for(command, image, prediction, truth, tmp_path, monkeypatch, axis):
    from segment.scoring import overlay as module

    drawn = {}
    real = module.overlay_figure

    def spy(shown, found, true, **options):
        drawn.update(shown=shown, found=found, true=true, **options)
        return real(shown, found, true, **options)

    monkeypatch.setattr(module, "overlay_figure", spy)
    out = tmp_path / "out.png"
    ended = command(
        "overlay", image, prediction, out, "--truth", truth, "--axis", axis, "--slices", "5,2", "--pixels", 100
    )
    assert ended.code == 0, ended
    index = "zyx".index(axis)
    for name, whole in (("found", PREDICTED), ("true", TRUE)):
        np.testing.assert_array_equal(drawn[name], np.stack([np.take(whole, number, index) for number in (5, 2)]))
    assert (drawn["slices"], drawn["axis"], drawn["voxel_nm"]) == ([5, 2], axis, (5.0, 5.0, 5.0))


def test_numbered_objects_can_be_drawn(command, image, tmp_path):
    labels = write_volume(tmp_path / "labels.ome.zarr", label_objects(TRUE)[0])
    assert command("overlay", image, labels, tmp_path / "out.png", "--count", 1, "--pixels", 100).code == 0


def test_an_unknown_voxel_size_is_remarked_on(command, prediction, tmp_path):
    image = write_volume(tmp_path / "unknown.tif", TRUE.astype(np.uint8), voxel_nm=None)
    out = tmp_path / "out.png"
    ended = command("overlay", image, prediction, out, "--count", 1, "--pixels", 100)
    assert ended.code == 0
    assert "no scale bar; give --voxel-size" in ended.err
    ended = command("overlay", image, prediction, out, "--count", 1, "--pixels", 100, "--voxel-size", "5")
    assert "scale bar" not in ended.err


def test_overlay_refuses_what_it_cannot_use(refused, image, prediction, tmp_path):
    out = tmp_path / "out.png"
    assert "must end in .png" in refused("overlay", image, prediction, tmp_path / "out.jpg")
    assert "give one of the two" in refused("overlay", image, prediction, out, "--slices", "1", "--count", 2)
    assert "numbers from 0 to 7, the slices along z" in refused("overlay", image, prediction, out, "--slices", "8")
    assert "whole numbers" in refused("overlay", image, prediction, out, "--slices", "1;2")
    assert "image.tif: expected a mask, 0 and 255 (or 0 and 1), found" in refused("overlay", image, image, out)
    other = write_volume(tmp_path / "other.tif", np.ones((8, 12, 11), np.uint8))
    assert "other.tif: expected the shape of the image" in refused("overlay", image, other, out)
    assert not out.exists()
