import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import zarr

from segment.errors import InputError
from segment.volumes import open_volume
from segment.volumes.sharded import create_sharded, open_sharded, shard_path, write_block, write_durably

SHAPE, BLOCK = (40, 70, 90), (16, 32, 48)
POSITIONS = list(product(range(3), range(3), range(2)))


@pytest.fixture
def folder(tmp_path):
    create_sharded(tmp_path / "m.zarr", "m", SHAPE, "uint8", BLOCK, (20.0, 5.0, 5.0))
    return tmp_path / "m.zarr"


def _values(seed=0):
    return np.random.default_rng(seed).integers(1, 255, SHAPE, np.uint8)


def _part(values, position):
    return values[tuple(slice(at * n, (at + 1) * n) for at, n in zip(position, BLOCK, strict=True))]


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_blocks_in_any_order_from_any_thread_are_the_image(folder):
    values = _values()
    array = open_sharded(folder, SHAPE, BLOCK)
    with ThreadPoolExecutor(4) as pool:
        order = np.random.default_rng(0).permutation(len(POSITIONS))
        list(pool.map(lambda at: write_block(array, POSITIONS[at], _part(values, POSITIONS[at])), order))
    with open_volume(folder) as volume:
        np.testing.assert_array_equal(volume[:], values)
        assert volume.voxel_nm == (20.0, 5.0, 5.0)
    shards = sorted(
        path.relative_to(folder / "0" / "c").as_posix() for path in (folder / "0" / "c").rglob("*") if path.is_file()
    )
    assert shards == sorted("/".join(map(str, position)) for position in POSITIONS)


def test_the_same_block_gives_the_same_file_whatever_was_there(folder, tmp_path):
    values = _values()
    array = open_sharded(folder, SHAPE, BLOCK)
    for position in POSITIONS:
        write_block(array, position, _part(values, position))
    before = _files(folder)
    shard_path(array, (1, 1, 1)).write_bytes(b"damaged")
    for position in ((1, 1, 1), (2, 2, 1)):
        write_block(array, position, _part(_values(1), position))
        write_block(array, position, _part(values, position))
    assert _files(folder) == before
    create_sharded(tmp_path / "other.zarr", "m", SHAPE, "uint8", BLOCK, (20.0, 5.0, 5.0))
    zarr.open_array(tmp_path / "other.zarr" / "0", mode="r+")[:] = values  # as Zarr itself writes it
    assert _files(tmp_path / "other.zarr") == before


def test_a_block_of_nothing_has_no_file(folder):
    array = open_sharded(folder, SHAPE, BLOCK)
    write_block(array, (0, 0, 0), np.ones(BLOCK, np.uint8))
    assert shard_path(array, (0, 0, 0)).exists()
    write_block(array, (0, 0, 0), np.zeros(BLOCK, np.uint8))
    assert not shard_path(array, (0, 0, 0)).exists()
    assert not array[:16].any()


def test_a_part_of_a_block_is_no_block(folder):
    with pytest.raises(RuntimeError, match="expected a whole block"):
        write_block(open_sharded(folder, SHAPE, BLOCK), (0, 0, 0), np.ones((16, 32, 47), np.uint8))


def test_large_labels_keep_all_their_bits(tmp_path):
    create_sharded(tmp_path / "l.zarr", "l", (4, 5, 6), np.uint64, (2, 5, 6), None)
    array = open_sharded(tmp_path / "l.zarr", (4, 5, 6), (2, 5, 6))
    write_block(array, (1, 0, 0), np.full((2, 5, 6), 2**63 + 1, np.uint64))
    assert array[3, 0, 0] == 2**63 + 1


def test_chunks_within_a_block_are_small(tmp_path):
    create_sharded(tmp_path / "m.zarr", "m", (100, 900, 1000), "uint8", (32, 832, 1008), None)
    array = open_sharded(tmp_path / "m.zarr", (100, 900, 1000), (32, 832, 1008))
    assert array.chunks == (16, 208, 252)


# --- what goes wrong


def test_another_shape_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"expected the shape \(40, 70, 91\) in shards of .* found \(40, 70, 90\)"):
        open_sharded(folder, (40, 70, 91), BLOCK)
    with pytest.raises(InputError, match=r"found \(40, 70, 90\) in shards of \(16, 32, 48\)"):
        open_sharded(folder, SHAPE, (16, 32, 32))
    with pytest.raises(InputError, match=r"none\.zarr: cannot be opened"):
        open_sharded(tmp_path / "none.zarr", SHAPE, BLOCK)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root, nor so on Windows")
def test_what_may_not_be_written_is_refused(folder):
    (folder / "0").chmod(0o500)
    try:
        with pytest.raises(InputError, match="not writable"):
            open_sharded(folder, SHAPE, BLOCK)
    finally:
        (folder / "0").chmod(0o700)


def test_a_full_disk_leaves_the_older_block(folder, monkeypatch):
    array = open_sharded(folder, SHAPE, BLOCK)
    write_block(array, (0, 0, 0), np.ones(BLOCK, np.uint8))

    def refuse(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("segment.volumes.sharded.os.fsync", refuse)
    with pytest.raises(InputError, match=r"c/0/0/0: cannot be written: No space left on device"):
        write_block(array, (0, 0, 0), np.full(BLOCK, 2, np.uint8))
    assert (array[:16, :32, :48] == 1).all()
    assert not list(folder.rglob("*.partial"))


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    write_durably(tmp_path / "a" / "b", b"one")
    assert (tmp_path / "a" / "b").read_bytes() == b"one"

    def crash(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("segment.volumes.sharded.os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_durably(tmp_path / "a" / "b", b"two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a" / "b").read_bytes() == b"one"
