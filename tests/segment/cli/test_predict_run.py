"""Runs that are stopped, killed, split, damaged, and go on."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from volume_files import make_waves, read_volume, write_volume

from networks import make_pointwise, make_unet
from segment.cli import predict_run
from segment.errors import InputError
from segment.serving.run_folder import RunFolder

SHAPE = (24, 48, 60)
N_BLOCKS = 2 * 6 * 8
BOUND_S = 60.0  # for what another process should have done long before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    make_pointwise(folder / "dark.onnx")
    make_unet(folder / "unet.onnx")
    return folder


@pytest.fixture(scope="module")
def values():
    return make_waves(SHAPE)


@pytest.fixture(scope="module")
def image(folder, values):
    return write_volume(folder / "image.tif", values)


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _unet(folder, image, out, *more):
    """Return arguments for many small blocks."""
    return ["predict", image, out, "--model", folder / "unet.onnx", "--device", "cpu", "--tile", "32", *more]


@pytest.fixture(scope="module")
def whole(folder, image, tmp_path_factory):
    """The same run, undisturbed."""
    out = tmp_path_factory.mktemp("whole") / "m.ome.zarr"
    probabilities = out.with_name("p.ome.zarr")
    arguments = _unet(folder, image, out, "--probabilities", probabilities, "--pyramid")
    subprocess.run([sys.executable, "-m", "segment.cli.main", *map(str, arguments)], check=True, capture_output=True)
    return out.parent


# --- the record


def test_a_record_lies_beside_the_output(command, folder, image, tmp_path):
    out, figures = tmp_path / "m.ome.zarr", tmp_path / "f.json"
    ended = command(*_unet(folder, image, out, "--roi", ":,0:30,:", "--json", figures))
    assert ended.code == 0, ended.err
    record = json.loads((tmp_path / "m.ome.zarr.run.json").read_text())
    assert record == json.loads(figures.read_text())
    assert record["model"]["name"] == "tiny"
    assert len(record["model"]["sha256"]) == len(record["key"]) == 64
    assert record["provider"] == "CPUExecutionProvider"
    assert record["roi"] == [[0, 24], [0, 30], [0, 60]]
    assert set(record["versions"]) >= {"streamdetect", "onnxruntime", "numpy", "zarr"}
    assert record["host"] == socket.gethostname()
    assert record["blocks"] == {
        "total": N_BLOCKS,
        "done": 2 * 4 * 8,
        "background": 0,
        "outside_mask": 0,
        "retried": 0,
        "failed": {},
    }
    assert record["foreground"] == (read_volume(out)[:, :30] > 0).mean()
    assert record["megavoxels_per_s"] == pytest.approx(24 * 30 * 60 / 1e6 / record["seconds"], rel=0.1)


def test_only_where_the_mask_is_and_the_region_lies(command, folder, image, whole, tmp_path):
    marks = np.zeros((12, 24, 30), np.uint8)
    marks[:, 5:12, 3:20] = 9
    mask = write_volume(tmp_path / "marks.tif", marks)
    out = tmp_path / "m.tif"
    ended = command(*_unet(folder, image, out, "--mask", mask, "--roi", "3:20,:,10:60", "--skip-background"))
    assert ended.code == 0, ended.err
    expected = read_volume(whole / "m.ome.zarr") * np.repeat(np.repeat(np.repeat(marks > 0, 2, 0), 2, 1), 2, 2)
    expected[:3] = expected[20:] = 0
    expected[:, :, :10] = 0
    np.testing.assert_array_equal(read_volume(out), expected)
    record = json.loads((tmp_path / "m.tif.run.json").read_text())
    assert record["blocks"]["outside_mask"] > 0
    assert record["region_mask"] == str(mask)


def test_tiff_and_zarr_hold_the_same_and_a_pyramid_is_there_where_asked_for(command, folder, image, whole, tmp_path):
    assert command(*_unet(folder, image, tmp_path / "m.tif", "--probabilities", tmp_path / "p.tif")).code == 0
    for name in "mp":
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.tif"), read_volume(whole / f"{name}.ome.zarr"))
    assert command(*_unet(folder, image, tmp_path / "m.ome.zarr")).code == 0
    assert list(zarr.open_group(tmp_path / "m.ome.zarr", mode="r").array_keys()) == ["0"]


def test_a_pyramid_reaches_down_to_what_a_screen_shows(command, folder, tmp_path):
    flat = np.random.default_rng(0).integers(0, 255, (2, 40, 1100)).astype(np.uint8)
    out, probabilities = tmp_path / "m.ome.zarr", tmp_path / "p.ome.zarr"
    image = write_volume(tmp_path / "flat.tif", flat)
    ended = command(
        *("predict", image, out, "--model", folder / "dark.onnx", "--pyramid", "--probabilities", probabilities)
    )
    assert ended.code == 0, ended.err
    for path in (out, probabilities):
        (described,) = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"]
        shapes = [zarr.open_array(path / each["path"], mode="r").shape for each in described["datasets"]]
        assert shapes == [(2, 40, 1100), (1, 20, 550), (1, 10, 275), (1, 5, 138)]
    assert set(np.unique(zarr.open_array(out / "3", mode="r")[:])) <= {0, 255}


def test_a_dry_run_says_what_it_takes_and_writes_nothing(command, folder, image, tmp_path):
    ended = command(*_unet(folder, image, tmp_path / "m.tif", "--dry-run", "--json", tmp_path / "f.json"))
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"{N_BLOCKS} blocks of 16 × 8 × 8 voxels, 0.1 megavoxels in all\nreads ")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["blocks"] == N_BLOCKS
    assert figures["bytes_written"] == np.prod(SHAPE)
    assert figures["network_pixels"] == 24 * sum(_sizes(48)) * sum(_sizes(60))
    assert figures["bytes_read"] == (24 + 2) * sum(_sizes(48)) * sum(_sizes(60))  # a slice more, of the other block
    assert figures["seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def _sizes(n):
    """Return how many pixels the network sees for each block of 8, with a halo of 12."""
    return [min(start + 8 + 12, n) - max(start - 12, 0) for start in range(0, n, 8)]


# --- killed


def _start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "segment.cli.main", *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _wait_for_blocks(out, n_blocks, process):
    done = RunFolder.of(out).path / "done"
    bound = time.monotonic() + BOUND_S
    while not done.is_dir() or len(list(done.iterdir())) < n_blocks:
        assert time.monotonic() < bound
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def test_what_was_killed_three_times_is_bit_for_bit_what_was_not(folder, image, whole, tmp_path):
    out = tmp_path / "m.ome.zarr"
    arguments = _unet(folder, image, out, "--probabilities", tmp_path / "p.ome.zarr", "--pyramid", "--resume")
    seed = random.randrange(10**6)
    for n_blocks in sorted(random.Random(seed).sample(range(1, 80), 3)):
        process = _start(arguments)
        _wait_for_blocks(out, n_blocks, process)
        process.kill()
        process.communicate()
        assert process.returncode < 0, seed
        assert not out.exists(), seed
    process = _start(arguments)
    told = process.communicate()[1].decode()
    assert process.returncode == 0, (seed, told)
    assert "blocks are done already" in told
    for name in ("m.ome.zarr", "p.ome.zarr"):
        assert _files(tmp_path / name) == _files(whole / name), seed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.ome.zarr", "m.ome.zarr.run.json", "p.ome.zarr"]


def _begun(folder, image, out, *more):
    """Leave a run with some blocks done, as a crash would."""
    process = _start(_unet(folder, image, out, *more))
    _wait_for_blocks(out, 5, process)
    process.kill()
    process.communicate()
    return RunFolder.of(out)


def test_an_unfinished_run_is_only_gone_on_with_when_told_and_with_the_same(
    command, refused, folder, image, values, tmp_path
):
    out = tmp_path / "m.tif"
    run = _begun(folder, image, out)
    n_done = len(run.committed())
    line = refused(*_unet(folder, image, out))
    assert line == f"segment: {out}.run: an unfinished run is there; add --resume to go on with it, or remove it"
    other = values.copy()
    other[:, 20] += 1
    for given, message in (
        (_unet(folder, image, out, "--threshold", "0.4"), "threshold 0.5, now 0.4"),
        (_unet(folder, image, out, "--axes", "y"), "axes z, now y"),
        (_unet(folder, image, out, "--roi", "0:3,:,:"), "roi none, now [[0, 3], [0, 48], [0, 60]]"),
        (_unet(folder, image, out, "--tta"), "tta false, now true"),
        (_unet(folder, image, out, "--probabilities", tmp_path / "p.tif"), "probabilities false, now true"),
        (_unet(folder, image, out, "--model", folder / "dark.onnx"), "model tiny ("),
        (_unet(folder, write_volume(tmp_path / "other.tif", other), out), "other voxels in the input"),
        (_unet(folder, write_volume(tmp_path / "short.tif", other[:20]), out), "shape [24, 48, 60], now [20, 48, 60]"),
    ):
        line = refused(*given, "--resume")
        assert message in line
        assert line.startswith(f"segment: --resume: {out}.run was begun with ")
    assert len(run.committed()) == n_done
    copied = tmp_path / "copy.tif"  # where it lies does not matter, nor with how many threads
    shutil.copy(image, copied)
    assert command(*_unet(folder, copied, out, "--resume", "--threads", "2")).code == 0


def test_a_run_that_ended_is_not_done_again(command, folder, image, tmp_path):
    out = tmp_path / "m.tif"
    assert command(*_unet(folder, image, out, "--resume")).code == 0
    written = out.stat().st_mtime_ns
    ended = command(*_unet(folder, image, out, "--resume"))
    assert (ended.code, out.stat().st_mtime_ns) == (0, written)
    assert "nothing to do" in ended.err
    assert command(*_unet(folder, image, out, "--resume", "--threshold", "0.4")).code == 0
    assert out.stat().st_mtime_ns != written


def test_a_run_of_which_nothing_is_done_is_in_nobodys_way(command, refused, folder, image, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise InputError("no scheduler answers")

    out = tmp_path / "m.tif"
    with monkeypatch.context() as patched:
        patched.setattr(predict_run, "run_here", refuse)
        assert refused(*_unet(folder, image, out)) == "segment: no scheduler answers"
    assert RunFolder.of(out).exists
    with RunFolder.of(out).lock_shard(0, 1):
        assert "is at work on this run" in refused(*_unet(folder, image, out, "--threshold", "0.4"))
    assert command(*_unet(folder, image, out, "--threshold", "0.4")).code == 0


def test_two_runs_of_one_output_are_refused(refused, folder, image, tmp_path):
    out = tmp_path / "m.ome.zarr"
    run = _begun(folder, image, out)
    with run.lock_shard(0, 1):
        line = refused(*_unet(folder, image, out, "--resume"))
        assert f"process {os.getpid()} on {socket.gethostname()} is at work on this run" in line
        line = refused(*_unet(folder, image, out, "--shard-id", "1", "--num-shards", "2"))
        assert f"process {os.getpid()} on {socket.gethostname()} is at work on shard 0 of 1" in line
    with run.lock_shard(1, 2):
        assert "at work on shard 1 of 2" in refused(*_unet(folder, image, out, "--shard-id", "1", "--num-shards", "2"))


def test_a_run_folder_that_was_tampered_with_is_refused(command, folder, image, tmp_path):
    out = tmp_path / "m.ome.zarr"
    run = _begun(folder, image, out)
    path = run.image("mask") / "0" / "zarr.json"
    path.write_text(path.read_text().replace("60", "61"))
    ended = command(*_unet(folder, image, out, "--resume"))
    assert ended.code == 2
    line = ended.err.splitlines()[-1]
    assert "expected the shape (24, 48, 60) in shards of (16, 8, 8), as the manifest says, found (24, 48, 61)" in line


@pytest.mark.parametrize("name", ["m.tif", "m.ome.zarr"])
def test_a_crash_after_the_output_appeared_needs_no_more_than_to_tidy_up(
    command, folder, image, whole, tmp_path, monkeypatch, name
):
    def crash(_):
        raise KeyboardInterrupt

    out = tmp_path / name
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "remove", crash)
        assert command(*_unet(folder, image, out)).code == 130
    assert command(*_unet(folder, image, out, "--resume")).code == 0
    np.testing.assert_array_equal(read_volume(out), read_volume(whole / "m.ome.zarr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.run.json"]


# --- split


def test_shards_in_any_order_are_the_whole(command, folder, image, whole, tmp_path):
    out = tmp_path / "m.ome.zarr"
    more = ("--probabilities", tmp_path / "p.ome.zarr", "--pyramid", "--num-shards", "3", "--shard-id")
    for shard in (2, 0, 0):
        ended = command(*_unet(folder, image, out, *more, shard))
        assert ended.code == 0, ended.err
        assert f"shard {shard} of 3 is done" in ended.err
        assert not out.exists()
    ended = command(*_unet(folder, image, out, *more, 1))
    assert ended.code == 0, ended.err
    for name in ("m.ome.zarr", "p.ome.zarr"):
        assert _files(tmp_path / name) == _files(whole / name)
    assert "nothing to do" in command(*_unet(folder, image, out, *more, 2)).err


def test_shards_that_start_together_make_one_run(folder, image, whole, tmp_path):
    out = tmp_path / "m.ome.zarr"
    more = ("--probabilities", tmp_path / "p.ome.zarr", "--pyramid", "--num-shards", "2", "--shard-id")
    processes = [_start(_unet(folder, image, out, *more, shard)) for shard in range(2)]
    told = [process.communicate(timeout=BOUND_S)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert _files(out) == _files(whole / "m.ome.zarr")


def test_workers_give_the_same_bits(command, folder, image, whole, tmp_path):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    out = tmp_path / "m.ome.zarr"
    ended = command(
        *_unet(folder, image, out, "--probabilities", tmp_path / "p.ome.zarr", "--pyramid", "--workers", "2")
    )
    assert ended.code == 0, ended.err
    assert _files(out) == _files(whole / "m.ome.zarr")
    record = json.loads((tmp_path / "m.ome.zarr.run.json").read_text())
    assert (record["workers"], record["blocks"]["done"]) == (2, N_BLOCKS)


# --- damaged


def test_blocks_that_a_damaged_chunk_spoils_are_listed_and_done_once_it_is_repaired(command, folder, values, tmp_path):
    rolled = [np.roll(values[0].repeat(7, axis=1), 3 * z, axis=1) for z in range(40)]
    image = write_volume(
        tmp_path / "image.ome.zarr", np.stack(rolled)
    )  # its intensities are those of any of its slices
    chunk = next(path for path in sorted((image / "0" / "c").rglob("*")) if path.is_file())
    assert chunk.relative_to(image / "0" / "c").as_posix() == "0/0/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:40])
    out, figures = tmp_path / "m.ome.zarr", tmp_path / "f.json"
    arguments = ["predict", image, out, "--model", folder / "dark.onnx", "--device", "cpu", "--tile", "300"]
    ended = command(*arguments, "--json", figures)
    assert ended.code == 3, ended.err
    assert not out.exists()
    damaged, *listed, last = ended.err.splitlines()
    assert damaged.startswith("6 of 16 slices that were looked at cannot be read: the range of intensities")
    assert "block 0 (0:16,0:48,0:" in listed[0]
    assert "slices 0 to 16 cannot be read" in listed[0]
    assert "blocks failed" in last
    assert "--resume tries them again" in last
    document = json.loads(figures.read_text())
    n_failed = len(document["blocks"]["failed"])
    assert 0 < n_failed < document["blocks"]["total"]
    assert document["blocks"]["done"] == document["blocks"]["total"] - n_failed
    assert RunFolder.of(out).count_failures(0) == 3
    chunk.write_bytes(content)
    assert command(*arguments, "--resume").code == 0
    record = json.loads((tmp_path / "m.ome.zarr.run.json").read_text())
    assert (record["blocks"]["retried"], record["blocks"]["failed"]) == (n_failed, {})
    assert command(*[*arguments[:2], tmp_path / "again.ome.zarr", *arguments[3:]]).code == 0
    np.testing.assert_array_equal(read_volume(out), read_volume(tmp_path / "again.ome.zarr"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root, nor so on Windows")
def test_a_place_that_may_not_be_written_is_refused(refused, folder, image, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "is not writable" in refused(*_unet(folder, image, tmp_path / "locked" / "m.tif"))
