"""Held-out score and training time against the distance between training windows.

    python tools/bench_stride.py RECORDING... --event HandStart [--features power]

Neighbouring windows overlap by more than 95 %: training on all of them takes longer and teaches nothing. Each row is
one cross-validation by recording; the decisions that are scored are the same for all rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from streamdetect.cli.console import n_cores
from streamdetect.scoring.evaluate import auc_by_event
from streamdetect.settings import EventSettings
from streamdetect.sources.recording import find_recordings, read_recording
from streamdetect.training.trainer import Trainer, TrainingSettings, unconverged_allowed

STRIDES_S = (0.02, 0.05, 0.1, 0.2, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--event", required=True)
    parser.add_argument("--features", default="power")
    options = parser.parse_args()
    recordings = [read_recording(path) for path in find_recordings(options.recordings)]
    settings = TrainingSettings(
        events=(EventSettings.parse(options.event),), features=options.features, n_jobs=n_cores()
    )
    info = recordings[0].info
    windows = Trainer(info.ch_names, info.sfreq, settings).label(recordings)
    table = Table("stride (s)", "training windows", "held-out AUC", "seconds", box=None)
    for stride_s in STRIDES_S:
        trainer = Trainer(info.ch_names, info.sfreq, replace(settings, stride_s=stride_s))
        started = time.perf_counter()
        with unconverged_allowed():
            fitted = trainer.fit(windows)
        auc = auc_by_event(fitted.outcomes)[settings.event_names[0]]
        n_windows = sum(len(one.usable(trainer.stride)) for one in windows)
        table.add_row(f"{stride_s:g}", f"{n_windows:,}", f"{auc:.3f}", f"{time.perf_counter() - started:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
