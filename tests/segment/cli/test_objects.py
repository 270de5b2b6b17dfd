"""``segment instances`` and ``segment measure``, as a shell runs them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from naive_objects import components, objects
from shapes import two_balls

from segment.objects.masks import open_numbers
from segment.volumes import create_volume
from waiting import BOUND_S, wait_until

VOXEL_NM = (10.0, 5.0, 5.0)
MASK = np.random.default_rng(0).random((6, 9, 10)) < 0.1


def write(path, values, voxel_nm=VOXEL_NM):
    with create_volume(path, values.shape, values.dtype, voxel_nm) as writer:
        writer.append(values)
    return path


def read(path):
    with open_numbers(path) as volume:
        return volume[:], volume.voxel_nm


def rows(table):
    return list(csv.DictReader(table.read_text().splitlines()))


@pytest.fixture
def mask(tmp_path):
    return write(tmp_path / "mask.tif", MASK * np.uint8(255))


@pytest.mark.parametrize("ending", [".tif", ".ome.zarr"])
def test_objects_are_numbered_and_keep_their_voxel_size(command, mask, tmp_path, ending):
    out = tmp_path / f"labels{ending}"
    ended = command("instances", mask, out, "--json", "-")
    assert ended.code == 0
    labels, voxel_nm = read(out)
    assert (labels.dtype, voxel_nm) == (np.uint32, VOXEL_NM)
    assert objects(labels) == dict(enumerate(components(MASK, 3), start=1))
    figures = json.loads(ended.out)
    assert figures["n_objects"] == labels.max()
    assert f"objects: {labels.max()}" in ended.err


def test_the_count_goes_to_stdout(command, mask, tmp_path):
    ended = command("instances", mask, tmp_path / "labels.tif", "--connectivity", 6)
    assert ended.out == f"objects: {len(components(MASK, 1))}\n"
    assert ended.err.startswith("wrote ")


def test_specks_are_left_out_by_voxels_or_by_volume(command, mask, tmp_path):
    expected = sum(len(each) >= 3 for each in components(MASK, 3))
    for options in (["--min-voxels", 3], ["--min-nm3", 750], ["--min-nm3", 501]):  # a voxel has 250 nm³
        ended = command("instances", mask, tmp_path / "labels.tif", *options)
        assert ended.out == f"objects: {expected}\n"


def test_touching_objects_are_split(command, tmp_path):
    pair = write(tmp_path / "pair.tif", two_balls(100.0, voxel_nm=VOXEL_NM) * np.uint8(255))
    out = tmp_path / "labels.tif"
    assert command("instances", pair, out).out == "objects: 1\n"
    assert command("instances", pair, out, "--split", "--neck-nm", 15).out == "objects: 2\n"
    assert command("instances", pair, out, "--split", "--neck-nm", 40).out == "objects: 1\n"


def test_objects_that_are_too_large_to_split_are_told(command, tmp_path):
    pair = write(tmp_path / "pair.tif", two_balls(100.0, voxel_nm=VOXEL_NM) * np.uint8(255))
    ended = command("instances", pair, tmp_path / "labels.tif", "--split", "--neck-nm", 15, "--split-gb", 0.0001)
    assert ended.out == "objects: 1\n"
    assert "left whole, as to split them takes more than 0.0001 GB (--split-gb): 1 objects" in ended.err


def test_a_mask_of_nothing_has_no_objects(command, tmp_path):
    nothing = write(tmp_path / "nothing.tif", np.zeros((3, 4, 5), np.uint8))
    labels, table = tmp_path / "labels.tif", tmp_path / "objects.csv"
    assert command("instances", nothing, labels).out == "objects: 0\n"
    assert command("measure", labels, table, "--json", tmp_path / "figures.json").code == 0
    assert len(table.read_text().splitlines()) == 1
    assert json.loads((tmp_path / "figures.json").read_text())["median"]["volume_nm3"] is None


def test_instances_refuses_what_it_cannot_use(refused, mask, tmp_path):
    out = tmp_path / "labels.tif"
    grey = write(tmp_path / "grey.tif", np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    assert "grey.tif: expected a mask, 0 and 255 (or 0 and 1), found 0, 1, 2, 3, …" in refused("instances", grey, out)
    assert "--connectivity 8: expected 6, 18 or 26" in refused("instances", mask, out, "--connectivity", 8)
    both = refused("instances", mask, out, "--min-voxels", 3, "--min-nm3", 9)
    assert "--min-voxels and --min-nm3: give one" in both
    assert "--neck-nm 5: goes with --split" in refused("instances", mask, out, "--neck-nm", 5)
    assert "above 0 nm" in refused("instances", mask, out, "--split", "--neck-nm", 0)
    both = refused("instances", mask, out, "--workers", 2, "--scheduler", "tcp://127.0.0.1:1")
    assert "--workers and --scheduler: expected one of them" in both
    assert "expected a name that ends in .tif" in refused("instances", mask, tmp_path / "labels.png")
    assert "would" in refused("instances", mask, mask)
    assert not out.exists()


@pytest.mark.parametrize("options", [["--split"], ["--min-nm3", "500"]])
def test_nm_need_a_voxel_size(command, refused, tmp_path, options):
    unknown = write(tmp_path / "unknown.tif", MASK * np.uint8(1), voxel_nm=None)
    out = tmp_path / "labels.tif"
    assert "give --voxel-size Z,Y,X in nm" in refused("instances", unknown, out, *options)
    assert not out.exists()
    assert command("instances", unknown, out, *options, "--voxel-size", "10,5,5").code == 0
    assert read(out)[1] == VOXEL_NM


def test_a_zarr_mask_is_not_replaced_by_its_own_objects(refused, tmp_path):
    mask = write(tmp_path / "mask.ome.zarr", MASK * np.uint8(255))
    assert f"OUT {mask}: would overwrite {mask}, which is read" in refused("instances", mask, mask)
    np.testing.assert_array_equal(read(mask)[0] > 0, MASK)


def test_a_name_that_is_taken_is_refused_before_the_work(refused, mask, tmp_path, monkeypatch):
    monkeypatch.setattr("segment.objects.blockwise.label_block", lambda *_: pytest.fail("numbered"))
    for name, message in (("labels.ome.zarr", "is no OME-Zarr"), ("labels.tif", "is no regular file")):
        (tmp_path / name).mkdir()
        assert message in refused("instances", mask, tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="no process groups there")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("worked_s", [0.0, 0.5], ids=["they start", "they import"])
def test_ctrl_c_ends_the_workers_without_a_word_of_theirs(mask, tmp_path, worked_s):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    process = subprocess.Popen(
        [sys.executable, "-m", "segment.cli.main", "instances", mask, tmp_path / "labels.ome.zarr", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    command = psutil.Process(process.pid)
    try:
        wait_until(lambda: len(command.children()) == 3)  # two, and what cleans up after them
        workers = command.children()
        wait_until(lambda: sum(worker.cpu_times().user >= worked_s for worker in workers) >= 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, _ = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
    assert (process.returncode, out.splitlines()[-1:]) == (130, ["segment: interrupted"])
    assert "Traceback" not in out
    assert not psutil.wait_procs(workers, timeout=BOUND_S)[1]


def test_measures_of_known_boxes(command, tmp_path):
    values = np.zeros((8, 20, 30), np.uint32)
    values[1:5, 2:10, 3:19] = 7
    values[6:8, 2:4, 2:4] = 9
    labels = write(tmp_path / "labels.tif", values)
    ended = command("measure", labels, tmp_path / "objects.csv", "--json", tmp_path / "figures.json")
    assert ended.code == 0
    first, second = rows(tmp_path / "objects.csv")
    assert (first["label"], first["volume_voxels"], first["touches_border"]) == ("7", "512", "false")
    assert (second["label"], second["volume_voxels"], second["touches_border"]) == ("9", "8", "true")
    assert float(first["volume_nm3"]) == 512 * 250
    assert [float(first[f"centroid_{axis}_nm"]) for axis in "zyx"] == [25.0, 27.5, 52.5]
    assert float(first["elongation"]) == pytest.approx(2.0)  # 80 nm along x, 40 along y and z
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["n_objects"], figures["n_touching_border"]) == (2, 1)
    assert figures["volume_nm3"] == 520 * 250
    assert figures["volume_part"] == 520 / values.size
    assert "objects" in ended.out
    assert "median volume" in ended.out


def test_a_voxel_size_is_taken_from_the_command_line_or_asked_for(command, refused, tmp_path):
    labels = write(tmp_path / "labels.tif", np.pad(np.full((1, 1, 1), 5, np.uint32), 1), voxel_nm=None)
    table = tmp_path / "objects.csv"
    assert "labels.tif: does not say how large a voxel is: give --voxel-size Z,Y,X" in refused("measure", labels, table)
    assert not table.exists()
    assert command("measure", labels, table, "--voxel-size", "8,2,2").code == 0
    (row,) = rows(table)
    assert float(row["volume_nm3"]) == 32.0


def test_measure_refuses_what_is_not_numbered(refused, mask, tmp_path):
    table = tmp_path / "objects.csv"
    assert "a mask: run segment instances first" in refused("measure", mask, table)
    assert "CSV" in refused("measure", mask, mask)
    assert "must end in .csv" in refused("measure", mask, tmp_path / "objects.txt")
    assert "no such file" in refused("measure", tmp_path / "nowhere.tif", table)
    nowhere = tmp_path / "nowhere" / "objects.csv"
    assert f"segment: CSV {nowhere}: the folder" in refused("measure", mask, nowhere)
    assert not table.exists()
