"""Score a feature set and the vote on Grasp-and-Lift windows, from series 1 to 6 to series 7 and 8.

    python tools/evaluate_gal_windows.py subj01.npz subj02.npz subj03.npz [--features auto] [--json F]

Each occurrence of an event is one window of 150 samples, 0.3 s around it. Features are computed by the detector's own
pipeline inside the window alone, from its own first sample's steady state: how far into a run of labelled frames a
window lies, which gives events away, is not seen. Each event is told from the other five, by a vote of its own; all six
are trained together on the subject's series 1 to 6. `--features auto` chooses on these alone, held out in pairs.

Two controls stand beside it: the time since the start of the series, and the same pipeline on a signal with random
phases (a series' labelled frames joined, and cut as before), which must score 0.5 ± 0.05.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from streamdetect.chunk import Chunk
from streamdetect.detector import FeaturePipeline
from streamdetect.errors import RecordingError, StreamdetectError
from streamdetect.runtime import first_line
from streamdetect.scoring.controls import phase_randomise
from streamdetect.scoring.metrics import area_under_roc
from streamdetect.settings import HealthSettings
from streamdetect.training.ensemble import make_ensemble, member_probabilities
from streamdetect.training.feature_sets import make_features
from streamdetect.training.trainer import unconverged_allowed

WINDOW_SAMPLES = 150
LAST_TRAINING_SERIES = 6
VOLTS_PER_UNIT = 1e-6  # the challenge's integers are taken for microvolts
CANDIDATES = ("power", "bands", "lowpass", "wide", "mrcp", "mrcp+wide", "mrcp+erd")
FOLDS = ((1, 2), (3, 4), (5, 6))
N_SURROGATES = 3
_NO_RULES = HealthSettings(max_gap_samples=0, flat_samples=0)


class Windows(NamedTuple):
    """The windows of one subject.

    Parameters
    ----------
    signal : ndarray of float64, shape (n, n_channels, 150)
        In volts.
    event : ndarray of int64, shape (n,)
        Index of the event that each window is around.
    series : ndarray of int64, shape (n,)
    start_s : ndarray of float64, shape (n,)
        Time of the first sample since the start of the series.
    """

    signal: NDArray[np.float64]
    event: NDArray[np.int64]
    series: NDArray[np.int64]
    start_s: NDArray[np.float64]


class Subject(NamedTuple):
    """What one file holds: names, and the labelled frames of every series one after another."""

    name: str
    ch_names: tuple[str, ...]
    event_names: tuple[str, ...]
    sfreq: float
    frame: NDArray[np.int64]
    signal: NDArray[np.float64]
    labels: NDArray[np.bool_]
    series: NDArray[np.int64]


def read_subject(path: Path) -> Subject:
    """Read a ``.npz`` file of windows.

    Raises
    ------
    RecordingError
        No such file, or one that holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _to_subject(path, file)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        expected = "a .npz file with frame, eeg, labels, series, channels, events and sfreq"
        raise RecordingError(f"{path}: expected {expected}, found none ({first_line(error)})") from error


def _to_subject(path: Path, file: NpzFile) -> Subject:
    return Subject(
        path.stem,
        tuple(map(str, file["channels"])),
        tuple(map(str, file["events"])),
        float(file["sfreq"]),
        file["frame"].astype(np.int64),
        file["eeg"].T * VOLTS_PER_UNIT,
        file["labels"].astype(bool),
        file["series"].astype(np.int64),
    )


def cut_windows(subject: Subject, signal: NDArray[np.float64]) -> Windows:
    """Cut a window around each occurrence of each event; one of 149 frames begins with its first one twice."""
    breaks = np.flatnonzero((np.diff(subject.frame) != 1) | (np.diff(subject.series) != 0)) + 1
    starts, stops, events = [], [], []
    for event, column in enumerate(subject.labels.T):
        edges = np.diff(column.astype(np.int8), prepend=0, append=0)
        ends_at_break = [at for at in breaks if column[at - 1] and column[at]]
        starts += sorted([*np.flatnonzero(edges == 1), *ends_at_break])
        stops += sorted([*np.flatnonzero(edges == -1), *ends_at_break])
        events += [event] * (len(starts) - len(events))
    start, stop = np.array(starts), np.array(stops)
    if not np.isin(stop - start, (WINDOW_SAMPLES - 1, WINDOW_SAMPLES)).all():
        raise RecordingError(f"{subject.name}: expected runs of 149 or 150 labelled frames an event, found others")
    index = np.maximum(stop[:, None] - np.arange(WINDOW_SAMPLES, 0, -1), start[:, None])
    return Windows(
        signal[:, index].transpose(1, 0, 2),
        np.array(events),
        subject.series[start],
        subject.frame[start] / subject.sfreq,
    )


def compute_features(subject: Subject, windows: Windows, features: str) -> NDArray[np.float32]:
    """Run the detector's feature pipeline over each window alone; return its last sample's features."""
    window_s = WINDOW_SAMPLES / subject.sfreq
    settings = make_features(features, subject.sfreq, subject.ch_names, hop_s=window_s, window_s=window_s)
    pipeline = FeaturePipeline(len(subject.ch_names), subject.sfreq, _NO_RULES, settings)
    times = np.arange(WINDOW_SAMPLES) / subject.sfreq
    rows = []
    for signal in windows.signal:
        pipeline.reset()
        rows.append(pipeline.process(Chunk(signal, times)).values[-1])
    return np.array(rows)


def score(
    X: NDArray[np.float32],
    event: NDArray[np.int64],
    is_test: NDArray[np.bool_],
    n_events: int,
    features: str,
    seed: int,
) -> dict[str, list[float]]:
    """Train on the other windows; return the AUC of each event by its vote and by the vote's members."""
    truth = event[:, None] == np.arange(n_events)
    votes = make_ensemble(features, n_events=n_events, seed=seed, rows=X[~is_test], n_jobs=-1)
    with unconverged_allowed():
        votes.fit(X[~is_test].astype(np.float64), truth[~is_test].astype(np.int64))
    return {
        name: [area_under_roc(truth[is_test, index], values[:, index]) or np.nan for index in range(n_events)]
        for name, values in member_probabilities(votes, X[is_test]).items()
    }


def choose(subject: Subject, windows: Windows, seed: int) -> tuple[str, dict[str, float]]:
    """Return the candidate with the highest mean AUC on series 1 to 6, held out in pairs, and the score of each."""
    kept = windows.series <= LAST_TRAINING_SERIES
    event, series = windows.event[kept], windows.series[kept]
    scores = {}
    for features in CANDIDATES:
        X = compute_features(subject, windows, features)[kept]
        parts = [score(X, event, np.isin(series, fold), len(subject.event_names), features, seed) for fold in FOLDS]
        scores[features] = float(np.mean([part["probability"] for part in parts]))
    return max(scores, key=lambda name: scores[name]), scores


def evaluate(subject: Subject, features: str, seed: int) -> dict[str, object]:
    """Score one subject, with both controls."""
    windows = cut_windows(subject, subject.signal)
    tried: dict[str, float] = {}
    if features == "auto":
        features, tried = choose(subject, windows, seed)
    n_events, is_test = len(subject.event_names), windows.series > LAST_TRAINING_SERIES
    aucs = score(compute_features(subject, windows, features), windows.event, is_test, n_events, features, seed)
    clock = score(windows.start_s[:, None].astype(np.float32), windows.event, is_test, n_events, "power", seed)
    rng = np.random.default_rng(seed)
    scrambled = []
    for _ in range(N_SURROGATES):
        parts = [phase_randomise(subject.signal[:, subject.series == one], rng) for one in np.unique(subject.series)]
        surrogate = cut_windows(subject, np.concatenate(parts, axis=1))
        X = compute_features(subject, surrogate, features)
        scrambled.append(score(X, windows.event, is_test, n_events, features, seed)["probability"])
    by_event = dict(zip(subject.event_names, aucs["probability"], strict=True))
    return {
        **by_event,
        "all": float(np.mean(aucs["probability"])),
        "features": features,
        "tried": tried,
        "members": {name: float(np.mean(values)) for name, values in aucs.items() if name != "probability"},
        "controls": {
            "clock": float(np.mean(clock["probability"])),
            "phase_randomised": float(np.mean(scrambled)),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="eeg_gal_windows files, one a subject")
    parser.add_argument("--features", default="mrcp+wide", help="as streamdetect train; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every figure")
    options = parser.parse_args(arguments)
    subjects, scores = [read_subject(path) for path in options.files], {}
    for subject in subjects:
        scores[subject.name] = evaluate(subject, options.features, options.seed)
    event_names = [*subjects[0].event_names, "all"]
    mean = {name: float(np.mean([each[name] for each in scores.values()])) for name in event_names}
    table = Table("AUC", *scores, "mean", box=None)
    for name in event_names:
        table.add_row(name, *(f"{each[name]:.3f}" for each in scores.values()), f"{mean[name]:.3f}")
    for group in ("members", "controls"):
        for name in next(iter(scores.values()))[group]:
            values = [each[group][name] for each in scores.values()]
            table.add_row(f"all, {name}", *(f"{value:.3f}" for value in values), f"{np.mean(values):.3f}")
    table.add_row("features", *(each["features"] for each in scores.values()), "")
    Console().print(table)
    if options.json:
        document = {"subjects": scores, "mean": mean}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except StreamdetectError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
