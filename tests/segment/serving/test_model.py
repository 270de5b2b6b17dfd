from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from networks import RADIUS, make_pointwise, make_unet
from segment.serving import model as model_module
from segment.serving.metadata import METADATA_KEY
from segment.serving.model import SegmentationModel
from streamdetect.cli.console import n_cores
from streamdetect.errors import InputError, ModelError
from streamdetect.runtime import CPU, CUDA, create_session


@pytest.fixture(scope="module")
def unet_file(tmp_path_factory):
    return make_unet(tmp_path_factory.mktemp("unet") / "unet.onnx")


@pytest.fixture(scope="module")
def unet(unet_file):
    return SegmentationModel.load(unet_file, device="cpu")


def _random_image(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def test_a_model_runs_and_says_on_what(unet, unet_file):
    probability = unet.predict(_random_image((2, 3, 24, 32)), 20.0, 230.0)
    assert (probability.shape, probability.dtype) == ((2, 24, 32), np.float32)
    assert probability.std() > 0.05
    assert (unet.provider, unet.threads) == ("CPUExecutionProvider", n_cores())
    assert SegmentationModel.load(unet_file, threads=1).threads == 1
    assert SegmentationModel(unet_file.read_bytes()).sha256 == unet.sha256


def test_low_becomes_minus_one_and_high_one_and_swapped_they_swap_dark_and_bright(tmp_path):
    model = SegmentationModel.load(make_pointwise(tmp_path / "p.onnx", (0.0, -4.0, 0.0)))
    image = np.zeros((1, 3, 1, 5), np.float32)
    image[0, 1, 0] = [-1000, 50, 100, 150, 1000]
    normalised = np.array([-2, -1, 0, 1, 2])
    np.testing.assert_allclose(model.predict(image, 50, 150)[0, 0], 1 / (1 + np.exp(4 * normalised)), atol=1e-6)
    np.testing.assert_allclose(model.predict(image, 150, 50)[0, 0], 1 / (1 + np.exp(-4 * normalised)), atol=1e-6)


def test_the_small_unet_sees_exactly_as_far_as_the_other_tests_take_for_granted(unet):
    image = _random_image((1, 3, 64, 64))
    before = unet.predict(image, 20.0, 230.0)[0, :, 32:36]
    seen = []
    for column in range(64):
        changed = image.copy()
        changed[..., column] = 255 - changed[..., column]
        if (unet.predict(changed, 20.0, 230.0)[0, :, 32:36] != before).any():
            seen.append(column)
    assert (min(seen), max(seen)) == (32 - RADIUS, 35 + RADIUS)


def test_the_same_tile_gives_the_same_bits(unet, unet_file):
    image = _random_image((1, 3, 256, 256))
    first = unet.predict(image, 20.0, 230.0)
    unet.predict(_random_image((1, 3, 64, 128)), 20.0, 230.0)
    np.testing.assert_array_equal(unet.predict(image, 20.0, 230.0), first)
    np.testing.assert_array_equal(SegmentationModel.load(unet_file).predict(image, 20.0, 230.0), first)


def test_threads_may_share_a_model_and_their_number_changes_no_bit(unet, unet_file):
    images = [_random_image((1, 3, 96, 128), seed) for seed in range(8)]
    expected = [unet.predict(image, 20.0, 230.0) for image in images]
    three = SegmentationModel.load(unet_file, device="cpu", threads=3)
    assert three.tiles_at_once == 3
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: three.predict(image, 20.0, 230.0), images))
    np.testing.assert_array_equal(found, expected)


class _SaysCuda:
    """A session on the CPU that calls itself one on a GPU."""

    def __init__(self, session):
        self._session = session

    def get_providers(self):
        return [CUDA, CPU]

    def __getattr__(self, name):
        return getattr(self._session, name)


@pytest.fixture
def on_gpu(unet_file, monkeypatch):
    """A model that keeps its tiles in memory of the device, as on a GPU, where the device is the CPU."""
    monkeypatch.setattr(model_module, "_GPU", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(
            model_module, "create_session", lambda content, **_: _SaysCuda(create_session(content, device="cpu"))
        )
        return SegmentationModel.load(unet_file, device="cuda", threads=5)


def test_on_a_gpu_one_tile_is_read_while_another_is_computed(on_gpu):
    assert (on_gpu.provider, on_gpu.threads, on_gpu.tiles_at_once) == (CUDA, 5, 2)


def test_tiles_in_memory_of_the_device_give_the_same_bits(unet, on_gpu):
    """Not on a GPU, which no machine of this project has: the same calls of ONNX Runtime, on memory of the CPU."""
    images = [_random_image((1, 3, *sides), seed) for seed in range(4) for sides in ((96, 128), (64, 32))]
    kept = [image.copy() for image in images]
    expected = [unet.predict(image, 20.0, 230.0) for image in images]
    found = [on_gpu.predict(image, 20.0, 230.0) for image in images]  # all are kept while others are computed
    with ThreadPoolExecutor(3) as pool:
        found_at_once = list(pool.map(lambda image: on_gpu.predict(image, 20.0, 230.0), images))
    for each, other, wanted in zip(found, found_at_once, expected, strict=True):
        np.testing.assert_array_equal(each, wanted)
        np.testing.assert_array_equal(other, wanted)
    np.testing.assert_array_equal(on_gpu.predict(images[0], 50.0, 200.0), unet.predict(images[0], 50.0, 200.0))
    for image, before in zip(images, kept, strict=True):
        np.testing.assert_array_equal(image, before)


def test_views_can_be_tiles_in_memory_of_the_device(unet, on_gpu):
    image = _random_image((1, 3, 64, 64))
    turned = np.rot90(image, axes=(2, 3))
    on_gpu.predict(image, 20.0, 230.0)
    np.testing.assert_array_equal(on_gpu.predict(turned, 20.0, 230.0), unet.predict(turned, 20.0, 230.0))


def test_fewer_threads_than_one_are_refused(unet_file):
    with pytest.raises(InputError, match="threads must be 1 or more, found 0"):
        SegmentationModel.load(unet_file, threads=0)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 2, 8, 8), np.float32), ((1, 3, 8, 9), np.float32), ((3, 8, 8), np.float32), ((1, 3, 8, 8), np.float64)],
)
def test_other_shapes_and_types_are_refused(unet, shape, dtype):
    with pytest.raises(ModelError, match=r"image: expected float32 of shape \(n, 3, height, width\), multiples of 4"):
        unet.predict(np.zeros(shape, dtype), 0.0, 1.0)


def test_what_fails_while_running_is_told_in_one_line(unet, monkeypatch):
    def run(*_):
        raise RuntimeError("Failed to allocate memory\nmore")

    monkeypatch.setattr(unet, "_run", run)
    with pytest.raises(ModelError, match=r"tile of 8×12 pixels: Failed to allocate memory; try a smaller --tile$"):
        unet.predict(np.zeros((1, 3, 8, 12), np.float32), 0.0, 1.0)


def test_files_and_devices_that_cannot_be_used_are_refused(tmp_path, unet_file):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx: ONNX Runtime cannot load it"):
        SegmentationModel.load(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        SegmentationModel.load(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        SegmentationModel.load(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="device must be one of auto, cpu, cuda, found 'tpu'"):
        SegmentationModel.load(unet_file, device="tpu")
    graph = onnx.load(unet_file)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match=r"foreign\.onnx: not a segment model: its metadata has no key 'segment'$"):
        SegmentationModel.load(tmp_path / "foreign.onnx")


def _fewer_slices(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def _fixed_height(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 512


def _other_output(graph):
    graph.graph.output[0].name = "mask"
    graph.graph.node.append(helper.make_node("Identity", ["probability"], ["mask"]))


def _another_output(graph):
    graph.graph.node.append(helper.make_node("Identity", ["probability"], ["mask"]))
    graph.graph.output.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, None))


def _log_odds(graph):
    graph.graph.node[-1].op_type = "Identity"
    for weight in graph.graph.initializer:
        if weight.name.startswith("kernel"):
            weight.raw_data = (100 * np.frombuffer(weight.raw_data, np.float32)).tobytes()


def _other_size(graph):
    graph.graph.node[-1].output[0] = "large"
    graph.graph.node.append(
        helper.make_node("MaxPool", ["large"], ["probability"], kernel_shape=[2, 2], strides=[2, 2])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_fewer_slices, ": "),  # ONNX Runtime refuses some of these itself
        (_fixed_height, r"image must be tensor\(float\) of shape \(free, 3, free, free\)"),
        (_other_output, "expected the outputs probability, found mask"),
        (_another_output, "expected the outputs probability, found probability, mask"),
        (_log_odds, "output probability: expected values of 0 to 1"),
        (_other_size, "output probability: expected .* shape"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(unet_file, tmp_path, change, message):
    graph = onnx.load(unet_file)
    change(graph)
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=rf"other\.onnx: .*{message}") as caught:
        SegmentationModel.load(tmp_path / "other.onnx")
    assert "\n" not in str(caught.value)


def test_metadata_that_does_not_fit_the_graph_is_refused(unet_file, tmp_path):
    graph = onnx.load(unet_file)
    document = next(entry for entry in graph.metadata_props if entry.key == METADATA_KEY)
    document.value = document.value.replace("[-1, 0, 1]", "[-2, -1, 0, 1, 2]")
    onnx.save(graph, tmp_path / "five.onnx")
    with pytest.raises(ModelError, match=r"image must be tensor\(float\) of shape \(free, 5, free, free\)"):
        SegmentationModel.load(tmp_path / "five.onnx")
