from __future__ import annotations

import os

import pytest

from streamdetect.errors import InputError
from streamdetect.files import file_sha256, whole_file


def test_a_file_appears_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("older")
    with whole_file(path) as partial:
        partial.write_text("newer")
        assert path.read_text() == "older"
    assert path.read_text() == "newer"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("older")

    def fail():
        with whole_file(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_is_not_there_is_an_input_error(tmp_path):
    def write():
        with whole_file(tmp_path / "no" / "a.txt") as partial:
            partial.write_text("x")

    with pytest.raises(InputError, match=r"a\.txt: cannot be written: No such file or directory"):
        write()


@pytest.mark.parametrize(
    ("header", "data"), [("run.vhdr", "run.eeg"), ("run.set", "run.fdt"), ("run.fif", "run-1.fif")]
)
def test_recordings_of_more_files_than_one_are_told_apart_by_their_data(tmp_path, header, data):
    hashes = set()
    for name in ("one", "two", "two again"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / header).write_text("the same header")
        (folder / data).write_text(name.split()[0])
        hashes.add(file_sha256(folder / header))
    assert len(hashes) == 2
