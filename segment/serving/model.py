"""The trained network as it is served: one ONNX file, its session and its metadata."""

from __future__ import annotations

import hashlib
from collections import deque
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, OrtValue

from segment.serving.metadata import METADATA_KEY, ModelMetadata
from streamdetect.cli.console import n_cores
from streamdetect.errors import InputError, ModelError
from streamdetect.model_file import describe_foreign, read_model
from streamdetect.runtime import CPU, CUDA, RUNTIME_ERRORS, Device, create_session, first_line

_GPU = "cuda"  # ONNX Runtime's name of its memory
_LOAD_ERRORS: tuple[type[Exception], ...] = (ModelError, *RUNTIME_ERRORS)


class SegmentationModel:
    """An ONNX model file, ready to run.

    Parameters
    ----------
    content : bytes
        The file's content.
    label : str
        What error messages call it.
    device : {"auto", "cpu", "cuda"}
        As for `streamdetect.runtime.create_session`.
    threads : int, optional
        Tiles that are computed at the same time on the CPU, each by one thread; by default the cores that this
        process may use. Memory grows with them, probabilities do not change.

    Attributes
    ----------
    metadata : ModelMetadata
    sha256 : str
        Of the file's content.
    provider : str
        ONNX Runtime's name of what really runs the network, as in ``"CPUExecutionProvider"``.
    threads : int
    tiles_at_once : int
        How many calls of `predict` should run at a time to keep the device busy.

    Raises
    ------
    ModelError
        It is no segmentation model that this version can run; one line that says why.
    InputError
        No such device, CUDA was asked for and not had, or fewer threads than one.
    """

    def __init__(
        self, content: bytes, label: str = "the model", *, device: Device = "auto", threads: int | None = None
    ) -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.threads = threads if threads is not None else n_cores()
        if self.threads < 1:
            raise InputError(f"threads must be 1 or more, found {threads}")
        try:
            self._session = create_session(content, device=device, threads=1)
            documents = self._session.get_modelmeta().custom_metadata_map
            if METADATA_KEY not in documents:
                raise ModelError(describe_foreign(documents, METADATA_KEY))
            self.metadata = ModelMetadata.from_json(documents[METADATA_KEY])
            _check_graph(self._session, len(self.metadata.slice_offsets))
            self._probe()
        except _LOAD_ERRORS as error:
            raise ModelError(f"{label}: {first_line(error).removeprefix('the ONNX model: ')}") from error
        self.provider = self._session.get_providers()[0]
        self._bound: dict[tuple[int, ...], deque[_Bound]] = {}  # by the shape of a tile; those not in use
        self.tiles_at_once = self.threads if self.provider == CPU else 2  # a GPU computes one while another is read

    @classmethod
    def load(
        cls, path_or_name: str | PathLike[str], *, device: Device = "auto", threads: int | None = None
    ) -> SegmentationModel:
        """Open a model file, or a model that is shipped with the package.

        Parameters
        ----------
        path_or_name : path or str
            A file, or a shipped model's name with or without ``.onnx``.
        device, threads
            As for the class.

        Returns
        -------
        SegmentationModel

        Raises
        ------
        ModelError
            There is no such file or name, or it is no segmentation model that this version can run.
        InputError
            No such device, or CUDA was asked for and not had.
        """
        content, path = read_model(path_or_name, METADATA_KEY)
        return cls(content, str(path), device=device, threads=threads)

    def predict(self, image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
        """Return the probability of each pixel to be foreground.

        Parameters
        ----------
        image : ndarray of float32, shape (n, n_slices, height, width)
            Raw intensities of n tiles and their neighbouring slices, in the order of ``metadata.slice_offsets``;
            height and width are multiples of ``metadata.stride``.
        low, high : float
            Intensities that become -1 and 1 in the network; ``low > high`` swaps dark and bright.

        Returns
        -------
        ndarray of float32, shape (n, height, width)
            0 to 1.

        Raises
        ------
        ModelError
            The array has another shape or type, or there is not memory enough for it.

        Notes
        -----
        The same tile gives the same bits with the same shape of array and device. Threads may call it at the same
        time: two tiles on a thread each are done sooner than one after the other on two (1.3 times as soon with 8-bit
        integers, on two cores).
        """
        n_slices, stride = len(self.metadata.slice_offsets), self.metadata.stride
        fits = image.ndim == 4 and image.shape[1] == n_slices and not any(size % stride for size in image.shape[2:])
        if not fits or image.dtype != np.float32:
            raise ModelError(
                f"image: expected float32 of shape (n, {n_slices}, height, width), multiples of {stride}, found "
                f"{image.dtype} of shape {image.shape}"
            )
        try:
            return self._run(image, low, high)
        except RUNTIME_ERRORS as error:
            size = "×".join(map(str, image.shape[2:]))
            raise ModelError(
                f"the network cannot run on a tile of {size} pixels: {first_line(error)}; try a smaller --tile"
            ) from error

    def _run(self, image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
        inputs = {"image": image, "intensity": np.array([low, high], np.float32)}
        if self.provider != CUDA:
            return self._session.run(("probability",), inputs)[0][:, 0]
        idle = self._bound.setdefault(image.shape, deque())
        try:
            bound = idle.pop()  # another thread may have taken the last one
        except IndexError:
            bound = _Bound(self._session, inputs)
        probability = bound.run(inputs)
        idle.append(bound)
        return probability[:, 0]

    def _probe(self) -> None:
        """Run the graph on a small random tile: shapes that are declared free may still not work."""
        height, width = 2 * self.metadata.stride, 3 * self.metadata.stride
        image = np.random.default_rng(0).random((1, len(self.metadata.slice_offsets), height, width), np.float32)
        values = self._session.run(("probability",), {"image": image, "intensity": np.array([0, 1], np.float32)})[0]
        if values.shape != (1, 1, height, width) or not ((values >= 0) & (values <= 1)).all():
            raise ModelError(
                f"output probability: expected values of 0 to 1 and shape (1, 1, {height}, {width}) for a tile of that "
                f"size, found shape {values.shape} and values of {values.min():g} to {values.max():g}"
            )


class _Bound:
    """Memory of the GPU for one tile of a shape, kept from call to call."""

    def __init__(self, session: InferenceSession, inputs: dict[str, NDArray[np.float32]]) -> None:
        self._session, self._binding = session, session.io_binding()
        self._inputs = {name: OrtValue.ortvalue_from_numpy(value.copy(), _GPU, 0) for name, value in inputs.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output("probability", _GPU, 0)

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        for name, value in inputs.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(value))
        self._session.run_with_iobinding(self._binding)
        probability: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        return probability


def _check_graph(session: InferenceSession, n_slices: int) -> None:
    """Refuse a graph whose inputs and output are not those of every segmentation model."""
    expected = {"image": (None, n_slices, None, None), "intensity": (2,), "probability": (None, 1, None, None)}
    for kind, nodes, names in (
        ("inputs", session.get_inputs(), ["image", "intensity"]),
        ("outputs", session.get_outputs(), ["probability"]),
    ):
        found = [node.name for node in nodes]
        if sorted(found) != names:
            raise ModelError(f"graph: expected the {kind} {', '.join(names)}, found {', '.join(found) or 'none'}")
        for node in nodes:
            if node.type != "tensor(float)" or not _fits(node.shape, expected[node.name]):
                shape = ", ".join("free" if size is None else str(size) for size in expected[node.name])
                raise ModelError(
                    f"graph: {node.name} must be tensor(float) of shape ({shape}), found {node.type} {node.shape}"
                )


def _fits(found: list[int | str | None], expected: tuple[int | None, ...]) -> bool:
    """Tell whether a declared shape allows for the expected one; None is free, a text is a free size by name."""
    return len(found) == len(expected) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(found, expected, strict=True)
    )
