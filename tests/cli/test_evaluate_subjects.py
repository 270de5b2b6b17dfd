"""``evaluate --cross-validate`` over several subjects: each on its own, in any number of processes, on a cluster."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mne
import pytest

from recordings import SFREQ, make_recording
from streamdetect.training import subjects as training_subjects

distributed = pytest.importorskip("distributed")

HOW = ("--cross-validate", "--event", "move", "--no-controls")


def write_run(folder, subject, run, *, seed, events=True, seconds=20.0):
    """Write a small recording under a BIDS name."""
    made = make_recording(folder, "made.raw", seed=seed, seconds=seconds)
    data = next(iter(made.chunks(chunk_samples=made.n_times))).data
    raw = mne.io.RawArray(data, mne.create_info(list(made.info.ch_names), SFREQ, "eeg"), verbose="error")
    notes = made.annotations if events else ()
    raw.set_annotations(
        mne.Annotations([n.onset for n in notes], [n.duration for n in notes], [n.description for n in notes])
    )
    path = folder / f"sub-{subject}_task-move_run-{run}_eeg.fif"
    raw.save(path, verbose="error")
    (folder / "made.raw").unlink()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two subjects with two runs each."""
    folder = tmp_path_factory.mktemp("subjects")
    for subject in (2, 10):
        for run in (1, 2):
            write_run(folder, subject, run, seed=10 * subject + run)
    return folder


def local_cluster(n_workers):
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )


@pytest.fixture(scope="module")
def cluster():
    """Two workers over TCP, with the scheduler's address."""
    with local_cluster(2) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def sequential(folder, tmp_path_factory):
    """Figures of both, one after the other in this process."""
    from streamdetect.cli.main import run

    path = tmp_path_factory.mktemp("figures") / "one.json"
    with pytest.raises(SystemExit) as ending:
        run(["evaluate", str(folder), *HOW, "--jobs", "1", "--json", str(path)])
    assert ending.value.code == 0
    return json.loads(path.read_text())


def test_each_subject_scores_as_alone(command, folder, sequential):
    assert list(sequential["subjects"]) == ["sub-2", "sub-10"]
    alone = command("evaluate", *folder.glob("sub-2_*"), *HOW, "--json", "-")
    assert json.loads(alone.out) == sequential["subjects"]["sub-2"]
    aucs = [each["mean"]["auc"] for each in sequential["subjects"].values()]
    assert sequential["mean"]["auc"] == pytest.approx(sum(aucs) / 2)
    assert sequential["mean"]["auc_interval"] == sorted(aucs)
    assert aucs[0] != aucs[1]


def test_more_processes_give_the_same(command, folder, sequential):
    ended = command("evaluate", folder, *HOW, "--jobs", "2", "--json", "-")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == sequential
    assert "sub-10" in ended.err


def test_a_cluster_gives_the_same(command, folder, sequential, cluster, monkeypatch):
    monkeypatch.chdir(folder)  # relative paths must reach workers that run elsewhere
    ended = command("evaluate", ".", *HOW, "--scheduler", cluster, "--json", "-")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == sequential
    assert "warning" not in ended.err


def test_workers_do_the_work_and_other_versions_there_are_said(folder, cluster, monkeypatch):
    here = importlib.metadata.version("numpy")
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3" if name == "numpy" else real(name))
    monkeypatch.setattr(training_subjects, "evaluate_subject", lambda *_: pytest.fail("ran here"))
    subjects = {"a": sorted(folder.glob("sub-2_*"))}
    plan = training_subjects.Plan(training_subjects.TrainingSettings(events=()), with_controls=False)
    warned: list[str] = []
    found = training_subjects.evaluate_subjects(subjects, plan, scheduler=cluster, warn=warned.append)
    assert set(found["a"]["events"]) == {"move", "tap"}  # every event, where none is asked for
    assert len(warned) == 2
    assert all(f"has numpy {here} (here 1.2.3): scores may differ" in line for line in warned)


def test_a_subject_that_fails_is_listed_and_the_others_go_on(command, folder, sequential, tmp_path):
    silent = [write_run(tmp_path, 3, run, seed=run, events=False) for run in (1, 2)]
    good = sorted(folder.glob("sub-2_*"))
    ended = command("evaluate", *good, *silent, *HOW, "--jobs", "1", "--json", tmp_path / "f.json")
    assert ended.code == 3
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["subjects"] == {"sub-2": sequential["subjects"]["sub-2"]}
    assert figures["mean"]["auc"] == figures["subjects"]["sub-2"]["mean"]["auc"]
    assert list(figures["failed"]) == ["sub-3"]
    assert "! sub-3: failed: sub-3_task-move_run-1_eeg.fif" in ended.out


class TestBadInput:
    def test_all_subjects_fail(self, refused, folder):
        line = refused("evaluate", folder, "--cross-validate", "--event", "wave", "--jobs", "1")
        assert "none of the 2 subjects could be scored; the first, sub-2: event wave" in line

    def test_nobody_listens_at_the_address(self, refused, folder, monkeypatch):
        monkeypatch.setattr(training_subjects, "CONNECT_S", 0.5)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
            line = refused("evaluate", folder, *HOW, "--scheduler", address)
        assert f"--scheduler {address}: expected the address of a Dask scheduler" in line

    @pytest.mark.parametrize("address", ["nowhere", "bla://a:1", "127.0.0.1:port"])
    def test_no_address(self, refused, folder, address):
        assert f"--scheduler {address}: expected the address" in refused(
            "evaluate", folder, *HOW, "--scheduler", address
        )

    def test_a_worker_is_no_scheduler(self, refused, folder, cluster):
        with distributed.Client(cluster, set_as_default=False) as client:
            worker = next(iter(client.scheduler_info()["workers"]))
        assert "found a Worker" in refused("evaluate", folder, *HOW, "--scheduler", worker)

    def test_a_scheduler_without_workers(self, refused, folder, monkeypatch):
        monkeypatch.setattr(training_subjects, "WORKERS_S", 0.2)
        with local_cluster(0) as empty:
            line = refused("evaluate", folder, *HOW, "--scheduler", empty.scheduler_address)
        assert "no worker has come for 0.2 s; start some with" in line

    def test_a_pattern_that_is_none(self, refused, folder):
        assert "expected a regular expression" in refused("evaluate", folder, *HOW, "--subject-pattern", "(")

    def test_dask_is_not_installed(self, refused, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert "streamdetect[cluster]" in refused("evaluate", folder, *HOW, "--scheduler", "tcp://127.0.0.1:1")

    def test_options_that_need_cross_validation(self, refused, folder):
        extra = ("--protocol", "random-split", "--scheduler", "tcp://127.0.0.1:1")
        assert "go with --cross-validate" in refused("evaluate", folder, *extra)


def test_event_duration_lengthens_point_events(command, folder):
    paths = sorted(folder.glob("sub-2_*"))
    options = ("--cross-validate", "--event", "tap", "--no-controls", "--json", "-")
    n_positive = []
    for extra in ((), ("--event-duration", "1.2")):
        confusion = json.loads(command("evaluate", *paths, *options, *extra).out)["events"]["tap"]["confusion"]
        n_positive.append(confusion["tp"] + confusion["fn"])
    assert n_positive[1] == pytest.approx(4 * n_positive[0], rel=0.1)  # 0.3 s without


def test_ctrl_c_ends_it_and_leaves_no_process(folder):
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from streamdetect.cli.main import run; run()"
    arguments = ("evaluate", str(folder), "--cross-validate", "--features", "auto", "--jobs", "2")
    running = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + 60
    while len(children.read_text().split()) < 2:
        assert time.monotonic() < deadline
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.strip().splitlines()[-1] == "streamdetect: interrupted"
