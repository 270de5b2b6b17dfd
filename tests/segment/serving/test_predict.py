import os

import numpy as np
import pytest

from networks import RADIUS, make_pointwise, make_unet
from segment.errors import InputError, VolumeError
from segment.serving import predict as predict_module
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.predict import Cancelled, predict_block, predict_slabs, predict_volume

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
        blocks = [block for slab in plan.slabs for block in slab]
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

    predict_block(Spy(), unet, plan, plan.slabs[0][-1])
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


# --- streaming


def _joined(slabs):
    slabs = list(slabs)
    return np.concatenate([slab.mask for slab in slabs]), np.concatenate([slab.probability for slab in slabs])


@pytest.mark.parametrize("axes", ["z", "zyx"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_slabs_are_the_volume_in_order(unet, axes, in_memory, monkeypatch, tmp_path):
    monkeypatch.setattr(predict_module, "SCRATCH_IN_MEMORY", 2**20 if in_memory else 1)
    monkeypatch.setattr(predict_module, "MAX_GATHERED", 5 * 45 * 50)
    volume = _volume((12, 45, 50))
    plan = plan_prediction(volume, unet.metadata, axes=axes, tile=40, **SAME)
    probability = predict_volume(volume, unet, axes=axes, tile=40, **SAME)
    threshold = float(np.quantile(probability, 0.8))
    slabs = list(predict_slabs(volume, unet, plan, threshold=threshold, scratch=tmp_path))
    assert max(len(slab.mask) for slab in slabs) == 5
    mask, rounded = _joined(slabs)
    np.testing.assert_array_equal(mask, np.where(probability >= np.float32(threshold), 255, 0))
    np.testing.assert_array_equal(rounded, np.rint(probability * np.float32(255)))
    assert mask.dtype == rounded.dtype == np.uint8
    assert list(tmp_path.iterdir()) == []


def test_the_mask_comes_from_the_probability_before_rounding(dark):
    volume = np.linspace(0, 60000, 4096).astype(np.uint16).reshape(4, 32, 32)
    plan = plan_prediction(volume, dark.metadata, intensity=(0.0, 60000.0), **SAME)
    probability = predict_volume(volume, dark, intensity=(0.0, 60000.0), **SAME)
    threshold = 100.4 / 255
    mask, rounded = _joined(predict_slabs(volume, dark, plan, threshold=threshold))
    np.testing.assert_array_equal(mask > 0, probability >= threshold)
    assert set(np.unique(mask[rounded == 100])) == {0, 255}  # one rounded value, on both sides of the threshold


def test_the_models_threshold_is_the_default(folder):
    model = SegmentationModel.load(make_pointwise(folder / "strict.onnx", threshold=0.8))
    volume = _volume((3, 20, 20))
    mask, _ = _joined(predict_slabs(volume, model, plan_prediction(volume, model.metadata, **SAME)))
    np.testing.assert_array_equal(mask > 0, predict_volume(volume, model, **SAME) >= 0.8)
    assert 0 < (mask > 0).mean() < 0.5


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


def test_work_can_be_cancelled_between_tiles(unet, tmp_path):
    volume = _volume((40, 20, 24))
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        predict_volume(volume, unet, cancelled=cancelled, **SAME)
    assert len(asked) == 6
    plan = plan_prediction(volume, unet.metadata, **SAME)
    with pytest.raises(Cancelled):
        list(predict_slabs(volume, unet, plan, cancelled=lambda: True, scratch=tmp_path))
    assert list(tmp_path.iterdir()) == []


# --- bad input


def test_nan_is_refused_wherever_it_lies(unet):
    volume = _volume((3, 900, 900)).astype(np.float32)
    volume[1, 1, 1] = np.nan  # not in the sample
    with pytest.raises(VolumeError, match="NaN or infinity"):
        predict_volume(volume, unet, **SAME)


def test_a_full_disk_is_told_in_one_line(unet, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def write(self, _):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(predict_module.tempfile, "SpooledTemporaryFile", Full)
    volume = _volume((3, 20, 20))
    with pytest.raises(InputError, match="No space left on device") as caught:
        list(predict_slabs(volume, unet, plan_prediction(volume, unet.metadata, **SAME)))
    assert "\n" not in str(caught.value)


def test_what_should_be_known_is_logged(dark, caplog):
    predict_volume(_volume((3, 20, 20)), dark)
    assert "no voxel size is stated" in caplog.text
