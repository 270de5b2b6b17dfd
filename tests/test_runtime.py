import onnxruntime
import pytest

from models import make_model
from streamdetect.errors import InputError, ModelError
from streamdetect.runtime import create_session


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("runtime") / "tiny.onnx")


def test_session_is_sequential_and_runs_on_the_threads_asked_for(model_file):
    for source in (model_file, model_file.read_bytes()):
        session = create_session(source, threads=2)
        options = session.get_session_options()
        assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
        assert session.get_providers() == ["CPUExecutionProvider"]


def test_auto_takes_the_cpu_where_there_is_no_cuda(model_file, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert create_session(model_file, device="auto").get_providers() == ["CPUExecutionProvider"]


def test_cuda_without_the_gpu_package_says_what_to_install(model_file, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="pip install onnxruntime-gpu"):
        create_session(model_file, device="cuda")


class _FallenBack:
    """A session of an ONNX Runtime that has CUDA built in but could not start it."""

    def __init__(self, *_, providers):
        name, options = providers[0]
        assert name == "CUDAExecutionProvider"
        assert options["use_tf32"] == "0"  # answers of the GPU are those of the CPU to float32

    def get_providers(self):
        return ["CPUExecutionProvider"]


def test_silent_fall_back_to_the_cpu_is_noticed(model_file, monkeypatch, caplog):
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _FallenBack)
    with pytest.raises(InputError, match="fell back to the CPU"):
        create_session(model_file, device="cuda")
    create_session(model_file, device="auto")
    assert "runs on the CPU" in caplog.text


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ModelError) as caught:
            create_session(source)
        assert "\n" not in str(caught.value)


def test_wrong_arguments_are_named(model_file):
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        create_session("nowhere.onnx")
    with pytest.raises(InputError, match="device"):
        create_session(model_file, device="tpu")
    with pytest.raises(InputError, match="threads"):
        create_session(model_file, threads=-1)
