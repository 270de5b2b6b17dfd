from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from volume_files import make_values, write_as

from segment.errors import VolumeError
from segment.volumes import open_volume
from segment.volumes.tiff_pages import read_page

IMAGEJ = {"imagej": True, "photometric": "minisblack"}


def _voxel_nm(path):
    with open_volume(path) as volume:
        return volume.voxel_nm


@pytest.mark.parametrize(
    ("unit", "side", "spacing"),
    [
        ("nm", 4.6, 40.0),
        ("micron", 0.0046, 0.04),
        ("µm", 0.0046, 0.04),
        ("\\u00B5m", 0.0046, 0.04),
        ("um", 0.0046, 0.04),
        ("mm", 4.6e-6, 4e-5),
        ("Å", 46.0, 400.0),
    ],
)
def test_imagejs_voxel_size_is_read_in_its_unit(unit, side, spacing, tmp_path):
    path = tmp_path / "stack.tif"
    description = f"ImageJ=1.54f\nimages=5\nslices=5\nunit={unit}\nspacing={spacing}\n"
    with tifffile.TiffWriter(path) as tiff:
        for index, plane in enumerate(make_values(shape=(5, 8, 9))):
            tiff.write(
                plane,
                description=description.encode("latin-1") if index == 0 else None,
                metadata=None,
                resolution=(1 / side, 1 / (2 * side)),
                resolutionunit="NONE",
            )
    assert _voxel_nm(path) == pytest.approx((40, 9.2, 4.6), rel=1e-4)  # tifffile rounds the fraction


@pytest.mark.parametrize(
    "metadata",
    [
        {"axes": "ZYX"},
        {"axes": "ZYX", "unit": "nm"},
        {"axes": "ZYX", "spacing": 5.0},
        {"axes": "ZYX", "spacing": 5.0, "unit": "pixel"},
        {"axes": "ZYX", "spacing": 0.0, "unit": "nm"},
    ],
)
def test_imagejs_voxel_size_is_unknown_unless_all_of_it_is_said(metadata, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_values(), resolution=(0.2, 0.2), metadata=metadata, **IMAGEJ)
    assert _voxel_nm(tmp_path / "a.tif") is None


def test_omes_voxel_size_is_read_in_its_units(tmp_path):
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeZ": 40.0,
        "PhysicalSizeZUnit": "nm",
        "PhysicalSizeY": 0.0046,
        "PhysicalSizeX": 50.0,
        "PhysicalSizeXUnit": "Å",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", make_values(), ome=True, metadata=metadata)
    assert _voxel_nm(tmp_path / "a.ome.tif") == (40.0, 4.6, 5.0)  # micrometres where no unit is said
    del metadata["PhysicalSizeZ"]
    tifffile.imwrite(tmp_path / "b.ome.tif", make_values(), ome=True, metadata=metadata)
    assert _voxel_nm(tmp_path / "b.ome.tif") is None


def test_a_plain_tiffs_dots_per_inch_are_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_values(), resolution=(72, 72), resolutionunit="INCH")
    assert _voxel_nm(tmp_path / "a.tif") is None


def test_a_single_slice_is_a_volume_of_one(tmp_path):
    plane = make_values(shape=(20, 30))
    tifffile.imwrite(tmp_path / "a.tif", plane)
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.shape == (1, 20, 30)
        np.testing.assert_array_equal(volume[:], plane[None])


@pytest.mark.parametrize(
    ("shape", "tile"), [((33, 70), (16, 32)), ((33, 70), None), ((16, 16), (16, 16)), ((5, 4), (16, 16))]
)
def test_each_part_of_a_page_is_the_same_as_of_the_whole(shape, tile, tmp_path):
    plane = make_values(np.uint16, shape)
    rows = {} if tile else {"rowsperstrip": 10}
    tifffile.imwrite(tmp_path / "a.tif", plane, tile=tile, compression="zlib", predictor=2, **rows)
    rng = np.random.default_rng(0)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        for _ in range(50):
            (top, bottom), (left, right) = (sorted(rng.choice(n + 1, 2, replace=False)) for n in shape)
            part = read_page(tiff.pages.first, slice(top, bottom), slice(left, right))
            np.testing.assert_array_equal(part, plane[top:bottom, left:right])


def test_of_a_large_slice_the_tiles_in_question_are_decoded_and_no_others(tmp_path, monkeypatch):
    plane = make_values(shape=(160, 320))
    tifffile.imwrite(tmp_path / "a.tif", plane, tile=(32, 32), compression="zlib")
    decoded = []
    decompress = tifffile.TIFF.DECOMPRESSORS[8]
    monkeypatch.setitem(
        tifffile.TIFF.DECOMPRESSORS._codecs, 8, lambda data, **options: decoded.append(1) or decompress(data, **options)
    )
    with open_volume(tmp_path / "a.tif") as volume:
        np.testing.assert_array_equal(volume[:, 31:65, 64:96][0], plane[31:65, 64:96])
    assert len(decoded) == 3


def test_slices_that_lie_apart_in_the_file_are_found(tmp_path):
    """Strips of an uncompressed page need not follow one another."""
    plane = make_values(shape=(20, 30))
    tifffile.imwrite(tmp_path / "a.tif", plane, rowsperstrip=10, metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tag = tiff.pages.first.tags["StripOffsets"]
        first, second = tag.value
        width = tag.valuebytecount // 2
    content[first : first + 300], content[second : second + 300] = plane[10:].tobytes(), plane[:10].tobytes()
    for place, offset in ((tag.valueoffset, second), (tag.valueoffset + width, first)):
        content[place : place + width] = offset.to_bytes(width, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with open_volume(tmp_path / "a.tif") as volume:
        np.testing.assert_array_equal(volume[0:1][0], plane)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.zeros((4, 20, 30, 3), np.uint8), {"photometric": "rgb"}),
        (np.zeros((20, 30, 4), np.uint8), {"photometric": "rgb"}),
        (np.zeros((3, 20, 30), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}),
    ],
    ids=["stack", "with transparency", "planes"],
)
def test_colour_is_refused(values, options, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(VolumeError, match=r"a\.tif: expected grey values, found colour \([34] values a pixel\)"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("shape", "axes", "found"),
    [((3, 5, 8, 9), "TZYX", "T 3, Z 5, Y 8, X 9"), ((5, 2, 8, 9), "ZCYX", "Z 5, C 2"), ((3, 8, 9), "CYX", "C 3, Y 8")],
)
def test_channels_and_time_points_are_refused(shape, axes, found, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), metadata={"axes": axes}, **IMAGEJ)
    with pytest.raises(VolumeError, match=f"expected one axis beside Y and X, found {found}"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(("shape", "dtype"), [((21, 30), np.uint8), ((20, 30), np.uint16)])
def test_a_slice_of_another_size_or_type_is_named(shape, dtype, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for z in range(4):
            tiff.write(np.zeros(shape if z == 2 else (20, 30), dtype if z == 2 else np.uint8), metadata=None)
    with pytest.raises(VolumeError, match=rf"of \(20, 30\) uint8, as slice 0 is, found slice 2 of \({shape[0]}, 30\)"):
        open_volume(tmp_path / "a.tif")


def test_several_ome_images_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for _ in range(2):
            tiff.write(make_values(), metadata={"axes": "ZYX"})
    with pytest.raises(VolumeError, match="expected one image, found 2: ZYX"):
        open_volume(tmp_path / "a.ome.tif")


def test_ome_metadata_that_point_to_other_files_are_refused(tmp_path):
    path = write_as("tiff, OME", tmp_path, make_values())
    with tifffile.TiffFile(path) as tiff:
        text = tiff.ome_metadata
    here = '<TiffData FirstZ="0" IFD="0" PlaneCount="1"/>'
    there = '<TiffData FirstZ="1" IFD="0" PlaneCount="11"><UUID FileName="other.ome.tif">urn:uuid:1</UUID></TiffData>'
    text = f"{text[: text.index('<TiffData')]}{here}{there}</Pixels></Image></OME>"
    tifffile.imwrite(path, make_values()[0], description=text, metadata=None)
    with pytest.raises(VolumeError, match="look for slices in other files"):
        open_volume(path)


@pytest.fixture
def without_imagecodecs(monkeypatch):
    """Let tifffile have no decoders but zlib's."""
    codecs = {code: decode for code, decode in tifffile.TIFF.DECOMPRESSORS._codecs.items() if code in (None, 1, 8)}
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", codecs)
    monkeypatch.setattr(type(tifffile.TIFF.DECOMPRESSORS), "__contains__", lambda self, code: code in codecs)


@pytest.mark.usefixtures("without_imagecodecs")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lzw_needs_no_other_package(dtype, tmp_path):
    values = make_values(dtype)
    first, *others = [Image.fromarray(plane) for plane in values]
    path = tmp_path / "a.tif"
    first.save(path, save_all=True, append_images=others, compression="tiff_lzw", tiffinfo={317: 2})
    with tifffile.TiffFile(path) as tiff:
        assert (tiff.pages.first.compression, tiff.pages.first.predictor) == (5, 2)
    with open_volume(path) as volume:
        np.testing.assert_array_equal(volume[:], values)
        np.testing.assert_array_equal(volume[7:9, 3:11, 5:], values[7:9, 3:11, 5:])
    (tmp_path / "slices").mkdir()
    for index, plane in enumerate(values):
        Image.fromarray(plane).save(tmp_path / "slices" / f"{index}.tif", compression="tiff_lzw")
    with open_volume(tmp_path / "slices") as volume:
        np.testing.assert_array_equal(volume[:], values)


@pytest.mark.usefixtures("without_imagecodecs")
@pytest.mark.parametrize(("mode", "compression", "name"), [("L", "jpeg", "JPEG"), ("1", "group4", "CCITTFAX4")])
def test_a_compression_that_needs_a_package_names_it(mode, compression, name, tmp_path):
    Image.fromarray(make_values(shape=(20, 30))).convert(mode).save(tmp_path / "a.tif", compression=compression)
    with pytest.raises(
        VolumeError, match=rf"its compression \({name}\) needs another package: run  pip install imagecodecs"
    ):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("handlers", [[], [logging.StreamHandler()]], ids=["none", "of the program"])
def test_what_tifffile_logs_does_not_reach_the_terminal(tmp_path, capfd, monkeypatch, handlers):
    monkeypatch.setattr(logging.getLogger(), "handlers", handlers)  # as outside pytest
    for handler in handlers:
        handler.setStream(sys.stderr)
    path = write_as("tiff", tmp_path, make_values())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VolumeError, match="cut short"):
        open_volume(path)
    assert capfd.readouterr().err == ""
