"""Measure the dashboard in headless Chromium: frames a second, and the share of a core that each process takes.

    python tools/bench_dashboard.py [--channels 64] [--sfreq 1000] [--seconds 20] [--json FILE]

Noise is streamed as a recording would be, on an LSL session of its own; Chromium and its driver have to be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM_UP_S = 15.0  # until the window of 10 s is full
SIZES = ((1280, 800), (1920, 1080))
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def write_noise(path: Path, n_channels: int, sfreq: float, seconds: float) -> None:
    import mne
    import numpy as np

    names = mne.channels.make_standard_montage("biosemi64").ch_names
    names += [f"ch{number}" for number in range(len(names), n_channels)]
    data = np.random.default_rng(0).standard_normal((n_channels, round(seconds * sfreq))) * 1e-5
    info = mne.create_info(names[:n_channels], sfreq, "eeg")
    mne.io.RawArray(data, info, verbose="error").save(path, verbose="error")


def cpu_s(root: int) -> float:
    """Processor time in s that a process and all that it started have taken."""
    parents, times = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(times.get(pid, 0.0) for pid in family)


def measure(url: str, size: tuple[int, int], dashboard_pid: int, player_pid: int, seconds: float) -> dict[str, float]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(url)
            time.sleep(WARM_UP_S)
            pids = {"dashboard": dashboard_pid, "player": player_pid, "browser": service.process.pid}
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            start, n_before = time.monotonic(), driver.execute_script("return window.dashboard.frames")
            time.sleep(seconds)
            n_frames = driver.execute_script("return window.dashboard.frames") - n_before
            elapsed = time.monotonic() - start
            shares = {f"{name}_cores": round((cpu_s(pid) - before[name]) / elapsed, 3) for name, pid in pids.items()}
            return {"width": size[0], "height": size[1], "frames_per_s": round(n_frames / elapsed, 2), **shares}
        finally:
            driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--sfreq", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, at each size of the window")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    from streamdetect.sources.lsl_config import own_lsl_session

    command = [sys.executable, "-m", "streamdetect.cli.main"]
    with tempfile.TemporaryDirectory() as folder, own_lsl_session():
        recording = Path(folder) / "noise_raw.fif"
        write_noise(recording, arguments.channels, arguments.sfreq, 60.0 + len(SIZES) * (arguments.seconds + 30.0))
        player = subprocess.Popen([*command, "play", recording, "--wait", "60"], stderr=subprocess.DEVNULL)
        dashboard = subprocess.Popen([*command, "dashboard", "--port", "0"], stdout=subprocess.PIPE, text=True)
        try:
            assert dashboard.stdout is not None
            url = dashboard.stdout.readline().strip()
            results = [measure(url, size, dashboard.pid, player.pid, arguments.seconds) for size in SIZES]
        finally:
            for process in (dashboard, player):
                process.terminate()
                process.wait()
    document = {"channels": arguments.channels, "sfreq": arguments.sfreq, "load": os.getloadavg(), "results": results}
    print(json.dumps(document, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
