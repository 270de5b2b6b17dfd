from __future__ import annotations

import numpy as np
import onnx
import pytest

from networks import make_pointwise, make_unet
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.zoo_graph import check_graph, predict_stack, take_stacks
from streamdetect.errors import InputError, ModelError, ParityError
from streamdetect.runtime import create_session

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # bioimageio.spec leaves files open
STACK = np.random.default_rng(0).integers(0, 255, (6, 24, 32)).astype(np.uint8)


def load(path):
    content = path.read_bytes()
    return content, SegmentationModel(content, device="cpu")


@pytest.mark.parametrize("offsets", [(0,), (-1, 0, 1), (-4, -2, 0, 2, 4)])
def test_a_stack_gives_what_predict_gives(tmp_path, offsets):
    content, model = load(make_unet(tmp_path / "tiny.onnx", slice_offsets=offsets))
    probability, largest = check_graph(take_stacks(content, model.metadata), model, STACK)
    assert largest < 1e-5
    expected = predict_volume(STACK, model, voxel_nm=model.metadata.voxel_nm, tile=64)
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert probability.std() > 0.01


def test_stacks_of_a_batch_do_not_mix(tmp_path):
    content, model = load(make_unet(tmp_path / "tiny.onnx"))
    session = create_session(take_stacks(content, model.metadata))
    batch = np.random.default_rng(0).random((2, 1, 5, 8, 12), np.float32)
    (both,) = session.run(None, {"image": batch})
    for index in range(2):
        (alone,) = session.run(None, {"image": batch[index : index + 1]})
        np.testing.assert_allclose(both[index], alone[0], atol=1e-6)


def test_another_network_does_not_pass(tmp_path):
    content, _ = load(make_unet(tmp_path / "one.onnx"))
    _, other = load(make_unet(tmp_path / "two.onnx", seed=1))
    with pytest.raises(ParityError, match=r"differs from the model by .* nothing was written"):
        check_graph(take_stacks(content, other.metadata), other, STACK)


def test_the_graph_says_that_segment_cannot_serve_it(tmp_path):
    content, model = load(make_unet(tmp_path / "tiny.onnx"))
    with pytest.raises(ModelError, match="not a segment model"):
        SegmentationModel(take_stacks(content, model.metadata))


def test_weights_that_no_node_takes_are_left_out(tmp_path):
    path = make_unet(tmp_path / "tiny.onnx")
    document = onnx.load(path)
    document.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1000, np.float32), "unused"))
    onnx.save(document, path)
    content, model = load(path)
    graph = onnx.load_from_string(take_stacks(content, model.metadata))
    onnx.checker.check_model(graph)
    assert "unused" not in [weight.name for weight in graph.graph.initializer]


@pytest.fixture(scope="module")
def export_zoo(bioimageio):
    from segment.training.zoo import export_zoo

    return export_zoo


@pytest.fixture(scope="module")
def package(export_zoo, tmp_path_factory):
    """A package of a tiny network, with its report."""
    folder = tmp_path_factory.mktemp("zoo")
    model = make_unet(folder / "tiny.onnx")
    model.with_suffix(".md").write_text("# tiny\n\nMade by segment on a day.\n")
    return folder / "tiny.zip", export_zoo(model, folder / "tiny.zip", authors=["A. N. Author"], license="CC-BY-4.0")


def test_the_package_is_found_valid_and_run(package):
    path, report = package
    assert {status for _, status in report.checks} == {"passed"}
    names = " ".join(name for name, _ in report.checks)
    assert "Reproduce test outputs" in names
    assert "batch_size: 2 and size parameter n: 2" in names
    assert report.max_difference < 1e-5
    assert report.n_bytes == path.stat().st_size


def test_what_the_zoo_reads(package):
    from bioimageio.spec import load_model_description

    path, _ = package
    model = load_model_description(path)
    assert model.name == "tiny (U-Net- mitochondria)"
    assert [author.name for author in model.authors] == ["A. N. Author"]
    assert str(model.license) == "CC-BY-4.0"
    z, y, _ = model.inputs[0].axes[2:]
    assert (z.size.min, z.size.step, z.scale, z.unit) == (3, 1, 5.0, "nanometer")
    assert (y.size.min, y.size.step) == (28, 4)
    assert [axis.halo for axis in model.outputs[0].axes[2:]] == [1, 12, 12]
    documentation = model.documentation.get_reader().read().decode()
    assert "## Validation" in documentation
    assert "Made by segment on a day." in documentation


def test_the_zoo_s_own_tiles_give_the_same(package):
    """Percentiles of the whole, then tiles with halos that are cut off."""
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec import load_model_description

    path, _ = package
    model = load_model_description(path)
    stack = np.random.default_rng(1).integers(0, 255, (16, 80, 80)).astype(np.float32)
    served = SegmentationModel.load(path.with_name("tiny.onnx"))
    sample = create_sample_for_model(model, inputs={"image": stack[None, None]})
    with create_prediction_pipeline(model) as pipeline:
        tiled = pipeline.predict_sample_with_blocking(sample, ns=4)
    found = np.asarray(tiled.members["probability"].data)[0, 0]
    expected = predict_stack(served, stack)
    assert found.shape == expected.shape
    inside = (slice(1, -1), slice(12, -12), slice(12, -12))  # at the borders, the zoo mirrors
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


def test_a_network_without_a_halo_has_none(export_zoo, tmp_path):
    report = export_zoo(
        make_pointwise(tmp_path / "tiny.onnx", (-4.0,), slice_offsets=(0,)),
        tmp_path / "tiny.zip",
        authors=["A"],
        license="MIT",
    )
    assert {status for _, status in report.checks} == {"passed"}


def test_what_the_zoo_does_not_take_is_not_written(export_zoo, tmp_path):
    out = tmp_path / "tiny.zip"
    with pytest.raises(InputError, match=r"bioimageio\.core does not take the package: license.*; nothing was written"):
        export_zoo(make_unet(tmp_path / "tiny.onnx"), out, authors=["A"], license="free")
    assert not out.exists()
