"""Real-time detection of hand movements in EEG, from training to one ONNX file that runs live."""

__version__ = "0.1.0.dev0"
