from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from volume_files import make_values

from segment.errors import VolumeError
from segment.volumes import open_volume, read_labels


def _write(folder, names, shape=(6, 7), dtype=np.uint8):
    """Write slices that are filled with their place in the list."""
    for index, name in enumerate(names):
        plane = np.full(shape, index, dtype)
        if name.endswith(".png"):
            Image.fromarray(plane).save(folder / name)
        else:
            tifffile.imwrite(folder / name, plane, photometric="minisblack")


def _order(folder):
    with open_volume(folder) as volume:
        return volume[:][:, 0, 0].tolist()


@pytest.mark.parametrize(
    "names",
    [
        ["s8.png", "s9.png", "s10.png", "s11.png"],
        ["s008.tif", "s009.tif", "s010.tif"],
        ["s0.png", "s10.png", "s20.png", "s30.png"],  # every tenth was kept
        ["a1_z1.5um.png", "a2_z1.6um.png", "a3_z1.9um.png", "a4_z2.0um.png"],
        ["2024-05-30_1.png", "2024-05-31_2.png", "2024-06-02_3.png"],
        ["z7.png"],
        ["slice.png"],
        ["1.PNG", "2.png"],
    ],
)
def test_slices_come_in_the_order_of_their_numbers(names, tmp_path):
    if "1.PNG" in names:
        _write(tmp_path, ["1.png", "2.png"])
        (tmp_path / "1.png").rename(tmp_path / "1.PNG")
    else:
        _write(tmp_path, names)
    assert _order(tmp_path) == list(range(len(names)))


def test_what_are_no_slices_does_not_matter(tmp_path):
    _write(tmp_path, ["s1.png", "s2.png"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._s1.png").write_bytes(b"as macOS leaves it")
    (tmp_path / "aligned").mkdir()
    assert _order(tmp_path) == [0, 1]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["s1.png", "s3.png"], "found none numbered 2; add what is missing"),
        (["s001.tif", "s002.tif", "s006.tif", "s007.tif", "s009.tif"], "found none numbered 3 to 5, 8;"),
        (["s0.png", "s10.png", "s20.png", "s30.png", "s50.png"], "found none numbered 40;"),
        (["s1_a5.png", "s2_a6.png", "s4_a9.png"], "found none numbered 3;"),
    ],
)
def test_a_missing_slice_is_named(names, found, tmp_path):
    _write(tmp_path, names)
    with pytest.raises(VolumeError, match=f"expected slices {names[0]} to {names[-1]}, {found}"):
        open_volume(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["s1.png", "s01.png"], "one slice number in each name that no other has, found s01.png and s1.png"),
        (["x0_y0.png", "x0_y1.png", "x1_y0.png"], "one slice number in each name that no other has"),
        (["s1.png", "s2.png", "overview.png"], "differ in their number only, found overview.png and s1.png"),
        (["s1.png", "s2.tif"], r"slices of one kind, found .png and .tif"),
        ([], r"expected Zarr, or slices \(.png, .tif\), found neither"),
    ],
)
def test_a_folder_without_a_clear_order_is_refused(names, found, tmp_path):
    _write(tmp_path, names)
    with pytest.raises(VolumeError, match=found):
        open_volume(tmp_path)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(("shape", "dtype"), [((6, 8), np.uint8), ((6, 7), np.uint16)])
def test_a_slice_of_another_size_or_type_is_named(ending, shape, dtype, tmp_path):
    _write(tmp_path, [f"s{n}.{ending}" for n in (1, 2, 3)])
    plane = np.zeros(shape, dtype)
    Image.fromarray(plane).save(tmp_path / "s2.png") if ending == "png" else tifffile.imwrite(
        tmp_path / "s2.tif", plane
    )
    with pytest.raises(
        VolumeError, match=rf"s2\.{ending}: expected \(6, 7\) uint8, as the slice s1\.{ending} is, found"
    ):
        open_volume(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_a_slice_in_colour_is_refused(mode, tmp_path):
    _write(tmp_path, ["s1.png"])
    Image.new(mode, (7, 6)).save(tmp_path / "s2.png")
    with pytest.raises(VolumeError, match=rf"s2\.png: expected grey values, found colour or a palette \({mode}\)"):
        open_volume(tmp_path)
    with pytest.raises(VolumeError, match=r"s2\.png: expected grey values"):
        open_volume(tmp_path / "s2.png")


def test_a_tiff_slice_in_colour_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "s1.tif", np.zeros((6, 7, 3), np.uint8), photometric="rgb")
    with pytest.raises(VolumeError, match=r"s1\.tif: expected grey values, found colour \(3 values a pixel\)"):
        open_volume(tmp_path)


def test_a_stack_in_a_folder_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 6, 7), np.uint8), photometric="minisblack")
    with pytest.raises(VolumeError, match=r"stack\.tif: expected one slice a file, found 5; give the file itself"):
        open_volume(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_single_png_is_a_volume_of_one_slice(dtype, tmp_path):
    plane = make_values(dtype, (20, 30))
    Image.fromarray(plane).save(tmp_path / "a.png")
    with open_volume(tmp_path / "a.png") as volume:
        assert (volume.shape, volume.dtype, volume.voxel_nm) == ((1, 20, 30), dtype, None)
        np.testing.assert_array_equal(volume[:, 3:9, 4:5][0], plane[3:9, 4:5])


def test_a_slice_may_be_larger_than_pillow_likes(tmp_path, monkeypatch):
    _write(tmp_path, ["s1.png"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert _order(tmp_path) == [0]
    assert Image.MAX_IMAGE_PIXELS == 10


def test_black_and_white_slices_are_labels(tmp_path):
    mask = make_values(shape=(20, 30)) > 100
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png")[0], mask)


def test_the_voxel_size_of_imagej_slices_is_read(tmp_path):
    for n in (1, 2):
        tifffile.imwrite(
            tmp_path / f"s{n}.tif",
            np.zeros((6, 7), np.uint8),
            imagej=True,
            resolution=(0.2, 0.2),
            metadata={"unit": "nm", "spacing": 40.0},
        )
    with open_volume(tmp_path) as volume:
        assert volume.voxel_nm == (40, 5, 5)
