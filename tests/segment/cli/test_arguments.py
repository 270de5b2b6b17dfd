"""Names of files to write, as every command checks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment.cli.arguments import check_files
from streamdetect.errors import InputError


@pytest.fixture
def slices(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / f"s{index}.png")
    return folder


@pytest.mark.parametrize("name", ["s1.png", "mask.tif", "MASK.TIFF"])
def test_nothing_is_written_among_slices_that_are_read(slices, name):
    with pytest.raises(InputError, match=f"OUT .*{name}: would lie among the slices of .*slices, which is read"):
        check_files([slices], {"OUT": slices / name})


def test_what_is_no_slice_may_lie_in_their_folder(slices):
    check_files([slices], {"OUT": slices / "mask.ome.zarr"}, json=slices / "figures.json")


@pytest.mark.parametrize("dataset", [":/raw", "::raw"])
def test_a_file_is_not_replaced_while_a_dataset_of_it_is_read(tmp_path, dataset):
    (tmp_path / "a.h5").write_text("")
    with pytest.raises(InputError, match=r"--json .*a\.h5: would overwrite .*a\.h5, which is read"):
        check_files([f"{tmp_path / 'a.h5'}{dataset}"], json=tmp_path / "a.h5")


def test_messages_call_arguments_and_options_what_help_calls_them(tmp_path):
    nowhere = tmp_path / "nowhere" / "m.tif"
    with pytest.raises(InputError, match=r"^OUT .*m\.tif: the folder .* does not exist"):
        check_files([], {"OUT": nowhere})
    with pytest.raises(InputError, match=r"^--probabilities .*m\.tif: the folder .* does not exist"):
        check_files([], {"OUT": tmp_path / "m.tif"}, probabilities=nowhere)


def test_stdout_and_nothing_are_fine(tmp_path):
    check_files([None, "shipped-name"], {"OUT": tmp_path / "m.tif"}, probabilities=None, json=Path("-"))
