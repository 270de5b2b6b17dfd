"""The errors that streamdetect raises on purpose.

::

    StreamdetectError
    ├── InputError (ValueError)              the user's input: the command line ends with code 2
    │   ├── RecordingError                   a file that cannot be read as a recording, or holds too little
    │   ├── ChannelError                     channels missing, duplicated or flat
    │   ├── EventError                       no such event, or too few of it to train or score
    │   └── ModelError                       an ONNX file that is not ours, is newer, or does not fit the data
    ├── ParityError (ArithmeticError)        ONNX Runtime and scikit-learn disagree: nothing is written
    ├── StreamError (ConnectionError)        a live stream was not found or was lost
    └── MissingExtraError (ImportError)      an optional package is not installed

Everything else is a fault of the program and ends the command line with code 1 and a traceback.
"""

from __future__ import annotations


class StreamdetectError(Exception):
    """Base of every error raised on purpose."""


class InputError(StreamdetectError, ValueError):
    """The user's input cannot be used; the message names it, what was expected, what was found and what to do."""


class RecordingError(InputError):
    """A file cannot be read as a recording, or holds too little to work with."""


class ChannelError(InputError):
    """Channels are missing, duplicated, flat or not those that the model was trained on."""


class EventError(InputError):
    """An event is unknown to the recording, or occurs too rarely to train or score."""


class ModelError(InputError):
    """An ONNX file is not a streamdetect model, is of a newer schema, or does not fit the data."""


class ParityError(StreamdetectError, ArithmeticError):
    """The exported ONNX graph does not give the trained estimator's probabilities; nothing was written."""


class StreamError(StreamdetectError, ConnectionError):
    """A live stream was not found in the time given, or was lost."""


class MissingExtraError(StreamdetectError, ImportError):
    """An optional package is needed that is not installed.

    Parameters
    ----------
    package : str
        Import name of the missing package.
    extra : str
        The extra of streamdetect that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed: run  pip install "streamdetect[{extra}]"')
        self.package = package
        self.extra = extra
