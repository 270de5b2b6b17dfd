"""ONNX Runtime sessions for both packages: device, threads, and a check of what was really got."""

from __future__ import annotations

import logging
from os import PathLike, fspath
from typing import Literal, get_args

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from streamdetect.errors import InputError, ModelError

Device = Literal["auto", "cpu", "cuda"]

# What ONNX Runtime raises for a file it cannot load or run; they share no base but Exception.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoModel,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    RuntimeError,
)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Full float32, as on the CPU, and kernels chosen by shape alone: by default ONNX Runtime rounds to TF32, and takes what
# was fastest in a trial, so that the same input need not give the same bits twice.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_LOG_ERRORS = 3  # onnxruntime: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal
_log = logging.getLogger(__name__)


def create_session(
    model: str | PathLike[str] | bytes, *, device: Device = "cpu", threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open an ONNX model for inference.

    Parameters
    ----------
    model : path or bytes
        The ``.onnx`` file, or its content.
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes CUDA where ONNX Runtime really gets it and the CPU otherwise; ``cuda`` insists on it.
    threads : int
        Threads that share one operator; 0 lets ONNX Runtime take all cores. Only with 1 are answers the same for every
        size of batch.

    Returns
    -------
    onnxruntime.InferenceSession
        Operators run one after the other. ``session.get_providers()[0]`` is the device that was got.

    Raises
    ------
    InputError
        No such device, or CUDA was asked for and not had.
    ModelError
        The file is not there or is no ONNX model that this ONNX Runtime can run.
    """
    if device not in get_args(Device):
        raise InputError(f"device must be one of {', '.join(get_args(Device))}, found {device!r}")
    if threads < 0:
        raise InputError(f"threads must be 0 (all cores) or more, found {threads}")
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    source = model if isinstance(model, bytes) else fspath(model)
    label = "the ONNX model" if isinstance(source, bytes) else source
    try:
        session = onnxruntime.InferenceSession(source, options, providers=_choose_providers(device))
    except RUNTIME_ERRORS as error:
        raise ModelError(f"{label}: ONNX Runtime cannot load it: {first_line(error)}") from error
    _check_providers(session.get_providers(), device)
    return session


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error, without ONNX Runtime's own prefix.

    Examples
    --------
    >>> first_line(RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.\nmore"))
    'Protobuf parsing failed.'
    """
    text = str(error).strip().partition("\n")[0]
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text or type(error).__name__


def _choose_providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    """Return the execution providers to ask for, best first, with their options."""
    if device == "cpu":
        return [CPU]
    if CUDA in onnxruntime.get_available_providers():
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # finds the CUDA libraries that pip installed
        return [(CUDA, _CUDA_OPTIONS), CPU]
    if device == "cuda":
        raise InputError(
            "device cuda: the installed ONNX Runtime has no CUDA: run  pip uninstall onnxruntime  and then  "
            "pip install onnxruntime-gpu  (it takes the place of onnxruntime), or use --device cpu"
        )
    return [CPU]


def _check_providers(got: list[str], device: Device) -> None:
    """Refuse, or log, a silent fall-back to the CPU."""
    if device == "cpu" or CUDA in got:
        return
    if device == "cuda":
        raise InputError(
            "device cuda: ONNX Runtime could not start CUDA and fell back to the CPU: check that nvidia-smi lists a "
            "GPU, that the driver is recent enough, and that CUDA and cuDNN are there: pip install "
            '"onnxruntime-gpu[cuda,cudnn]"'
        )
    if CUDA in onnxruntime.get_available_providers():
        _log.warning("CUDA could not be started: the model runs on the CPU")
