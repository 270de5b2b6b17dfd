import pickle
import threading

import numpy as np
import pytest
from volume_files import write_volume

from networks import make_pointwise, make_unet
from segment.errors import InputError, VolumeError
from segment.serving import blockwise
from segment.serving.begin import begin_run, describe_run
from segment.serving.blockwise import (
    PredictJob,
    check_worker,
    forget,
    kept_open,
    predict_and_commit,
    run_here,
)
from segment.serving.model import SegmentationModel
from segment.serving.plan import plan_prediction
from segment.serving.predict import Cancelled, predict_volume
from segment.serving.run_folder import RunFolder
from segment.volumes import open_volume

SHAPE = (18, 44, 60)
NM = (5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"unet": make_unet(folder / "unet.onnx"), "dark": make_pointwise(folder / "dark.onnx")}


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(128, 40, SHAPE).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image(tmp_path_factory, values):
    return write_volume(tmp_path_factory.mktemp("image") / "image.tif", values)


@pytest.fixture(autouse=True)
def close():
    yield
    for job in list(blockwise._workers):
        forget(job)


def _begin(tmp_path, image, model, *, voxel_nm=NM, tile=36, axes="z", **fields):
    """Return a job whose run folder is made."""
    loaded = SegmentationModel.load(model)
    with open_volume(image, voxel_nm=voxel_nm) as volume:
        job = PredictJob(
            image=str(image),
            voxel_nm=voxel_nm,
            model=str(model),
            model_sha256=loaded.sha256,
            device="cpu",
            threads=1,
            plan=plan_prediction(volume, loaded.metadata, tile=tile, axes=axes),
            threshold=0.5,
            folder=tmp_path / "out.run",
            **({"probabilities": True} | fields),
        )
        begin_run(RunFolder(job.folder), describe_run(job, volume, loaded), job, "out", volume.voxel_nm, joins=False)
    return job


def _compute(job, order=None):
    for index in order if order is not None else range(len(job.plan.blocks)):
        predict_and_commit(job, int(index))


def _read(job, name="mask"):
    with open_volume(RunFolder(job.folder).image(name)) as volume:
        return volume[:]


@pytest.mark.parametrize(
    ("axes", "voxel_nm"), [("z", NM), ("zyx", NM), ("yx", (5.0, 5.0, 6.5)), ("z", (12.0, 4.0, 5.0))]
)
def test_blocks_in_any_order_are_what_the_whole_volume_gives(tmp_path, image, values, models, axes, voxel_nm):
    job = _begin(tmp_path, image, models["unet"], axes=axes, voxel_nm=voxel_nm)
    assert len(job.plan.blocks) > 8
    _compute(pickle.loads(pickle.dumps(job)), np.random.default_rng(0).permutation(len(job.plan.blocks)))
    model = SegmentationModel.load(models["unet"])
    whole = predict_volume(values, model, axes=axes, voxel_nm=voxel_nm)  # another tile
    found = _read(job, "probabilities")
    np.testing.assert_allclose(found / 255, whole, atol=1e-4 + 0.5 / 255)
    sure = np.abs(whole - 0.5) > 1e-4
    np.testing.assert_array_equal(_read(job)[sure] > 0, (whole >= 0.5)[sure])
    same = predict_volume(values, model, axes=axes, voxel_nm=voxel_nm, tile=36)
    np.testing.assert_array_equal(found, np.rint(same * np.float32(255)))
    np.testing.assert_array_equal(_read(job), np.where(same >= 0.5, 255, 0))


def test_the_mask_comes_from_the_probability_before_rounding(tmp_path, models):
    ramp = np.linspace(0, 60000, 4096).astype(np.uint16).reshape(4, 32, 32)
    job = _begin(tmp_path, write_volume(tmp_path / "ramp.tif", ramp), models["dark"])
    job = pickle.loads(pickle.dumps(job))
    object.__setattr__(job, "threshold", 100.4 / 255)
    _compute(job)
    mask, rounded = _read(job), _read(job, "probabilities")
    assert set(np.unique(mask[rounded == 100])) == {0, 255}  # one rounded value, on both sides of the threshold


def test_a_block_is_computed_once_and_a_record_says_how_it_went(tmp_path, image, models, monkeypatch):
    job = _begin(tmp_path, image, models["dark"])
    record = predict_and_commit(job, 3)
    mask = _read(job)
    assert (record.index, record.attempts, record.skipped) == (3, 1, "")
    assert record.n_foreground == (mask > 0).sum() > 0
    assert record.n_voxels == np.prod([cut.stop - cut.start for cut in job.plan.blocks.block(3)])
    assert record.provider == "CPUExecutionProvider"
    assert record.seconds > 0
    monkeypatch.setattr(blockwise, "read_block", None)  # is not called again
    assert predict_and_commit(job, 3) == record


# --- where the volume is segmented


def _clipped(values, region):
    result = np.zeros_like(values)
    box = tuple(slice(*span) for span in region)
    result[box] = values[box]
    return result


@pytest.mark.parametrize(("axes", "voxel_nm"), [("z", NM), ("zyx", NM), ("z", (12.0, 4.0, 5.0))])
def test_a_region_gives_the_same_bits_within_and_nothing_beyond(tmp_path, image, models, axes, voxel_nm):
    region = ((3, 5), (20, 44), (31, 57))
    whole = _begin(tmp_path / "whole", image, models["unet"], axes=axes, voxel_nm=voxel_nm)
    _compute(whole)
    part = _begin(tmp_path / "part", image, models["unet"], axes=axes, voxel_nm=voxel_nm, region=region)
    indices = list(part.plan.blocks.within(region))
    assert len(indices) < len(part.plan.blocks)
    _compute(part, indices)
    for name in ("mask", "probabilities"):
        np.testing.assert_array_equal(_read(part, name), _clipped(_read(whole, name), region))


def test_only_what_is_marked_is_segmented_and_blocks_without_marks_are_skipped(tmp_path, image, models, monkeypatch):
    marks = np.zeros((9, 22, 30), np.uint8)
    marks[4:6, 2:5, 3:9] = 1
    whole = _begin(tmp_path / "whole", image, models["unet"])
    _compute(whole)
    part = _begin(tmp_path / "part", image, models["unet"], mask=str(write_volume(tmp_path / "marks.tif", marks)))
    n_tiles, honest = [], SegmentationModel.predict
    monkeypatch.setattr(SegmentationModel, "predict", lambda *given: n_tiles.append(1) or honest(*given))
    records = [predict_and_commit(part, index) for index in range(len(part.plan.blocks))]
    wanted = np.repeat(np.repeat(np.repeat(marks, 2, axis=0), 2, axis=1), 2, axis=2) > 0
    for name in ("mask", "probabilities"):
        np.testing.assert_array_equal(_read(part, name), np.where(wanted, _read(whole, name), 0))
    skipped = {record.skipped for record in records}
    assert skipped == {"", "mask"}
    n_computed = sum(not record.skipped for record in records)
    assert len(n_tiles) <= 4 * n_computed  # of the slices of a block, those with marks


def test_a_threshold_of_nothing_marks_nothing_outside_of_the_mask(tmp_path, image, models):
    marks = np.zeros(SHAPE, np.uint8)
    marks[2, 3, 4] = 7
    job = _begin(tmp_path, image, models["unet"], mask=str(write_volume(tmp_path / "marks.tif", marks)))
    object.__setattr__(job, "threshold", 0.0)
    _compute(job)
    assert np.argwhere(_read(job)).tolist() == [[2, 3, 4]]


def test_background_is_skipped_where_asked_for(tmp_path, values, models):
    half = values.copy()
    half[:, ::16] = half[:, 1::16] = half[:, 2::16] = 20
    half[:, :, 30:] = np.random.default_rng(0).normal(140, 3, half[:, :, 30:].shape).astype(np.uint8)
    image = write_volume(tmp_path / "half.tif", half)
    whole, part = (
        _begin(tmp_path / str(skips), image, models["unet"], skip_background=skips) for skips in (False, True)
    )
    _compute(whole)
    _compute(part)
    skipped = [record.index for record in RunFolder(part.folder).records() if record.skipped == "background"]
    assert 0 < len(skipped) < len(part.plan.blocks)
    expected = _read(whole)
    for index in skipped:
        block = part.plan.blocks.block(index)
        assert block[2].start >= 30
        expected[tuple(slice(cut.start, cut.stop) for cut in block)] = 0
    np.testing.assert_array_equal(_read(part), expected)
    assert not any(record.skipped for record in RunFolder(whole.folder).records())


# --- what goes wrong


def test_a_damaged_block_fails_and_its_attempts_are_counted(tmp_path, models, values, monkeypatch):
    job = _begin(tmp_path, write_volume(tmp_path / "image.tif", values), models["dark"])
    honest = blockwise.read_block

    def read_block(*arguments):
        raise VolumeError("slice 3 is damaged")

    monkeypatch.setattr(blockwise, "read_block", read_block)
    for _ in range(2):
        with pytest.raises(VolumeError):
            predict_and_commit(job, 0)
    assert RunFolder(job.folder).failures() == {0: "slice 3 is damaged"}
    monkeypatch.setattr(blockwise, "read_block", honest)
    assert predict_and_commit(job, 0).attempts == 3
    assert RunFolder(job.folder).failures() == {}


def test_what_no_block_can_do_without_ends_the_run(tmp_path, image, models):
    job = _begin(tmp_path, image, models["dark"])
    for field, value, message in (
        ("model_sha256", "0" * 64, "is another model here"),
        ("image", str(tmp_path / "none.tif"), "no such file"),
        ("mask", str(tmp_path / "none.tif"), "no such file"),
        ("folder", tmp_path / "none.run", "cannot be opened"),
    ):
        other = pickle.loads(pickle.dumps(job))
        object.__setattr__(other, field, value)
        with pytest.raises(InputError, match=message) as caught:
            check_worker(other)
        assert not isinstance(caught.value, VolumeError)
    check_worker(job)


def test_a_block_can_be_given_up_between_tiles(tmp_path, image, models):
    job = _begin(tmp_path, image, models["dark"])
    parts = []
    with pytest.raises(Cancelled):
        predict_and_commit(job, 0, on_part=lambda *told: parts.append(told), cancelled=lambda: len(parts) == 2)
    assert [index for index, _ in parts] == [0, 0]
    assert RunFolder(job.folder).committed() == set()
    assert RunFolder(job.folder).failures() == {}


# --- the engine in this process


def test_the_engine_calls_a_function_for_each_block_and_holds_few(tmp_path, image, models, values):
    job = _begin(tmp_path, image, models["unet"])
    taken, done = [], {}

    def indices():
        for index in range(len(job.plan.blocks)):
            taken.append(index)
            assert len(taken) - len(done) <= 3
            yield index

    with open_volume(image) as volume, kept_open(job, volume, SegmentationModel.load(models["unet"])):
        failed = run_here(
            lambda index: predict_and_commit(job, index), indices(), on_done=done.__setitem__, cancelled=lambda: False
        )
    assert failed == {}
    assert sorted(done) == list(range(len(job.plan.blocks)))
    expected = predict_volume(values, SegmentationModel.load(models["unet"]), voxel_nm=NM, tile=36)
    np.testing.assert_array_equal(_read(job), np.where(expected >= 0.5, 255, 0))


def test_blocks_are_read_and_written_while_another_is_computed():
    """Two blocks that wait for each other only end if they are in hand together."""
    meet = threading.Barrier(3, timeout=30)
    done = {}
    failed = run_here(
        lambda index: meet.wait(), range(6), on_done=done.__setitem__, cancelled=lambda: False, n_threads=3
    )
    assert (failed, sorted(done)) == ({}, list(range(6)))


def test_a_block_is_tried_again_and_then_given_up_while_others_go_on():
    tried, retried, done = [], [], {}

    def function(index):
        tried.append(index)
        if index == 3 or (index == 1 and tried.count(1) < 3):
            raise VolumeError(f"damaged {index}")
        return index

    failed = run_here(
        function,
        range(5),
        on_done=done.__setitem__,
        cancelled=lambda: False,
        on_retry=lambda *told: retried.append(told),
    )
    assert failed == {3: "damaged 3"}
    assert done == {0: 0, 1: 1, 2: 2, 4: 4}
    assert (tried.count(3), tried.count(1), tried.count(0)) == (3, 3, 1)
    assert sorted(retried) == [(1, "damaged 1")] * 2 + [(3, "damaged 3")] * 2


def test_what_no_other_block_would_fare_better_with_ends_the_run():
    def function(index):
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"):
        run_here(function, iter(range(10**9)), on_done=lambda *_: None, cancelled=lambda: False)


def test_a_run_that_is_cancelled_takes_no_more_blocks():
    done = {}
    failed = run_here(
        lambda index: index, iter(range(10**9)), on_done=done.__setitem__, cancelled=lambda: len(done) >= 4, n_threads=1
    )
    assert (failed, len(done)) == ({}, 4)

    def give_up(index):
        raise Cancelled("cancelled")

    stopped = []
    assert (
        run_here(
            lambda index: stopped.append(index) or give_up(index),
            range(9),
            on_done=done.__setitem__,
            cancelled=lambda: bool(stopped),
        )
        == {}
    )
    assert len(stopped) <= 3
