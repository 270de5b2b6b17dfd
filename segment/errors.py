"""The errors that segment raises on purpose, beside those of streamdetect.

::

    StreamdetectError
    └── InputError (ValueError)        the user's input: the command line ends with code 2
        ├── VolumeError                a file that cannot be read as a volume, or does not hold what is needed
        └── ModelError                 of streamdetect: an ONNX file that is not ours, is newer, or does not fit
"""

from __future__ import annotations

from streamdetect.errors import InputError


class VolumeError(InputError):
    """A file cannot be read as a volume or as labels, or holds other shapes or values than are needed."""
