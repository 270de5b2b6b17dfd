import numpy as np
import pytest
import tifffile

from segment.errors import VolumeError
from segment.serving.mask_file import MaskFile

SHAPE = (9, 20, 31)


def _open(folder, values):
    tifffile.imwrite(folder / "m.tif", values, photometric="minisblack")
    return MaskFile.open(folder / "m.tif", SHAPE)


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 4, 4), (3, 2, 8)])
@pytest.mark.parametrize("rounds", [np.floor, np.ceil])
def test_a_coarse_mask_covers_whole_voxels(tmp_path, factors, rounds):
    shape = [int(rounds(n / by)) for n, by in zip(SHAPE, factors, strict=True)]
    marks = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint16) * 1000
    with _open(tmp_path, marks) as mask:
        found = mask.read([(2, 9), (0, 20), (7, 31)])
    at = [np.minimum(np.arange(n) // by, m - 1) for n, by, m in zip(SHAPE, factors, shape, strict=True)]
    np.testing.assert_array_equal(found, (marks[np.ix_(*at)] > 0)[2:9, :, 7:31])
    assert found.dtype == bool


@pytest.mark.parametrize("shape", [(9, 20, 32), (9, 20, 62), (9, 12, 31)])
def test_another_shape_is_refused(tmp_path, shape):
    with pytest.raises(VolumeError, match=r"--mask .*m\.tif: expected the volume's shape \(9, 20, 31\), .* found"):
        _open(tmp_path, np.ones(shape, np.uint8))
