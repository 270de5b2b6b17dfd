"""Images that Pillow decodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

GREY_MODES = ("1", "L", "I;16", "I;16B", "I;16L")  # Pillow's names for 1, 8 and 16 bits


@contextmanager
def open_image(path: Path, kind: str) -> Iterator[Image.Image]:
    """Open an image of any size: Pillow takes a large one for an attack."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=[kind]) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit
