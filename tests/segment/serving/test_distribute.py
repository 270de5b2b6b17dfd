"""Blocks on real workers that are killed, do not fit, or are not there."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial

import psutil
import pytest
from block_jobs import Job, Probe, count

from segment.errors import InputError
from segment.serving import distribute
from segment.serving.dask_run import IN_FLIGHT
from segment.serving.distribute import run_on_dask
from segment.serving.versions import own_versions
from waiting import BOUND_S, wait_until

INTERRUPTED = """
import logging
import sys
from pathlib import Path
from block_jobs import Waits
from segment.serving.distribute import run_on_dask
from streamdetect.cli.interrupt import stop_on_signal

if __name__ == "__main__":
    logging.basicConfig()  # as the command line does
    never, probed = map(Path, sys.argv[1:])
    with stop_on_signal() as stop:
        failed = run_on_dask(
            Waits(never), range(10**6), on_done=print, cancelled=stop.is_set, workers=2, probe=probed.touch
        )
    print("stopped", failed)
"""


def _never():
    return False


def _ignore(index, record):
    pass


class Counted:
    """Indices that tell how far they were taken."""

    def __init__(self, n):
        self.n_taken = 0
        self._n = n

    def __iter__(self):
        for index in range(self._n):
            self.n_taken += 1
            yield index


class Started:
    """A scheduler of Dask and its workers, as a user starts them."""

    def __init__(self, folder):
        self._file = folder / "scheduler.json"
        self._folder = folder
        self._processes = []
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--scheduler-file", self._file, "--dashboard-address", "127.0.0.1:0",
            "--no-dashboard",
        )  # fmt: skip
        wait_until(lambda: self._file.exists() and self._file.read_text().endswith("}"))
        self.address = json.loads(self._file.read_text())["address"]

    def add_worker(self, **environment):
        return self._start(
            "worker", "--nthreads", "2", "--no-dashboard", "--memory-limit", "0", "--local-directory", self._folder,
            self.address, **environment,
        )  # fmt: skip

    def stop(self):
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    def _start(self, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", arguments[0], "--host", "127.0.0.1", *map(str, arguments[1:])],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Started(tmp_path_factory.mktemp("cluster"))
    started.add_worker()
    try:
        yield started
    finally:
        started.stop()


# --- local workers


@pytest.fixture(scope="module")
def local_run(tmp_path_factory):
    """40 blocks on two local workers, of which some are damaged."""
    folder = tmp_path_factory.mktemp("local")
    indices = Counted(40)
    seen = {"done": {}, "open": [], "retried": [], "threads": set()}

    def on_done(index, record):
        seen["done"][index] = record
        seen["open"].append(indices.n_taken - len(seen["done"]))
        seen["threads"].add(threading.current_thread())

    seen["failed"] = run_on_dask(
        Job(folder, raises=(5,), raises_once=(7,)),
        indices,
        on_done=on_done,
        cancelled=_never,
        workers=2,
        threads=2,
        on_retry=lambda index, message: seen["retried"].append((index, message)),
        probe=Probe(folder),
    )
    return seen, folder


def test_each_block_is_done_once(local_run):
    seen, folder = local_run
    assert sorted(seen["done"]) == [index for index in range(40) if index != 5]
    assert all(record["index"] == index for index, record in seen["done"].items())
    assert [count(folder, f"block-{index}") for index in (0, 5, 7, 39)] == [1, 3, 2, 1]


def test_two_processes_share_the_blocks(local_run):
    seen, _ = local_run
    processes = {record["process"] for record in seen["done"].values()}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_worker_has_several_blocks_in_hand(local_run):
    seen, _ = local_run
    assert len({(record["process"], record["thread"]) for record in seen["done"].values()}) > 2


def test_the_caller_is_told_in_its_own_thread(local_run):
    assert local_run[0]["threads"] == {threading.main_thread()}


def test_few_blocks_are_in_flight(local_run):
    assert 1 <= max(local_run[0]["open"]) <= IN_FLIGHT * 2 * 2  # of two workers with two blocks in hand


def test_the_job_is_sent_once_a_worker(local_run):
    _, folder = local_run
    assert count(folder, "unpickled") == 2
    assert count(folder, "probed") == 2


def test_a_block_that_raises_thrice_failed(local_run):
    seen, _ = local_run
    assert seen["failed"] == {5: "block 5 is damaged (3 attempts)"}
    assert sorted(index for index, _ in seen["retried"]) == [5, 5, 7]
    assert {message for _, message in seen["retried"]} == {"block 5 is damaged", "block 7 is damaged"}


def test_a_block_whose_worker_dies_thrice_failed_and_the_others_are_done(tmp_path):
    done, remarks = {}, []
    failed = run_on_dask(
        Job(tmp_path, dies=(3,)),
        range(9),
        on_done=done.__setitem__,
        cancelled=_never,
        workers=1,
        threads=3,
        on_remark=remarks.append,
    )
    assert failed == {3: "the worker that ran it died (3 attempts)"}
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert count(tmp_path, "block-3") == 3
    assert any("was lost" in remark for remark in remarks)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_workers_too(tmp_path):
    file, probed = tmp_path / "script.py", tmp_path / "probed"
    file.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(file), str(tmp_path / "never"), str(probed)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(probed.exists)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out == "stopped {}\n"
    assert err == ""
    assert len(children) >= 2
    assert not psutil.wait_procs(children, timeout=BOUND_S)[1]


def test_local_workers_keep_small_memory_between_blocks(monkeypatch):
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    found = []
    run_on_dask(
        lambda index: tuple(os.environ[name] for name in names),
        range(2),
        on_done=lambda index, record: found.append(record),
        cancelled=_never,
        workers=1,
    )
    assert found == [("67108864", "4194304")] * 2


# --- a scheduler that somebody else started


def test_it_joins_a_scheduler_waits_for_a_worker_and_leaves_both_running(tmp_path, monkeypatch):
    started = Started(tmp_path)
    remarks = []

    def remark(line):
        remarks.append(line)
        started.add_worker()

    try:
        join = partial(run_on_dask, cancelled=_never, scheduler=started.address)
        done = {}
        assert join(Job(tmp_path), range(20), on_done=done.__setitem__, on_remark=remark) == {}
        assert sorted(done) == list(range(20))
        assert remarks == [f"--scheduler {started.address}: no workers; waiting for some"]
        assert len({record["process"] for record in done.values()}) == 1

        again = {}
        assert join(Job(tmp_path), range(3), on_done=again.__setitem__) == {}
        assert {record["process"] for record in again.values()} == {record["process"] for record in done.values()}

        monkeypatch.setattr(distribute, "CONNECT_S", 2.0)  # that it looks for a scheduler that was lost
        with pytest.raises(InputError, match="connection to the scheduler was lost"):
            join(Job(tmp_path), iter(range(10**6)), on_done=lambda index, record: started.scheduler.kill())
    finally:
        started.stop()


def test_a_worker_that_comes_later_and_does_not_fit_is_sent_away(cluster, tmp_path):
    remarks, done, late = [], {}, []

    def on_done(index, record):
        done[index] = record
        if index == 0:
            late.append(cluster.add_worker(BLIND="1"))

    failed = run_on_dask(
        Job(tmp_path),
        itertools.takewhile(
            lambda _: not any("away" in line for line in remarks), itertools.count()
        ),  # blocks until it is gone
        on_done=on_done,
        cancelled=_never,
        scheduler=cluster.address,
        on_remark=remarks.append,
        probe=Probe(tmp_path),
    )
    late[0].wait(BOUND_S)
    assert failed == {}
    assert sorted(done) == list(range(len(done)))
    assert remarks[-1].endswith(f"{tmp_path}: no such folder; it is sent away")


def test_a_worker_that_sees_nothing_ends_the_run_before_it_begins(cluster, tmp_path):
    def refuse(folder):
        raise InputError(f"{folder}: no such folder")

    with pytest.raises(InputError, match=rf"^worker tcp://127.0.0.1:\d+: {tmp_path}: no such folder$"):
        run_on_dask(
            Job(tmp_path), range(9), on_done=_ignore, cancelled=_never, scheduler=cluster.address,
            probe=partial(refuse, tmp_path),
        )  # fmt: skip
    assert count(tmp_path, "block-0") == 0


def test_what_no_other_block_would_survive_ends_the_run(cluster, tmp_path):
    with pytest.raises(InputError, match=r"^the disk is full$"):
        run_on_dask(
            Job(tmp_path, ends=(2,)), iter(range(10**6)), on_done=_ignore, cancelled=_never, scheduler=cluster.address
        )
    assert count(tmp_path, "block-2") == 1


def test_nothing_is_begun_once_cancelled(cluster, tmp_path):
    done = {}
    failed = run_on_dask(
        Job(tmp_path), iter(range(10**6)), on_done=done.__setitem__, cancelled=lambda: len(done) >= 5,
        scheduler=cluster.address,
    )  # fmt: skip
    assert failed == {}
    assert 5 <= len(done) < 50


@pytest.mark.parametrize("package", ["python", "streamdetect", "onnxruntime", "distributed"])
def test_other_versions_of_what_decides_are_refused(cluster, tmp_path, monkeypatch, package):
    there = own_versions()[package]
    monkeypatch.setattr(distribute, "own_versions", lambda: {**own_versions(), package: "0.0.1"})
    with pytest.raises(InputError, match=f"{package} {there} there and 0.0.1 here") as refusal:
        run_on_dask(Job(tmp_path), range(9), on_done=_ignore, cancelled=_never, scheduler=cluster.address)
    assert "\n" not in str(refusal.value)
    assert count(tmp_path, "block-0") == 0


def test_other_versions_of_the_rest_are_remarked_upon(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(distribute, "own_versions", lambda: {**own_versions(), "zarr": "0.0.1"})
    remarks, done = [], {}
    run_on_dask(
        Job(tmp_path), range(2), on_done=done.__setitem__, cancelled=_never, scheduler=cluster.address,
        on_remark=remarks.append,
    )  # fmt: skip
    assert sorted(done) == [0, 1]
    assert len(remarks) == 1
    assert remarks[0].endswith("there and 0.0.1 here")


# --- nobody there


@pytest.fixture
def mute():
    """Listen where no scheduler is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "tcp://{}:{}".format(*server.getsockname())


def _free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return "tcp://{}:{}".format(*server.getsockname())


def _refusal(monkeypatch, address):
    monkeypatch.setattr(distribute, "CONNECT_S", 0.5)
    with pytest.raises(InputError) as refusal:
        run_on_dask(abs, range(3), on_done=_ignore, cancelled=_never, scheduler=address)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_an_address_where_nobody_answers_is_refused(monkeypatch):
    address = _free_address()
    assert _refusal(monkeypatch, address).startswith(
        f"--scheduler {address}: expected a running Dask scheduler, found nobody"
    )


def test_an_address_where_something_else_listens_is_refused(monkeypatch, mute):
    assert "found nobody" in _refusal(monkeypatch, mute)


@pytest.mark.parametrize("address", ["", "localhost", "http://127.0.0.1:80"])
def test_what_is_no_address_is_refused(monkeypatch, address):
    assert "found no address" in _refusal(monkeypatch, address)


def test_one_of_workers_and_scheduler_is_needed():
    call = partial(run_on_dask, abs, range(3), on_done=_ignore, cancelled=_never)
    with pytest.raises(InputError, match="expected one of them"):
        call()
    with pytest.raises(InputError, match="expected one of them"):
        call(workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="expected 1 or more"):
        call(workers=0)
