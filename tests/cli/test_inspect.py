from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models import make_metadata, make_model
from streamdetect.cli.inspect import inspect
from streamdetect.errors import InputError, ModelError
from streamdetect.scoring.metrics import score
from streamdetect.stages.metadata import ModelMetadata

CHANNELS = ("Fp1", "C3", "Cz", "C4", "O1")
PATTERNS = {
    "lda": {"HandStart": (0.1, 1.0, 0.2, -4.0, 0.0)},
    "rf": {"HandStart": (0.1, 0.2, 0.2, 0.5, 0.0)},
    "lr": {"HandStart": (0.1, 1.0, 0.2, -2.0, 0.0)},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from outcomes import simulate_outcomes

    scores = {"protocol": "held-out", **score(simulate_outcomes(("HandStart",), seconds=60), {"HandStart": 0.5})}
    folder = tmp_path_factory.mktemp("model")
    return make_model(folder / "tiny.onnx", ch_names=CHANNELS, patterns=PATTERNS, scores=scores)


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    app.command()(inspect)
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_prints_all_that_the_file_says(model: Path) -> None:
    lines = run(model).splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 100
    for expected in (
        "sampling rate 250 Hz",
        "5: Fp1 C3 Cz C4 O1",
        "log10 of the average power in 0-30 Hz (order 4), referenced as recorded; window 50 samples (0.2 s)",
        "hop 5 samples (0.02 s)",
        "HandStart HandStart 0.5123 0.04 s 1 s",
        "C4 -1.00, C3 +0.25, Cz +0.05",
        "C4 1.00",
        "a.csv 9 0000000000000000",
        "numpy",
        "Scores, held-out",
    ):
        assert expected in text


def test_json_is_the_metadata_document(model: Path, tmp_path: Path) -> None:
    document = run(model, "--json", "-")
    metadata = ModelMetadata.from_json(document)
    assert metadata.ch_names == CHANNELS  # and the tables went to stderr
    assert "sampling rate" in run(model, "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads(document)


def test_figure_is_written(model: Path, tmp_path: Path) -> None:
    run(model, "--figure", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_model_without_scores_and_patterns_says_so(tmp_path: Path) -> None:
    text = run(make_model(tmp_path / "bare.onnx"))
    assert make_metadata().scores == {}
    assert "holds no scores" in text
    assert "Strongest" not in text


def test_faults_of_the_user_are_input_errors(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx"):
        run(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"--figure .*maps\.xyz: expected a name that ends in one of"):
        run(model, "--figure", tmp_path / "maps.xyz")
    with pytest.raises(InputError, match=r"maps\.png: cannot be written"):
        run(model, "--figure", tmp_path / "no folder" / "maps.png")
    with pytest.raises(InputError, match=r"m\.json: cannot be written"):
        run(model, "--json", tmp_path / "no folder" / "m.json")
