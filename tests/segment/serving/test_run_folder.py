import json
import os
import socket
from dataclasses import replace

import pytest

from segment.errors import InputError
from segment.serving.run_folder import BlockRecord, Manifest, RunFolder, RunLocked, find_differences

MANIFEST = Manifest(
    model={"name": "tiny", "sha256": "a" * 64},
    settings={"axes": "z", "threshold": 0.5, "roi": None},
    input={"shape": [5, 6, 7], "samples": ["11", None, "33"]},
    blocks={"block_shape": [5, 6, 7], "n_blocks": 1},
    versions={"numpy": "2"},
)
RECORD = BlockRecord(index=12, n_foreground=3, n_voxels=10, seconds=0.5, provider="CPUExecutionProvider", attempts=1)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.of(tmp_path / "mask.ome.zarr")
    folder.create(MANIFEST)
    return folder


def test_a_folder_lies_beside_its_output_and_keeps_the_manifest(folder, tmp_path):
    assert folder.path == tmp_path / "mask.ome.zarr.run"
    assert folder.exists
    assert folder.read_manifest() == MANIFEST
    assert json.loads((folder.path / "manifest.json").read_text())["key"] == MANIFEST.key
    folder.remove()
    assert not folder.exists
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_over_what_decides_the_result():
    keys = {
        each.key
        for each in (
            MANIFEST,
            replace(MANIFEST, model={"name": "tiny", "sha256": "b" * 64}),
            replace(MANIFEST, settings={**MANIFEST.settings, "threshold": 0.6}),
            replace(MANIFEST, input={**MANIFEST.input, "shape": [5, 6, 8]}),
            replace(MANIFEST, blocks={"block_shape": [5, 6, 4], "n_blocks": 2}),
        )
    }
    assert len(keys) == 5
    assert (
        replace(MANIFEST, versions={}).key
        == replace(MANIFEST, model={"name": "x", "sha256": "a" * 64}).key
        == MANIFEST.key
    )


def test_what_differs_is_said_in_words():
    other = replace(
        MANIFEST,
        model={"name": "large", "sha256": "b" * 64},
        settings={"axes": "zyx", "threshold": 0.5, "roi": [[0, 1], [0, 2], [0, 3]]},
    )
    assert find_differences(MANIFEST, MANIFEST) == []
    assert find_differences(MANIFEST, other) == [
        "model tiny (aaaaaaaa), now large (bbbbbbbb)",
        "axes z, now zyx",
        "roi none, now [[0, 1], [0, 2], [0, 3]]",
    ]


@pytest.mark.parametrize(
    ("samples", "same"), [(["11", "22", "33"], True), ([None, None, "33"], True), (["11", None, "3"], False)]
)
def test_what_could_not_be_read_of_the_input_is_not_compared(samples, same):
    other = replace(MANIFEST, input={**MANIFEST.input, "samples": samples})
    assert find_differences(MANIFEST, other) == ([] if same else ["other voxels in the input"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"key": "x"}',
        '{"key": "x", "model": {"sha256": ""}, "settings": {}, "input": {}, "blocks": {}, "versions": {}}',
    ],
)
def test_a_manifest_that_was_changed_is_refused(folder, text):
    (folder.path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: cannot be used: .*; remove .* and start anew"):
        folder.read_manifest()


# --- blocks


def test_a_block_is_done_once_it_is_committed_and_its_failures_go(folder):
    assert (folder.committed(), folder.read_record(12), folder.count_failures(12)) == (set(), None, 0)
    folder.note_failure(12, "the slice is damaged")
    folder.note_failure(12, "still")
    folder.note_failure(7, "too")
    assert folder.failures() == {7: "too", 12: "still"}
    assert folder.count_failures(12) == 2
    folder.commit(RECORD)
    assert (folder.committed(), folder.read_record(12), list(folder.records())) == ({12}, RECORD, [RECORD])
    assert folder.failures() == {7: "too"}


def test_what_a_crash_left_half_written_does_not_count(folder):
    folder.commit(RECORD)
    (folder.path / "done" / "00000013.json.0123.partial").write_text('{"ind')
    assert folder.committed() == {12}


@pytest.mark.parametrize("text", ["", "[", "3", '{"index": 12}'])
def test_a_commit_that_was_damaged_is_named(folder, text):
    folder.commit(RECORD)
    (folder.path / "done" / "00000012.json").write_text(text)
    with pytest.raises(InputError, match=r"00000012\.json: was changed or damaged; remove this file, and --resume"):
        list(folder.records())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    folder = RunFolder.of(tmp_path / "m.tif")
    folder.check_free()
    folder.path.mkdir()
    (folder.path / "locks").mkdir()
    folder.check_free()
    (folder.path / "mine.txt").touch()
    with pytest.raises(InputError, match="something else is there"):
        folder.check_free()


def test_a_full_disk_is_one_line(folder, monkeypatch):
    def refuse(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("segment.volumes.sharded.os.fsync", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        folder.commit(RECORD)
    folder.note_failure(3, "its own reason is told, not this one")
    assert folder.committed() == set()


# --- locks


def test_a_lock_is_held_by_one_and_the_holder_is_named(folder):
    with folder.lock("finish", "writing the output"):
        with pytest.raises(RunLocked) as caught, folder.lock("finish", "writing the output"):
            pass
        assert f"process {os.getpid()} on {socket.gethostname()} is writing the output; wait for it" in str(
            caught.value
        )
        with folder.lock("other", ""):
            pass
    with folder.lock("finish", ""):
        pass


def test_shards_do_not_wait_for_each_other_but_another_split_is_refused(folder):
    with folder.lock_shard(0, 3), folder.lock_shard(2, 3):
        with pytest.raises(RunLocked, match="at work on shard 2 of 3"), folder.lock_shard(2, 3):
            pass
        with pytest.raises(RunLocked, match=r"is at work on shard [02] of 3 of this run"), folder.lock_shard(0, 1):
            pass
    with folder.lock_shard(0, 1), pytest.raises(RunLocked), folder.lock_shard(0, 1):
        pass
    with folder.lock_shard(0, 1):
        pass
