"""Numbered objects from file to file, block by block: what `label_objects` makes of the whole, bit by bit."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapes import two_balls

from segment.errors import InputError, VolumeError
from segment.objects import blockwise, splits
from segment.objects.blocks import Grid
from segment.objects.blockwise import label_volume
from segment.objects.instances import label_objects
from segment.objects.masks import open_numbers
from segment.objects.measure import measure_object, measure_objects
from segment.objects.sums import sum_volume
from segment.serving.blockwise import run_here
from segment.serving.distribute import run_on_dask
from segment.volumes import create_volume

VOXEL_NM = (5.0, 5.0, 5.0)
NOISE = np.random.default_rng(0).random((9, 14, 20)) < 0.2


def read(path):
    with open_numbers(path) as volume:
        return volume[:]


def label(mask, out, block, **options):
    options = {"engine": run_here, "voxel_nm": VOXEL_NM} | options
    return label_volume(mask * np.uint8(255), out, grid=Grid(mask.shape, block), **options)


def chain(n_balls=4):
    """Balls that touch, along a diagonal: a split cuts them apart, in the middle of blocks."""
    pair = two_balls(80.0, radius_nm=50.0)
    mask = np.zeros((30, 30, 30 * n_balls), bool)
    for index in range(0, n_balls, 2):
        mask[: pair.shape[0], : pair.shape[1], 30 * index : 30 * index + pair.shape[2]] |= pair[:30, :30]
    return mask


sides = st.integers(1, 6)
shapes = st.tuples(sides, sides, sides)


@settings(max_examples=25, deadline=None)
@given(
    mask=shapes.flatmap(lambda shape: arrays(bool, shape)),
    block=shapes.map(lambda block: tuple(max(2, side) for side in block)),
    connectivity=st.sampled_from([6, 18, 26]),
    min_voxels=st.integers(0, 3),
    neck_nm=st.sampled_from([None, 2.0]),
    ending=st.sampled_from([".tif", ".ome.zarr"]),
)
def test_what_is_written_is_what_is_made_in_memory(mask, block, connectivity, min_voxels, neck_nm, ending):
    options = {"connectivity": connectivity, "min_voxels": min_voxels, "neck_nm": neck_nm}
    expected, n_objects = label_objects(mask, voxel_nm=VOXEL_NM, **options)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"labels{ending}"
        run = label(mask, out, block, **options)
        found = read(out)
        assert [path.name for path in Path(folder).iterdir()] == [out.name]
    np.testing.assert_array_equal(found, expected)
    assert (run.n_objects, run.dtype, found.dtype) == (n_objects, expected.dtype, expected.dtype)


@pytest.mark.parametrize("reach", [0, 32])  # objects read each by itself, and together
@pytest.mark.parametrize(("neck_nm", "min_voxels"), [(1.0, 0), (12.0, 0), (12.0, 300), (12.0, 2000), (40.0, 0)])
def test_objects_split_across_blocks_are_split_as_in_memory(tmp_path, monkeypatch, neck_nm, min_voxels, reach):
    monkeypatch.setattr(splits, "REACH", reach)
    mask = chain() | np.pad(NOISE[:, :, :10], ((0, 21), (16, 0), (0, 110)))
    expected, n_objects = label_objects(mask, neck_nm=neck_nm, voxel_nm=VOXEL_NM, min_voxels=min_voxels)
    run = label(mask, tmp_path / "labels.ome.zarr", (16, 16, 16), neck_nm=neck_nm, min_voxels=min_voxels)
    np.testing.assert_array_equal(read(tmp_path / "labels.ome.zarr"), expected)
    assert run.n_objects == n_objects


def test_objects_that_take_too_much_memory_stay_whole_and_are_counted(tmp_path):
    mask = chain()
    whole, n_whole = label_objects(mask)
    run = label(mask, tmp_path / "labels.tif", (16, 16, 16), neck_nm=12.0, max_split_bytes=1e5)
    assert (run.n_objects, run.n_too_large) == (n_whole, n_whole)
    np.testing.assert_array_equal(read(tmp_path / "labels.tif"), whole)
    assert label(mask, tmp_path / "labels.tif", (16, 16, 16), neck_nm=12.0).n_too_large == 0


def test_a_zarr_is_written_a_file_a_block_and_a_tiff_slice_by_slice(tmp_path, monkeypatch):
    label(NOISE, tmp_path / "labels.ome.zarr", (4, 8, 8))
    array = zarr.open_array(str(tmp_path / "labels.ome.zarr" / "0"), mode="r")
    assert array.shards == (4, 8, 8)
    monkeypatch.setattr(blockwise, "SLAB_VOXELS", 2 * 14 * 20)
    label(NOISE, tmp_path / "labels.tif", (4, 8, 8))
    np.testing.assert_array_equal(read(tmp_path / "labels.tif"), read(tmp_path / "labels.ome.zarr"))


def test_what_is_told(tmp_path):
    told = []
    run = label(
        NOISE, tmp_path / "labels.ome.zarr", (5, 7, 10), neck_nm=5.0, on_progress=lambda *step: told.append(step)
    )
    assert run.n_blocks == 8
    assert run.n_faces == 12
    assert set(run.seconds) == {"label", "merge", "split", "write"}
    assert [step for step in told if step[0] == "labelling"] == [("labelling", n, 8) for n in range(9)]
    assert ("writing", 8, 8) in told
    assert any(step == "splitting" for step, _, _ in told)


@pytest.fixture
def two_processes():
    """Give an engine whose processes are started once."""
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield partial(run_on_dask, scheduler=cluster.scheduler_address, threads=None)


def test_on_other_processes_it_is_the_same(tmp_path, two_processes):
    mask = chain()
    stored = tmp_path / "mask.ome.zarr"
    with create_volume(stored, mask.shape, np.uint8, VOXEL_NM) as writer:
        writer.append(mask * np.uint8(255))
    grid = Grid(mask.shape, (16, 16, 64))
    out = tmp_path / "labels.ome.zarr"
    with open_numbers(stored) as volume:
        run = label_volume(volume, out, VOXEL_NM, engine=two_processes, grid=grid, neck_nm=12.0)
    expected, n_objects = label_objects(mask, neck_nm=12.0, voxel_nm=VOXEL_NM)
    assert run.n_objects == n_objects > label_objects(mask)[1]
    np.testing.assert_array_equal(read(out), expected)
    with open_numbers(out) as labels:
        sums = sum_volume(labels, engine=two_processes, grid=grid)
    assert [measure_object(each, mask.shape, VOXEL_NM) for each in sums] == measure_objects(expected, VOXEL_NM)


class Broken:
    """A mask of which one block cannot be used."""

    def __init__(self, values, error=None):
        self.values, self.error = values, error
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key):
        if self.error is not None and key[0].start >= 4:
            raise self.error
        return self.values[key]


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (Broken(NOISE * np.uint8(255), VolumeError("mask.tif: cut short")), InputError, "failed in .*cut short"),
        (Broken(NOISE * np.uint8(255), KeyboardInterrupt()), KeyboardInterrupt, None),
        (np.where(NOISE, 255, 0) - NOISE * np.uint8(254) * (np.arange(20) < 10), VolumeError, "found 0, 1, 255"),
        (np.where(NOISE, 37, 0), VolumeError, "found 0, 37: do this"),
    ],
)
@pytest.mark.parametrize("ending", [".tif", ".ome.zarr"])
def test_where_it_fails_the_old_output_stays_and_nothing_else(tmp_path, mask, error, words, ending):
    out = tmp_path / f"labels{ending}"
    label(NOISE[:2], out, (2, 8, 8))
    before = read(out)
    with pytest.raises(error, match=words):
        label_volume(mask, out, VOXEL_NM, engine=run_here, grid=Grid(NOISE.shape, (4, 8, 8)), advice="do this")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    np.testing.assert_array_equal(read(out), before)


def test_what_a_killed_run_left_is_not_taken_for_its_own(tmp_path):
    out = tmp_path / "labels.tif"
    left = tmp_path / ".labels.tif.scratch"
    (left / "labels.zarr").mkdir(parents=True)
    (left / "split.npz").write_bytes(b"of another run")
    label(NOISE, out, (4, 8, 8))
    np.testing.assert_array_equal(read(out), label_objects(NOISE)[0])
    assert not left.exists()


def test_two_runs_on_one_output_do_not_meet(tmp_path):
    out = tmp_path / "labels.tif"
    refused = []

    def second(step, done, total):
        if step == "labelling" and done == 1 and not refused:
            with pytest.raises(InputError, match=r"labels.tif: another run is writing it; wait") as caught:
                label(NOISE, out, (4, 8, 8))
            refused.append(caught)

    label(NOISE, out, (4, 8, 8), on_progress=second)
    assert refused
    np.testing.assert_array_equal(read(out), label_objects(NOISE)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neck_nm": 5.0, "voxel_nm": None}, "voxel_nm"),
        ({"neck_nm": 0.0}, "above 0"),
        ({"connectivity": 8}, "6, 18 or 26"),
        ({"min_voxels": -1}, "min_voxels"),
    ],
)
def test_bad_input_is_refused_before_a_voxel_is_read(tmp_path, options, words):
    options = {"engine": run_here, "voxel_nm": VOXEL_NM} | options
    with pytest.raises(InputError, match=words):
        label_volume(Broken(NOISE, AssertionError()), tmp_path / "labels.tif", **options)
    assert list(tmp_path.iterdir()) == []


def test_more_objects_than_uint32_counts_are_numbered_in_uint64(tmp_path, monkeypatch):
    monkeypatch.setattr(blockwise, "UINT32_MAX", 3)
    run = label(NOISE, tmp_path / "labels.tif", (4, 8, 8))
    assert run.dtype == np.uint64
    np.testing.assert_array_equal(read(tmp_path / "labels.tif"), label_objects(NOISE)[0])
