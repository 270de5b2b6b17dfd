"""The examples for SLURM, as a user runs them, with an ``sbatch`` that runs jobs here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from volume_files import read_volume, write_volume

from networks import make_pointwise
from waiting import BOUND_S, wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "slurm"


@pytest.fixture
def slurm(tmp_path):
    """Return the environment of a machine with SLURM, and where its jobs are noted."""
    bin_, jobs = tmp_path / "bin", tmp_path / "jobs"
    bin_.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "scancel"):
        command = bin_ / name
        command.write_text((Path(__file__).parent / "fake_slurm.py").read_text())
        command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(bin_), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "FAKE_SLURM": str(jobs),
        "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",  # as a user's ~/.config/dask/jobqueue.yaml would say
    }
    yield environment, jobs
    for file in jobs.glob("*.pid"):  # of a test that failed
        if psutil.pid_exists(pid := int(file.read_text())):
            psutil.Process(pid).kill()


@pytest.fixture
def run(tmp_path):
    """Return the arguments of a run, and the mask that it should give."""
    z, y, x = np.ogrid[:16, :40, :40]
    values = (128 + 100 * np.sin(z / 3) * np.sin(y / 4) * np.sin(x / 5)).astype(np.uint8)
    write_volume(tmp_path / "image.tif", values)
    make_pointwise(tmp_path / "dark.onnx")
    arguments = [
        *("image.tif", "mask.ome.zarr", "--model", "dark.onnx", "--device", "cpu"),
        *("--tile", "32", "--threshold", "0.5"),
    ]
    subprocess.run(
        [sys.executable, "-m", "segment.cli.main", "predict", arguments[0], "here.ome.zarr", *arguments[2:]],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return arguments, read_volume(tmp_path / "here.ome.zarr")


def test_the_job_array(slurm, run, tmp_path):
    environment, jobs = slurm
    arguments, expected = run
    submitted = subprocess.run(
        ["sbatch", "--array=0-1", EXAMPLES / "array.sh", *arguments],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert submitted.stdout == "Submitted batch job 1\n"
    record = tmp_path / "mask.ome.zarr.run.json"
    wait_until(lambda: "wrote" in "".join(log.read_text() for log in jobs.glob("1_*.log")))
    assert sorted(log.name for log in jobs.glob("*.log")) == ["1_0.log", "1_1.log"]
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.ome.zarr"), expected)
    assert 0 < np.count_nonzero(expected) < expected.size
    assert json.loads(record.read_text())["num_shards"] == 2
    assert not (tmp_path / "mask.ome.zarr.run").exists()


def test_the_dask_workers(slurm, run, tmp_path):
    pytest.importorskip("dask_jobqueue", reason='needs the extra "cluster"')
    environment, jobs = slurm
    arguments, expected = run
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "dask_workers.py", "--jobs", "1", "--cpus", "2", *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "distributed" not in ended.stderr
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.ome.zarr"), expected)
    record = json.loads((tmp_path / "mask.ome.zarr.run.json").read_text())
    assert record["scheduler"].startswith("tcp://127.0.0.1:")
    script = (jobs / "1.script").read_text()
    assert "#SBATCH --cpus-per-task=2\n" in script
    assert "--nthreads 3" in script
    assert "\nexport MALLOC_TRIM_THRESHOLD_=67108864 MALLOC_MMAP_THRESHOLD_=4194304\n" in script
    assert (jobs / "1.cancelled").exists()
    wait_until(lambda: not psutil.pid_exists(int((jobs / "1.pid").read_text())))
