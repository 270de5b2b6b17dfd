import onnx
import pytest

from models import make_model
from networks import make_pointwise
from segment.serving.model import SegmentationModel
from streamdetect import model_file
from streamdetect.errors import ModelError
from streamdetect.model_file import list_shipped, read_keys
from streamdetect.stages.model import Model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "hand.onnx")
    make_pointwise(folder / "mito.onnx")
    return folder


def test_keys_are_read_as_onnx_reads_them(folder, tmp_path):
    for path in folder.glob("*.onnx"):
        graph = onnx.load(path)
        assert read_keys(path) == {entry.key for entry in graph.metadata_props} != set()
        onnx.helper.set_model_props(graph, {"ä": "x" * 300, "segment": ""})
        onnx.save(graph, tmp_path / path.name)
        assert read_keys(tmp_path / path.name) == {"ä", "segment"}


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", b"\xff" * 40, b"\x72\xff"])
def test_a_file_that_is_no_onnx_has_no_keys(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    assert read_keys(tmp_path / "x.onnx") == frozenset()
    assert read_keys(tmp_path) == frozenset()


def test_each_package_lists_its_own_models_and_refuses_the_others(folder, monkeypatch):
    monkeypatch.setattr(model_file, "SHIPPED", (folder,))
    assert list_shipped("streamdetect") == ("hand",)
    assert list_shipped("segment") == ("mito",)
    with pytest.raises(ModelError, match=r"no model shipped under that name \(shipped: mito\)"):
        SegmentationModel.load("other")
    with pytest.raises(ModelError, match=r"hand\.onnx: is a streamdetect detector: use streamdetect replay$"):
        SegmentationModel.load("hand")
    with pytest.raises(ModelError, match=r"mito\.onnx: is a segmentation model: use segment predict$"):
        Model.load("mito")
