"""``segment zoo``, as a shell runs it."""

from __future__ import annotations

import json
import zipfile

import pytest

from networks import make_unet

pytestmark = [pytest.mark.usefixtures("bioimageio"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_a_shipped_model_is_packed_and_its_checks_are_printed(command, tmp_path):
    out = tmp_path / "plus.zip"
    ended = command("zoo", "mitochondria-epfl-plus", out, "--json", tmp_path / "zoo.json")
    assert ended.code == 0, ended.err
    assert "passed: Reproduce test outputs from test inputs (onnx)" in ended.out
    assert f"wrote {out}" in ended.err
    figures = json.loads((tmp_path / "zoo.json").read_text())
    assert {check["status"] for check in figures["checks"]} == {"passed"}
    assert figures["max_difference"] < 1e-5
    assert {"weights.onnx", "README.md", "cover.png"} <= set(zipfile.ZipFile(out).namelist())


def test_a_model_of_one_s_own_needs_an_author_and_a_licence(command, refused, tmp_path):
    model = make_unet(tmp_path / "tiny.onnx")
    assert "--author NAME and --license SPDX" in refused("zoo", model, tmp_path / "tiny.zip", "--author", "A")
    ended = command("zoo", model, tmp_path / "tiny.zip", "--author", "A", "--license", "CC-BY-4.0")
    assert ended.code == 0, ended.err


def test_wrong_names_are_refused(refused, tmp_path):
    model = make_unet(tmp_path / "tiny.onnx")
    rest = ("--author", "A", "--license", "MIT")
    assert "must end in .zip" in refused("zoo", model, tmp_path / "tiny.tar", *rest)
    assert "does not exist" in refused("zoo", model, tmp_path / "no" / "tiny.zip", *rest)
    assert "would overwrite" in refused("zoo", model, model, *rest)
    assert "nothing.onnx" in refused("zoo", tmp_path / "nothing.onnx", tmp_path / "tiny.zip", *rest)
