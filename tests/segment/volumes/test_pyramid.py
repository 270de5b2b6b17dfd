from pathlib import Path

import numpy as np
import pytest
import zarr

from segment.volumes import open_volume, pyramid
from segment.volumes.pyramid import create_levels, describe_levels, halve, plan_pyramid, write_level_block
from segment.volumes.sharded import create_sharded, open_sharded, write_block

SHAPE = (12, 21, 70)
VOXEL_NM = (20.0, 5.0, 10.0)


def _image(folder, values, voxel_nm=VOXEL_NM):
    create_sharded(folder, "image", values.shape, values.dtype, values.shape, voxel_nm)
    write_block(open_sharded(folder, values.shape, values.shape), (0, 0, 0), values)
    return folder


def _naive(values, step, kind):
    """Look at each voxel by itself."""
    shape = [-(-n // by) for n, by in zip(values.shape, step, strict=True)]
    result = np.empty(shape, values.dtype)
    for at in np.ndindex(*shape):
        box = tuple(slice(i * by, (i + 1) * by) for i, by in zip(at, step, strict=True))
        part = values[box].astype(float)
        mean = np.pad(part, [(0, by - n) for n, by in zip(part.shape, step, strict=True)], mode="edge").mean()
        result[at] = (255 if mean >= 127.5 else 0) if kind == "mask" else np.floor(mean + 0.5)
    return result


@pytest.mark.parametrize("step", [(1, 2, 2), (2, 2, 2), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("kind", ["mask", "mean"])
def test_voxels_are_joined_two_by_two(step, kind):
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 8)).astype(np.uint8)
    values = np.where(values > 120, np.uint8(255), np.uint8(0)) if kind == "mask" else values
    found = halve(values, step, kind)
    np.testing.assert_array_equal(found, _naive(values, step, kind))
    assert found.dtype == np.uint8


def test_a_mask_has_no_other_values_and_its_objects_keep_their_size():
    z, y, x = np.ogrid[:64, :64, :64]
    ball = np.where((z - 31.5) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2 < 25**2, np.uint8(255), np.uint8(0))
    half = halve(ball, (2, 2, 2), "mask")
    assert set(np.unique(half)) == {0, 255}
    assert (half > 0).sum() * 8 == pytest.approx((ball > 0).sum(), rel=0.02)


def test_axes_are_halved_until_voxels_are_alike_and_the_last_level_fits_a_screen():
    levels = plan_pyramid(Path("m"), (1000, 3000, 5000), (40.0, 4.0, 4.0), "mask")
    assert [level.factor for level in levels] == [(1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16), (4, 32, 32)]
    assert levels[-1].shape == (250, 94, 157)
    assert plan_pyramid(Path("m"), (256, 256, 256), None, "mean") == []
    flat = plan_pyramid(Path("m"), (1, 1000, 1000), (5.0, 5.0, 5.0), "mean")
    assert [level.factor for level in flat] == [(1, 2, 2), (1, 4, 4)]


def test_levels_are_written_a_file_at_a_time_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "SHARD", (16, 16, 32))
    monkeypatch.setattr(pyramid, "FULLY_SHOWN", 10)
    values = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    folder = _image(tmp_path / "p.ome.zarr", values)
    levels = plan_pyramid(folder, SHAPE, VOXEL_NM, "mean")
    assert len(levels) == 4
    (folder / "1").mkdir()
    (folder / "1" / "left").write_text("by a crash")
    create_levels(levels)
    for level in levels:
        for index in np.random.default_rng(0).permutation(len(level)):
            write_level_block(level, int(index))
    describe_levels(levels, "p", VOXEL_NM)
    expected = values
    for level in levels:
        expected = _naive(expected, level.step, "mean")
        found = zarr.open_array(folder / str(level.index), mode="r")
        np.testing.assert_array_equal(found[:], expected)
        assert not (folder / str(level.index) / "left").exists()
    with open_volume(folder) as volume:  # the finest
        np.testing.assert_array_equal(volume[:], values)
        assert volume.voxel_nm == VOXEL_NM


def test_viewers_find_each_level_where_it_lies(tmp_path):
    values = np.zeros((4, 600, 600), np.uint8)
    folder = _image(tmp_path / "m.ome.zarr", values, (5.0, 5.0, 5.0))
    levels = plan_pyramid(folder, values.shape, (5.0, 5.0, 5.0), "mask")
    create_levels(levels)
    describe_levels(levels, "m", (5.0, 5.0, 5.0))
    (image,) = zarr.open_group(folder, mode="r").attrs["ome"]["multiscales"]
    assert [each["path"] for each in image["datasets"]] == ["0", "1", "2"]
    for each in image["datasets"][1:]:
        scale, translation = (step[step["type"]] for step in each["coordinateTransformations"])
        first = [(size - 5.0) / 2 for size in scale]  # the centre of the first voxel
        assert translation == first
    assert scale == [20.0, 20.0, 20.0]
