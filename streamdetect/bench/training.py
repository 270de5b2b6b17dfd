"""How long training takes at the size of the 2019 run, from CSV files to the ONNX file, and what memory it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamdetect.bench.process import run_measured
from streamdetect.sources.simulate import series_paths, simulate_series, write_series

N_SERIES = 8


def simulate_2019(folder: Path) -> list[Path]:
    """Write one simulated subject, 8 series, about 1.4 million windows; return the data files."""
    for series in range(1, N_SERIES + 1):
        write_series(simulate_series(1, series), folder)
    return [series_paths(folder, 1, series)[0] for series in range(1, N_SERIES + 1)]


def measure_training(recordings: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Train on all series in a process of its own.

    Parameters
    ----------
    recordings : sequence of Path
        What `simulate_2019` wrote.
    folder : Path
        Where the model goes.

    Returns
    -------
    dict
        ``seconds``, ``peak_gb`` of memory, and the held-out ``auc`` of the vote.
    """
    out = folder / "trained.onnx"
    figures = run_measured(
        "streamdetect.cli.main",
        ["train", *map(str, recordings), "--event", "HandStart", "--out", str(out)],
        folder / "train.json",
    )
    return {
        "seconds": figures["seconds"],
        "peak_gb": figures["peak_gb"],
        "auc": figures["json"]["events"]["HandStart"]["auc"],
    }


def measure_literal_2019(recordings: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Do the same in the way of 2019: every window, scikit-learn's defaults, a random split.

    Returns
    -------
    dict
        ``seconds``, ``peak_gb``, ``n_windows`` scored and their ``confusion`` matrix.
    """
    command = ["evaluate", *map(str, recordings), "--event", "HandStart", "--features", "2019"]
    figures = run_measured("streamdetect.cli.main", [*command, "--protocol", "random-split"], folder / "literal.json")
    return {
        "seconds": figures["seconds"],
        "peak_gb": figures["peak_gb"],
        "n_windows": figures["json"]["n_windows"],
        "confusion": figures["json"]["mean"]["confusion"],
    }
