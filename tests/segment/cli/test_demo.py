from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from segment.cli import demo
from segment.objects.masks import open_numbers
from segment.volumes import open_volume


@pytest.fixture
def small(monkeypatch):
    """The demo on a small stack with seconds of training: everything but good scores."""
    for name, value in {
        "SHAPE": (48, 96, 96),
        "TRAIN": (0, 28),
        "VALIDATE": (30, 34),
        "TEST": (36, 48),
        "MINUTES": 0.1,
    }.items():
        monkeypatch.setattr(demo, name, value)


def test_the_demo_goes_from_a_stack_to_measured_objects(command, small, tmp_path):
    out = tmp_path / "demo"
    ended = command("demo", "--out", out, "--json", tmp_path / "demo.json")
    assert ended.code == 0, ended.err
    assert "SIMULATED" in ended.out
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["simulated"]
    assert f"{figures['scores']['iou']:.3f}" in ended.out
    with open_volume(out / "mask.tif") as mask, open_numbers(out / "objects.tif") as objects:
        assert mask.shape == objects.shape == (48, 96, 96)
        assert mask.voxel_nm == objects.voxel_nm == (5.0, 5.0, 5.0)
        assert set(np.unique(mask[:])) <= {0, 255}
        assert int(objects[:].max()) == figures["n_objects"]
    with (out / "measurements.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == figures["n_objects"]
    assert (out / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_made_and_wrong_volumes_are_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be made a folder" in refused("demo", "--out", tmp_path / "file" / "demo")
    assert "there is a file of that name" in refused("demo", "--out", tmp_path / "file")
    assert "nowhere.tif" in refused("demo", "--out", tmp_path / "demo", "--volume", tmp_path / "nowhere.tif")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", ["mask.tif", "objects.tif"])
def test_a_stack_is_not_replaced_by_what_the_demo_makes_of_it(refused, tmp_path, name):
    (tmp_path / name).write_text("a stack")
    assert f"would overwrite {tmp_path / name}" in refused("demo", "--out", tmp_path, "--volume", tmp_path / name)
    assert (tmp_path / name).read_text() == "a stack"
