"""What the manifest promises is there, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import segment.napari

MANIFEST = Path(segment.napari.__file__).with_name("napari.yaml")


@pytest.fixture
def manifest(napari):
    from npe2 import PluginManifest

    return PluginManifest.from_file(MANIFEST)


def test_napari_finds_it(manifest):
    (entry,) = [entry for entry in entry_points(group="napari.manifest") if entry.name == "streamdetect"]
    assert entry.value == "segment.napari:napari.yaml"
    assert manifest.name == entry.dist.name


def test_every_command_is_there_and_used(manifest, screen):
    manifest.validate_imports()
    used = [*manifest.contributions.widgets, *manifest.contributions.readers, *manifest.contributions.writers]
    used += manifest.contributions.sample_data
    assert {one.command for one in used} == {command.id for command in manifest.contributions.commands}


def test_importing_the_package_imports_neither_napari_nor_qt():
    code = "import sys, segment.napari; print({'napari', 'qtpy', 'zarr', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
