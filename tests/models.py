"""A tiny trained model for tests of the stages that run one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamdetect.settings import (
    DecisionSettings,
    EventSettings,
    FeatureSettings,
    FilterSettings,
    HealthSettings,
    PowerSettings,
)
from streamdetect.stages.model import ModelMetadata, Training, TrainingRecording, name_features

EVENTS = ("HandStart", "LiftOff", "Replace")


def make_metadata(
    *,
    ch_names: Sequence[str] = ("C3", "Cz", "C4"),
    sfreq: float = 250.0,
    n_events: int = 1,
    hop_samples: int = 5,
    window_samples: int = 50,
    n_filters: int = 1,
    log: bool = True,
    **changes: object,
) -> ModelMetadata:
    bank = tuple(FilterSettings(None, 30.0 / (1 + index)) for index in range(n_filters))
    features = FeatureSettings("power", (PowerSettings(bank, window_samples, log),), hop_samples)
    names = EVENTS[:n_events]
    fields = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00+00:00",
        "sfreq": sfreq,
        "ch_names": tuple(ch_names),
        "health": HealthSettings(max_gap_samples=round(sfreq), flat_samples=round(sfreq)),
        "features": features,
        "feature_names": name_features(features, ch_names),
        "events": tuple(EventSettings(name, (name,)) for name in names),
        "decisions": tuple(DecisionSettings(0.512345, 2 * hop_samples, round(sfreq)) for _ in names),
        "training": Training(
            recordings=(
                TrainingRecording(name="a.csv", sha256="0" * 64, n_windows=9, n_positive=dict.fromkeys(names, 3)),
            ),
            features="power",
            stride_samples=hop_samples,
            seed=0,
            versions={"numpy": np.__version__},
        ),
    }
    return ModelMetadata(**(fields | changes))


def make_data(n_features: int, n_events: int = 1, *, n_rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping classes: features float32 (n, n_features), labels (n,) or (n, n_events)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n_rows, n_events)) < 0.3).astype(int)
    X = rng.standard_normal((n_rows, n_features)) + labels @ rng.standard_normal((n_events, n_features))
    return X.astype(np.float32), labels[:, 0] if n_events == 1 else labels


def make_model(
    path: Path,
    *,
    ch_names: Sequence[str] = ("C3", "Cz", "C4"),
    sfreq: float = 250.0,
    n_events: int = 1,
    hop_samples: int = 5,
    window_samples: int = 50,
    seed: int = 0,
    n_trees: int = 5,
    **changes: object,
) -> Path:
    """Fit a tiny ensemble on random features, export it to ``path`` and return the path."""
    from streamdetect.training.ensemble import make_ensemble
    from streamdetect.training.export import export_model

    metadata = make_metadata(
        ch_names=ch_names,
        sfreq=sfreq,
        n_events=n_events,
        hop_samples=hop_samples,
        window_samples=window_samples,
        **changes,
    )
    X, y = make_data(len(metadata.feature_names), n_events, seed=seed)
    estimator = make_ensemble("power", n_events=n_events, seed=seed)
    prefix = "rf__" if n_events == 1 else "estimator__rf__"
    estimator.set_params(**{f"{prefix}n_estimators": n_trees}).fit(X, y)
    export_model(estimator, X, metadata, path)
    return path
