"""Real-time detection of hand movements in EEG, from training to one ONNX file that runs live.

The names below are loaded when they are first used, so that ``import streamdetect`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamdetect.chunk import Chunk, Quality, StreamInfo
    from streamdetect.decisions import Decision, Decisions, Detection
    from streamdetect.detector import Detector
    from streamdetect.errors import (
        ChannelError,
        EventError,
        InputError,
        MissingExtraError,
        ModelError,
        ParityError,
        RecordingError,
        StreamdetectError,
        StreamError,
    )
    from streamdetect.live import detect
    from streamdetect.offline import replay
    from streamdetect.sources.recording import Recording, read_recording
    from streamdetect.stages.model import Model

__version__ = "0.1.0.dev0"

__all__ = [
    "ChannelError",
    "Chunk",
    "Decision",
    "Decisions",
    "Detection",
    "Detector",
    "EventError",
    "InputError",
    "MissingExtraError",
    "Model",
    "ModelError",
    "ParityError",
    "Quality",
    "Recording",
    "RecordingError",
    "StreamError",
    "StreamInfo",
    "StreamdetectError",
    "__version__",
    "detect",
    "read_recording",
    "replay",
]

_HOMES = {
    "streamdetect.chunk": ("Chunk", "Quality", "StreamInfo"),
    "streamdetect.decisions": ("Decision", "Decisions", "Detection"),
    "streamdetect.detector": ("Detector",),
    "streamdetect.live": ("detect",),
    "streamdetect.offline": ("replay",),
    "streamdetect.sources.recording": ("Recording", "read_recording"),
    "streamdetect.stages.model": ("Model",),
}


def __getattr__(name: str) -> Any:
    if name.endswith("Error") and name in __all__:
        return getattr(import_module("streamdetect.errors"), name)
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'streamdetect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
