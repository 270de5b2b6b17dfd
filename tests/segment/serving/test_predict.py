import numpy as np
import pytest

from networks import RADIUS, make_pointwise, make_unet
from segment.errors import VolumeError
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.predict import Cancelled, predict_block, predict_volume

SAME = {"voxel_nm": (5.0, 5.0, 5.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def unet(folder):
    return SegmentationModel.load(make_unet(folder / "unet.onnx"), threads=1)


@pytest.fixture(scope="module")
def dark(folder):
    """The probability that a pixel is dark."""
    return SegmentationModel.load(make_pointwise(folder / "dark.onnx"))


def _volume(shape=(5, 45, 50), seed=0):
    return np.random.default_rng(seed).normal(128, 40, shape).clip(0, 255).astype(np.uint8)


def _naive(volume, model, axes="z", intensity=None):
    """Run whole planes, one after the other."""
    low, high = intensity or np.percentile(volume, model.metadata.percentiles)
    stride, total = model.metadata.stride, np.zeros(volume.shape)
    for axis in map("zyx".index, axes):
        stack, result = np.moveaxis(volume, axis, 0), np.moveaxis(total, axis, 0)
        n, rows, columns = stack.shape
        for index in range(n):
            around = np.clip(index + np.array(model.metadata.slice_offsets), 0, n - 1)
            plane = np.pad(stack[around], ((0, 0), (0, -rows % stride), (0, -columns % stride)), mode="reflect")
            probability = model.predict(plane[None].astype(np.float32), low, high)[0]
            result[index] += probability[:rows, :columns] / len(axes)
    return total


# --- tiles


@pytest.mark.parametrize("axes", ["z", "y", "zx", "zyx"])
@pytest.mark.parametrize("tile", [None, 28, 40])
def test_tiles_give_what_whole_planes_give(unet, axes, tile):
    volume = _volume()
    found = predict_volume(volume, unet, axes=axes, tile=tile, **SAME)
    assert (found.shape, found.dtype) == (volume.shape, np.float32)
    np.testing.assert_allclose(found, _naive(volume, unet, axes), atol=1e-4)


def test_a_halo_that_is_one_stride_less_would_show(unet, folder):
    volume = _volume()
    whole = _naive(volume, unet)
    assert unet.metadata.halo - unet.metadata.stride < RADIUS <= unet.metadata.halo
    short = SegmentationModel.load(make_unet(folder / "short.onnx", halo=unet.metadata.halo - unet.metadata.stride))
    for tile in (28, 40):
        assert (
            np.abs(predict_volume(volume, short, tile=tile, **SAME) - whole).max() > 1e-3
        )  # ten times what is allowed


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (2, 4, 4), (3, 1, 60), (40, 5, 5)])
def test_a_volume_may_be_smaller_than_a_tile(unet, shape):
    volume = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = predict_volume(volume, unet, axes="zyx", intensity=(0.0, 200.0), **SAME)
    np.testing.assert_allclose(found, _naive(volume, unet, "zyx", (0.0, 200.0)), atol=1e-4)


def test_blocks_can_be_computed_in_any_order_to_the_last_bit(unet):
    volume = _volume((9, 60, 60))
    for settings in ({}, {"axes": "zyx"}, {"axes": "zyx", "voxel_nm": (9.0, 5.0, 4.0)}, {"tta": True}):
        plan = plan_prediction(volume, unet.metadata, tile=36, **(SAME | settings))
        expected = predict_volume(volume, unet, tile=36, **(SAME | settings))
        blocks = [plan.blocks.block(index) for index in range(len(plan.blocks))]
        assert len(blocks) > 3
        for index in np.random.default_rng(0).permutation(len(blocks))[:4]:
            inside = tuple(slice(cut.start, cut.stop) for cut in blocks[index])
            np.testing.assert_array_equal(predict_block(volume, unet, plan, blocks[index]), expected[inside])


def test_only_what_a_block_needs_is_read(unet):
    volume = _volume((60, 200, 200))
    plan = plan_prediction(volume, unet.metadata, tile=48, axes="zyx", **SAME)
    read = []

    class Spy:
        shape, dtype = volume.shape, volume.dtype

        def __getitem__(self, key):
            read.append(volume[key].size)
            return volume[key]

    predict_block(Spy(), unet, plan, plan.blocks.block(15))
    assert len(read) == 1
    assert read[0] <= 50**3


# --- slices


def test_neighbouring_slices_are_channels_and_the_edge_slice_repeats(folder):
    model = SegmentationModel.load(
        make_pointwise(folder / "five.onnx", (-1.0, 2.0, 0.5, -2.0, 1.5), slice_offsets=(-3, -1, 0, 1, 3))
    )
    volume = _volume((9, 4, 5))
    for axis, name in enumerate("zyx"):
        stack = np.moveaxis(volume, axis, 0).astype(float) / 127.5 - 1
        padded = np.pad(stack, ((3, 3), (0, 0), (0, 0)), mode="edge")
        n = len(stack)
        logit = sum(
            weight * padded[3 + offset : 3 + offset + n]
            for weight, offset in zip((-1.0, 2.0, 0.5, -2.0, 1.5), (-3, -1, 0, 1, 3), strict=True)
        )
        found = predict_volume(volume, model, axes=name, intensity=(0.0, 255.0), **SAME)
        np.testing.assert_allclose(np.moveaxis(found, axis, 0), 1 / (1 + np.exp(-logit)), atol=1e-5)


def test_tta_is_the_mean_over_the_eight_orientations(unet):
    volume = _volume((3, 41, 60))
    expected = np.zeros(volume.shape)
    padded = np.pad(volume, ((0, 0), (0, 3), (0, 0)), mode="reflect")
    low, high = np.percentile(volume, (1, 99))
    for transpose in (False, True):
        for step_y in (1, -1):
            for step_x in (1, -1):
                seen = padded[:, ::step_y, ::step_x]
                seen = seen.swapaxes(1, 2) if transpose else seen
                probability = _naive(seen, unet, intensity=(low, high))
                probability = probability.swapaxes(1, 2) if transpose else probability
                expected += probability[:, ::step_y, ::step_x][:, :41] / 8
    np.testing.assert_allclose(predict_volume(volume, unet, tta=True, **SAME), expected, atol=1e-5)
    tiled = predict_volume(volume, unet, tta=True, tile=32, **SAME)
    np.testing.assert_allclose(tiled, expected, atol=1e-4)


def test_inverted_contrast_with_invert_is_as_normal_contrast(unet):
    volume = _volume((4, 40, 40))
    expected = predict_volume(volume, unet, intensity=(40.0, 215.0), **SAME)
    found = predict_volume(255 - volume, unet, intensity=(40.0, 215.0), invert=True, **SAME)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- voxel sizes


def test_a_resampled_volume_is_segmented_on_the_models_grid_and_comes_back(dark):
    fine = np.full((32, 48, 48), 200, np.uint8)
    fine[8:24, 16:32, 8:40] = 60
    coarse = fine.reshape(8, 4, 24, 2, 24, 2).mean(axis=(1, 3, 5)).astype(np.uint8)
    intensity = (60.0, 200.0)
    mask = predict_volume(coarse, dark, voxel_nm=(20.0, 10.0, 10.0), intensity=intensity) >= 0.5
    np.testing.assert_array_equal(mask, coarse < 130)
    finer = predict_volume(np.repeat(fine, 2, axis=2), dark, voxel_nm=(5.0, 5.0, 2.5), intensity=intensity) >= 0.5
    np.testing.assert_array_equal(finer, np.repeat(fine < 130, 2, axis=2))


@pytest.mark.parametrize("voxel_nm", [(12.0, 5.0, 5.0), (5.0, 6.7, 3.1), (40.0, 2.0, 9.0)])
@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_resampled_blocks_show_no_seam(unet, voxel_nm, axes):
    volume = _volume((5, 40, 36))
    whole = predict_volume(volume, unet, voxel_nm=voxel_nm, axes=axes)
    assert whole.shape == volume.shape
    for tile in (36, 44):
        tiled = predict_volume(volume, unet, voxel_nm=voxel_nm, axes=axes, tile=tile)
        np.testing.assert_allclose(tiled, whole, atol=1e-4)


# --- progress


def test_progress_is_told_in_voxels_from_nothing_to_all(unet):
    volume = _volume((40, 20, 24))
    for settings in ({}, {"axes": "zyx", "tile": 32}, {"voxel_nm": (10.0, 5.0, 5.0)}):
        told = []
        predict_volume(volume, unet, on_progress=lambda *figures: told.append(figures), **(SAME | settings))  # noqa: B023
        done = [n for n, _ in told]
        assert {total for _, total in told} == {volume.size}
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, volume.size)
        assert len(told) > 40


def test_work_can_be_cancelled_between_tiles(unet):
    volume = _volume((40, 20, 24))
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        predict_volume(volume, unet, cancelled=cancelled, **SAME)
    assert len(asked) == 6


# --- bad input


def test_nan_is_refused_wherever_it_lies(unet):
    volume = _volume((3, 900, 900)).astype(np.float32)
    volume[1, 1, 1] = np.nan  # not in the sample
    with pytest.raises(VolumeError, match="NaN or infinity"):
        predict_volume(volume, unet, **SAME)


def test_what_should_be_known_is_logged(dark, caplog):
    predict_volume(_volume((3, 20, 20)), dark)
    assert "no voxel size is stated" in caplog.text
