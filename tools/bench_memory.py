"""Peak memory of reading a recording in chunks.

    python tools/bench_memory.py [--folder DIR]

Writes an EDF (64 channels, 1 kHz, 1 h), a Grasp-and-Lift CSV pair (32 channels, 175,000 rows) and an XDF (64 channels
of float32, 1 kHz, 10 min), about 620 MiB together, reads each in a process of its own, and removes them.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

MIB = 2**20
READ = """
import resource, sys
import streamdetect.sources.recording as source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n_times = sum(chunk.n_times for chunk in source.read_recording(sys.argv[1]).chunks())
print(n_times, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_edf(path: Path, n_channels: int = 64, sfreq: int = 1000, seconds: int = 3600) -> Path:
    """Write noise record by record: the point is a file that was never in memory."""
    rng = np.random.default_rng(0)

    def text(value: object, width: int) -> bytes:
        return str(value).ljust(width).encode("ascii")

    def each(value: object, width: int) -> bytes:
        return text(value, width) * n_channels

    with path.open("wb") as file:
        file.write(text(0, 8) + text("X X X X", 80) + text("Startdate 01-JAN-2024 X X X", 80))
        file.write(text("01.01.24", 8) + text("00.00.00", 8) + text(256 * (n_channels + 1), 8) + text("", 44))
        file.write(text(seconds, 8) + text(1, 8) + text(n_channels, 4))
        file.write(b"".join(text(f"EEG{i}", 16) for i in range(n_channels)) + each("", 80) + each("uV", 8))
        for limit in (-3276.8, 3276.7, -32768, 32767):
            file.write(each(limit, 8))
        file.write(each("", 80) + each(sfreq, 8) + each("", 32))
        for _ in range(seconds):
            file.write(rng.integers(-1000, 1000, (n_channels, sfreq), dtype=np.int16).tobytes())
    return path


def write_csv(path: Path, n_channels: int = 32, n_rows: int = 175_000) -> Path:
    """Write noise in the Grasp-and-Lift layout, with its events."""
    rng = np.random.default_rng(0)
    stem = path.name.removesuffix("_data.csv")
    with path.open("w") as data, path.with_name(f"{stem}_events.csv").open("w") as events:
        data.write("id," + ",".join(f"E{i}" for i in range(n_channels)) + "\n")
        events.write("id,HandStart\n")
        for row in range(n_rows):
            values = rng.integers(-900, 900, n_channels).tolist()
            data.write(f"{stem}_{row}," + ",".join(map(str, values)) + "\n")
            events.write(f"{stem}_{row},{int(row % 5000 < 150)}\n")
    return path


def write_xdf(path: Path, n_channels: int = 64, sfreq: int = 1000, seconds: int = 600) -> Path:
    """Write noise as one float32 stream with a time stamp for each sample."""
    rng = np.random.default_rng(0)
    header = (
        f'<?xml version="1.0"?><info><name>Amp</name><type>EEG</type><channel_count>{n_channels}</channel_count>'
        f"<nominal_srate>{sfreq}</nominal_srate><channel_format>float32</channel_format></info>"
    )

    def chunk(tag: int, content: bytes) -> bytes:
        return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content

    sample = np.dtype([("has_time", "u1"), ("time", "<f8"), ("values", "<f4", n_channels)])
    block = np.zeros(100, sample)
    block["has_time"] = 8
    with path.open("wb") as file:
        file.write(b"XDF:" + chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>'))
        file.write(chunk(2, struct.pack("<I", 1) + header.encode()))
        for first in range(0, seconds * sfreq, len(block)):
            block["time"] = 100.0 + (first + np.arange(len(block))) / sfreq
            block["values"] = rng.normal(0, 20, block["values"].shape)
            file.write(chunk(3, struct.pack("<I", 1) + b"\x04" + struct.pack("<I", len(block)) + block.tobytes()))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    table = Table("file", "size (MiB)", "peak (MiB)", "process itself (MiB)", "samples", box=None)
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as name:
        folder = Path(name)
        for write, file in ((write_edf, "hour.edf"), (write_csv, "subj1_series1_data.csv"), (write_xdf, "ten.xdf")):
            path = write(folder / file)
            read = [sys.executable, "-c", READ, str(path)]
            n_times, before, peak = subprocess.run(read, capture_output=True, text=True, check=True).stdout.split()
            size = os.path.getsize(path) / MIB
            table.add_row(file, f"{size:.0f}", f"{int(peak) / 1024:.0f}", f"{int(before) / 1024:.0f}", n_times)
            path.unlink()
    Console().print(table)


if __name__ == "__main__":
    main()
