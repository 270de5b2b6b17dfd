import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
from volume_files import make_waves, write_volume

from models import make_model
from networks import make_pointwise, make_unet
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.volumes import open_volume
from streamdetect import model_file

SHAPE = (12, 40, 50)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    make_pointwise(folder / "dark.onnx")
    make_unet(folder / "unet.onnx")
    make_model(folder / "hand.onnx")
    return folder


@pytest.fixture(scope="module")
def values():
    return make_waves((12, 40, 50))


@pytest.fixture(scope="module")
def image(folder, values):
    return write_volume(folder / "image.tif", values)


def _read(path):
    with open_volume(path) as volume:
        return volume[:], volume.voxel_nm


def test_a_mask_is_written_with_the_voxel_size_and_what_was_done_is_said(command, folder, image, values, tmp_path):
    ended = command("predict", image, tmp_path / "mask.tif", "--model", folder / "dark.onnx", "--device", "cpu")
    assert ended.code == 0, ended.err
    mask, voxel_nm = _read(tmp_path / "mask.tif")
    assert (mask.dtype, voxel_nm) == (np.uint8, (5.0, 5.0, 5.0))
    expected = predict_volume(values, SegmentationModel.load(folder / "dark.onnx"), voxel_nm=(5.0, 5.0, 5.0)) >= 0.5
    np.testing.assert_array_equal(mask, np.where(expected, 255, 0))
    assert 0.1 < expected.mean() < 0.9
    assert ended.out.startswith(f"foreground: {100 * expected.mean():.2f} % of 0.0 megavoxels, in ")
    assert "megavoxels a second, CPUExecutionProvider)" in ended.out
    assert ended.err == f"wrote {tmp_path / 'mask.tif'}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.tif", "mask.tif.run.json"]


def test_every_option_does_what_it_says(command, folder, image, values, tmp_path):
    out, probabilities, figures = tmp_path / "m.ome.zarr", tmp_path / "p.tif", tmp_path / "f.json"
    ended = command(
        *("predict", image, out, "--model", folder / "unet.onnx", "--probabilities", probabilities, "--axes", "zyx"),
        *("--tta", "--tile", "36", "--invert", "--voxel-size", "5,5,6", "--threshold", "0.45", "--threads", "1"),
        *("--json", figures),
    )
    assert ended.code == 0, ended.err
    model = SegmentationModel.load(folder / "unet.onnx", threads=1)
    expected = predict_volume(values, model, axes="zyx", tta=True, tile=36, invert=True, voxel_nm=(5.0, 5.0, 6.0))
    mask, voxel_nm = _read(out)
    np.testing.assert_array_equal(mask > 0, expected >= np.float32(0.45))
    assert voxel_nm == (5.0, 5.0, 6.0)
    np.testing.assert_array_equal(_read(probabilities)[0], np.rint(expected * np.float32(255)))
    document = json.loads(figures.read_text())
    assert document["foreground"] == (expected >= np.float32(0.45)).mean()
    assert document["resampled_shape"] == [12, 40, 60]
    assert document["model"] == {"name": "tiny", "sha256": model.sha256}
    assert (document["axes"], document["tta"], document["tile"], document["threads"]) == ("zyx", True, 36, 1)
    assert document["intensity"][0] > document["intensity"][1]
    assert document["provider"] == "CPUExecutionProvider"
    assert document["seconds"] > 0
    assert "resampled to the model's 5,5,5 nm" in ended.err
    assert "leave --invert out" in ended.err
    assert "--device auto took CPUExecutionProvider" in ended.err
    assert command("predict", image, out, "--model", folder / "dark.onnx").code == 0  # replaces its own kind


def test_json_alone_goes_to_stdout(command, folder, image, tmp_path):
    ended = command("predict", image, tmp_path / "m.tif", "--model", folder / "dark.onnx", "--json", "-")
    assert json.loads(ended.out)["shape"] == list(SHAPE)
    assert "foreground: " in ended.err


def test_a_shipped_model_is_taken_by_name_and_one_is_the_default(
    command, refused, folder, image, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_file, "SHIPPED", (folder,))
    assert command("predict", image, tmp_path / "m.tif", "--model", "dark").code == 0
    line = refused("predict", image, tmp_path / "m.tif")
    assert "mitochondria-epfl-plus: no such file, and no model shipped under that name (shipped: dark, unet)" in line


def test_an_unknown_voxel_size_is_warned_about_and_stays_unknown(command, folder, values, tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", values, photometric="minisblack")
    ended = command("predict", tmp_path / "plain.tif", tmp_path / "m.tif", "--model", folder / "dark.onnx")
    assert ended.code == 0
    assert ended.err.splitlines()[0].endswith("give --voxel-size Z,Y,X if it is another")
    assert _read(tmp_path / "m.tif")[1] is None


# --- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "hand.onnx"], "is a streamdetect detector: use streamdetect replay"),
        (["--model", "none.onnx"], "no such file"),
        (["--model", "image.tif"], "cannot load it"),
        (["--device", "tpu"], "--device tpu: expected auto, cpu, cuda"),
        (["--device", "cuda"], "onnxruntime-gpu"),
        (["--threshold", "1.5"], "--threshold 1.5: expected a probability"),
        (["--threshold", "nan"], "--threshold nan: expected a probability"),
        (["--tile", "24"], "the smallest that works is 28"),
        (["--tile", "0"], "--tile"),
        (["--axes", "zq"], "--axes zq: expected one or more of z, y and x"),
        (["--voxel-size", "5,5"], "--voxel-size 5,5: expected Z,Y,X"),
        (["--voxel-size", "500"], "8 times larger or smaller"),
        (["--probabilities", "mask.tif"], "--probabilities mask.tif: would overwrite"),
        (["--probabilities", "p.png"], "p.png: expected a name that ends in .tif, .tiff, .zarr or .ome.zarr"),
        (["--probabilities", "nowhere/p.tif"], "the folder nowhere does not exist"),
        (["--roi", "0:3,0:4"], "--roi 0:3,0:4: expected Z0:Z1,Y0:Y1,X0:X1 in voxels within 0:12,0:40,0:50"),
        (["--roi", "0:13,:,:"], "--roi 0:13,:,:: expected"),
        (["--roi", "3:3,:,:"], "--roi 3:3,:,:: expected"),
        (["--mask", "none.tif"], "none.tif: no such file"),
        (["--mask", "dark.onnx"], "dark.onnx: expected TIFF"),
        (["--shard-id", "0"], "--shard-id and --num-shards: expected both"),
        (["--shard-id", "2", "--num-shards", "2"], "--shard-id 2: expected 0 to 1"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "expected one of them"),
        (["--json", "image.tif"], "--json image.tif: would overwrite"),
    ],
)
def test_options_that_cannot_be_used_are_refused(refused, folder, image, options, message, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    before = sorted(folder.iterdir())
    options = options if "--model" in options else [*options, "--model", "unet.onnx"]
    assert message in refused("predict", "image.tif", "mask.tif", *options)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 20, 20), 7, np.uint8), "image.tif: next to nothing but the intensity 7"),
        (np.full((3, 20, 20), np.nan, np.float32), "image.tif: expected grey values of 8 or 16 bits, found float32"),
    ],
)
def test_volumes_that_cannot_be_segmented_are_refused(refused, folder, tmp_path, values, message):
    tifffile.imwrite(tmp_path / "image.tif", values, photometric="minisblack")
    out = tmp_path / "mask.tif"
    assert message in refused("predict", tmp_path / "image.tif", out, "--model", folder / "dark.onnx")
    assert not out.exists()


def test_files_that_cannot_be_used_are_refused(refused, folder, image, values, tmp_path):
    model = ("--model", folder / "dark.onnx")
    assert "no such file" in refused("predict", tmp_path / "none.tif", tmp_path / "m.tif", *model)
    assert "would overwrite" in refused("predict", image, image, *model)
    assert "ends in .tif" in refused("predict", image, tmp_path / "m.jpg", *model)
    zarr = write_volume(tmp_path / "v.ome.zarr", values)
    assert f"OUT {zarr}: would overwrite {zarr}, which is read" in refused("predict", zarr, zarr, *model)
    other = write_volume(tmp_path / "w.ome.zarr", values)
    both = refused("predict", image, other, *model, "--probabilities", other)
    assert f"--probabilities {other}: would overwrite {other}, which is written too" in both
    np.testing.assert_array_equal(_read(zarr)[0], values)


@pytest.mark.parametrize("where", ["tifffile.TiffWriter.write", "segment.volumes.sharded.os.fsync"])
def test_a_full_disk_leaves_nothing_half_written_and_the_run_can_go_on(
    command, refused, folder, image, tmp_path, monkeypatch, where
):
    def write(*_, **__):
        raise OSError(28, os.strerror(28))

    arguments = ("predict", image, tmp_path / "m.tif", "--model", folder / "dark.onnx", "--device", "cpu")
    with monkeypatch.context() as full:
        full.setattr(where, write)
        assert "No space left on device" in refused(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif.run"]
    ended = command(*arguments, "--resume")
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "m.tif.run.json"]


# --- as a process


def test_serving_loads_no_training_library(folder, image, tmp_path):
    script = """
import sys
from segment.cli.main import run
try:
    run()
except SystemExit as ending:
    assert ending.code == 0, ending.code
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "keras", "sklearn", "tf2onnx", "onnx", "mne", "torch", "jax"}))
"""
    arguments = ["predict", image, tmp_path / "m.tif", "--model", folder / "dark.onnx", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == f"wrote {tmp_path / 'm.tif'}\n"  # no progress bar in a pipe


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_130_and_what_is_done_is_kept(command, folder, image, tmp_path, monkeypatch):
    """A signal that comes in the middle of the work, in this process, at a known place."""
    honest, n_tiles = SegmentationModel.predict, []

    def predict(*arguments):
        n_tiles.append(None)
        if len(n_tiles) == 5:
            os.kill(os.getpid(), signal.SIGINT)
            bound = time.monotonic() + 30
            while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a second one ends it at once
                assert time.monotonic() < bound
        return honest(*arguments)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(SegmentationModel, "predict", predict)
    (tmp_path / "m.tif").write_text("older")
    out, probabilities = tmp_path / "m.tif", tmp_path / "p.ome.zarr"
    arguments = ("predict", image, out, "--model", folder / "dark.onnx", "--probabilities", probabilities)
    ended = command(*arguments, "--threads", "1")
    assert ended.code == 130
    assert ended.err.splitlines()[-2:] == [
        f"stopped; what is done is kept in {out}.run: the same command with --resume goes on from there",
        "segment: interrupted",
    ]
    assert 5 <= len(n_tiles) < SHAPE[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "m.tif.run"]
    assert out.read_text() == "older"
    assert command(*arguments, "--resume").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "m.tif.run.json", "p.ome.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_voxels_done_and_a_second(folder, image, tmp_path):
    main, side = os.openpty()
    os.set_inheritable(side, True)
    arguments = ["-m", "segment.cli.main", "predict", image, tmp_path / "m.tif", "--model", folder / "dark.onnx"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stderr=side, stdout=side, env=environment)
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait() == 0
    assert b"segmenting" in shown
    assert b"0.0/0.0 megavoxels" in shown
    assert b" a second" in shown
