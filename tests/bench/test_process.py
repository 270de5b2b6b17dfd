import numpy as np
import pytest

from streamdetect.bench.process import peak_bytes, run_measured


def test_memory_of_this_process_is_not_its_child_s(tmp_path):
    ballast = np.ones(100_000_000)  # 0.8 GB
    figures = run_measured("json_writer", [], tmp_path / "f.json")
    assert peak_bytes() > ballast.nbytes
    assert figures["json"] == {"done": True}
    assert 0.005 < figures["peak_gb"] < 0.4
    assert figures["seconds"] > 0


def test_a_command_that_fails_is_no_figure(tmp_path):
    with pytest.raises(RuntimeError, match="--fail ended with code 3"):
        run_measured("json_writer", ["--fail"], tmp_path / "f.json")


@pytest.fixture(autouse=True)
def json_writer(tmp_path, monkeypatch):
    """A module that writes a figure, where the child finds it."""
    (tmp_path / "json_writer.py").write_text(
        "import json, pathlib, sys\n"
        "if '--fail' in sys.argv: sys.exit(3)\n"
        "pathlib.Path(sys.argv[sys.argv.index('--json') + 1]).write_text(json.dumps({'done': True}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
