"""Makes the screenshot of the napari panel: ``python tools/napari_screenshot.py docs/napari.png [--theme light]``.

Opens napari on the screen that there is, or on a virtual one (``xvfb-run -s "-screen 0 1280x900x24"``), opens the
sample, segments it with the preset model and goes to the largest object.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

SIZE = (1280, 860)
WAIT_S = 120
SETTLE_S = 1.0  # for what is drawn in the background, such as thumbnails
COLORS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    arguments = parser.parse_args()
    viewer = napari.Viewer()
    viewer.theme = arguments.theme
    viewer.window.resize(*SIZE)
    viewer.open_sample("streamdetect", "fib-sem")
    _, panel = viewer.window.add_plugin_dock_widget("streamdetect")
    panel.segment.click()
    work_until(panel.segment.isEnabled)
    volumes = [one.volume_voxels for one in panel.table.objects]
    panel.table.selectRow(int(np.argmax(volumes)))
    viewer.reset_view()
    settled = time.monotonic() + SETTLE_S
    work_until(lambda: time.monotonic() > settled)
    shot = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(shot).convert("RGB").quantize(COLORS).save(arguments.out, optimize=True)
    viewer.close()
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1e3:.0f} kB")


def work_until(condition: Callable[[], bool]) -> None:
    """Let Qt work until a condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("napari does not come to an end")
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
