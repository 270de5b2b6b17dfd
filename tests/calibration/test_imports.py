from __future__ import annotations

import subprocess
import sys

CODE = """
import pkgutil, sys, streamdetect.calibration, streamdetect.cli.calibrate, streamdetect.cli.cue_screen
for module in pkgutil.iter_modules(streamdetect.calibration.__path__):
    __import__(f"streamdetect.calibration.{module.name}")
print([name for name in ("sklearn", "mne", "pylsl") if name in sys.modules])
"""


def test_importing_loads_neither_scikit_learn_nor_mne_nor_lsl():
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
