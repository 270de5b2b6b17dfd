import math
import pickle

import numpy as np
import pytest

from networks import make_segment_metadata
from segment.errors import InputError
from segment.intensity import intensity_range
from segment.serving.metadata import Conversion
from segment.serving.plan import MAX_BLOCK_BYTES, plan_prediction
from segment.volumes.chunks import largest_divisor

METADATA = make_segment_metadata()


class _Volume:
    """A volume of any size that takes no memory: noise, the same in every slice."""

    def __init__(self, shape, voxel_nm=(5.0, 5.0, 5.0), dtype=np.uint8):
        self.shape, self.voxel_nm, self.dtype, self.path = shape, voxel_nm, np.dtype(dtype), "v.tif"
        self._noise = np.random.default_rng(0).integers(0, 255, 1009).astype(dtype)

    def __getitem__(self, key):
        key = (*(key if isinstance(key, tuple) else (key,)), *[slice(None)] * 2)[:3]
        return np.resize(self._noise, [len(range(*one.indices(n))) for one, n in zip(key, self.shape, strict=True)])


def _cuts(plan):
    return [[axis.cut(index) for index in range(len(axis))] for axis in plan.blocks.axes]


@pytest.mark.parametrize("shape", [(1, 1, 1), (165, 768, 1024), (3000, 3000, 3000), (20, 20000, 20000)])
@pytest.mark.parametrize("axes", ["z", "y", "zx", "zyx"])
@pytest.mark.parametrize("voxel_nm", [(5.0, 5.0, 5.0), (40.0, 4.0, 4.0)])
def test_blocks_fill_any_volume_and_none_takes_too_much_memory(shape, axes, voxel_nm):
    metadata = make_segment_metadata(stride=16, halo=96)
    plan = plan_prediction(_Volume(shape, voxel_nm), metadata, axes=axes, intensity=(0, 255))
    cuts = _cuts(plan)
    assert [each[-1].stop for each in cuts] == list(shape)
    for axis, each, step in zip(plan.blocks.axes, cuts, (16, 256, 256), strict=True):
        assert all(cut.start == index * axis.block for index, cut in enumerate(each))  # a block is a shard
        assert axis.block <= step or largest_divisor(axis.block, step) > step // 2
    largest = math.prod(max(max(cut.window.size, cut.stop - cut.start) for cut in each) for each in cuts)
    filled = math.prod(max(cut.stop - cut.start for cut in each) for each in cuts)
    kept = math.prod(max(cut.window.stop - cut.window.start for cut in each) for each in cuts)
    assert largest + 4 * kept <= MAX_BLOCK_BYTES
    assert 6 * filled <= MAX_BLOCK_BYTES
    assert len(pickle.dumps(plan)) < 3000
    assert plan.tile > 2 * metadata.halo + (metadata.stride if plan.resamples else 0)


def test_a_plane_that_fits_is_not_cut():
    plan = plan_prediction(_Volume((165, 768, 1024)), METADATA, axes="z")
    assert (plan.blocks.counts, plan.blocks.shape) == ((11, 1, 1), (16, 768, 1024))
    assert plan.tile == 1156  # what the memory for a tile allows


def test_a_wide_network_gets_smaller_tiles():
    wide = make_segment_metadata(network={"stem": 1, "width": 64, "depth": 4})
    assert plan_prediction(_Volume((5, 2000, 2000)), wide).tile == 288
    assert plan_prediction(_Volume((5, 2000, 2000)), make_segment_metadata(stride=16, halo=320)).tile == 1152
    farsighted = make_segment_metadata(stride=16, halo=800, network={"stem": 1, "width": 64, "depth": 4})
    assert plan_prediction(_Volume((5, 2000, 2000)), farsighted).tile == 2400  # it has to be larger than two halos


def test_8_bit_integers_take_larger_tiles_for_the_same_memory():
    conversion = Conversion(
        precision="int8",
        source="unet",
        source_sha256="0" * 64,
        weight_bits=7,
        validate_slices=(0, 1),
        source_iou=0.9,
        iou=0.9,
        versions={},
    )
    fast = make_segment_metadata(conversion=conversion)
    half = make_segment_metadata(conversion=conversion.model_copy(update={"precision": "float16"}))
    tiles = [plan_prediction(_Volume((5, 4000, 4000)), each).tile for each in (METADATA, half, fast)]
    assert tiles == [1156, 1156, 1936]


def test_a_tile_that_is_asked_for_is_taken():
    plan = plan_prediction(_Volume((165, 768, 1024)), METADATA, axes="zyx", tile=128)
    assert max(cut.window.size for cuts in _cuts(plan) for cut in cuts) <= 128
    with pytest.raises(InputError, match=r"--tile 24: .* smallest that works is 28"):
        plan_prediction(_Volume((165, 768, 1024)), METADATA, tile=24)
    with pytest.raises(InputError, match=r"--tile 28: .* smallest that works is 32"):  # a stride more to interpolate
        plan_prediction(_Volume((165, 768, 1024), (10.0, 5.0, 5.0)), METADATA, tile=28)


def test_intensities_are_measured_swapped_or_taken():
    volume = _Volume((5, 100, 100))
    low, high = intensity_range(volume, METADATA.percentiles)
    assert plan_prediction(volume, METADATA).intensity == (low, high)
    assert plan_prediction(volume, METADATA, invert=True).intensity == (high, low)
    assert plan_prediction(volume, METADATA, intensity=(3, 4)).intensity == (3, 4)
    with pytest.raises(InputError, match="intensity: expected a low and a higher value, found 4 and 3"):
        plan_prediction(volume, METADATA, intensity=(4, 3))


@pytest.mark.parametrize("axes", ["", "xx", "abc", "zyxz"])
def test_axes_that_cannot_be_used_are_refused(axes):
    with pytest.raises(InputError, match=f"--axes {axes}: expected one or more of z, y and x"):
        plan_prediction(_Volume((5, 50, 50)), METADATA, axes=axes)


def test_an_array_of_other_than_three_axes_is_refused():
    with pytest.raises(InputError, match="expected three axes"):
        plan_prediction(np.zeros((5, 5), np.uint8), METADATA)


# --- remarks


def test_nothing_is_remarked_where_all_is_as_it_was_in_training():
    plan = plan_prediction(_Volume((5, 50, 50), (5.0, 5.05, 4.95)), METADATA)
    assert (plan.remarks, plan.ratios, plan.grid_shape) == ((), (1.0, 1.0, 1.0), (5, 50, 50))


def test_other_voxels_are_resampled_with_a_remark():
    plan = plan_prediction(_Volume((5, 50, 50), (40.0, 5.0, 6.0)), METADATA)
    assert plan.grid_shape == (40, 50, 60)
    assert plan.remarks == ("voxels of 40,5,6 nm are resampled to the model's 5,5,5 nm, and the result back",)
    assert plan_prediction(_Volume((5, 50, 50)), METADATA, voxel_nm=(40.0, 5.0, 6.0)).ratios == plan.ratios


def test_an_unknown_voxel_size_is_warned_about():
    (remark,) = plan_prediction(_Volume((5, 50, 50), None), METADATA).remarks
    assert remark == (
        "v.tif: no voxel size is stated; the model's 5,5,5 nm is assumed; give --voxel-size Z,Y,X if it is another"
    )
    assert plan_prediction(_Volume((5, 50, 50), None), METADATA, voxel_nm=(5.0, 5.0, 5.0)).remarks == ()


@pytest.mark.parametrize("voxel_nm", [(5.0, 5.0, 41.0), (0.6, 5.0, 5.0), (5000.0, 5000.0, 5000.0)])
def test_voxels_far_from_the_models_are_refused(voxel_nm):
    with pytest.raises(InputError, match=r"8 times larger or smaller .* check --voxel-size"):
        plan_prediction(_Volume((5, 50, 50), voxel_nm), METADATA)


@pytest.mark.parametrize("voxel_nm", [(5.0, 0.0, 5.0), (5.0, -5.0, 5.0), (math.nan, 5.0, 5.0)])
def test_sizes_that_are_none_are_refused(voxel_nm):
    with pytest.raises(InputError, match="expected sizes in nm above 0"):
        plan_prediction(_Volume((5, 50, 50)), METADATA, voxel_nm=voxel_nm)


def test_contrast_that_seems_reversed_is_warned_about_either_way():
    lines = np.full((2, 100, 100), 200, np.uint8)
    lines[:, ::20] = 80
    voxel_nm = (5.0, 5.0, 5.0)
    assert plan_prediction(lines, METADATA, voxel_nm=voxel_nm).remarks == ()
    (remark,) = plan_prediction(255 - lines, METADATA, voxel_nm=voxel_nm).remarks
    assert remark.endswith("use --invert")
    assert plan_prediction(255 - lines, METADATA, voxel_nm=voxel_nm, invert=True).remarks == ()
    (remark,) = plan_prediction(lines, METADATA, voxel_nm=voxel_nm, invert=True).remarks
    assert "leave --invert out" in remark


def test_axes_that_the_model_has_not_seen_are_remarked():
    metadata = make_segment_metadata(axes="z")
    (remark,) = plan_prediction(_Volume((50, 50, 50)), metadata, axes="zyx").remarks
    assert remark == "slices along zyx: the model tiny was trained on slices along z only"
