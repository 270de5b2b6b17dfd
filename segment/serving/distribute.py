"""Runs one function over the blocks of a volume on Dask's workers: local processes, or a cluster.

It needs the extra ``cluster``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar, cast

import dask
from distributed import Client, LocalCluster
from distributed.core import rpc

from segment.errors import InputError
from segment.serving.dask_job import Job
from segment.serving.dask_run import Run, connection_lost
from segment.serving.versions import ASKED, DECISIVE, TOLERATED, name_difference, own_versions, tidy_versions

R = TypeVar("R")

BLOCKS_IN_HAND = 3  # of a local worker: one is read, one is computed, one is written
CONNECT_S = 10.0
LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # attempts are counted here
    "distributed.admin.low-level-log-length": 10,  # of messages and events kept for Dask's developers
    "distributed.worker.profile.enabled": False,
    # Dask has memory given back to the system at every turn, and to get it again takes a tenth of the time of a block;
    # a process left alone keeps more and more. So: what is below 4 MiB is kept, up to 64 MiB of it. See mallopt(3).
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 64 * 2**20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 4 * 2**20,
}


def run_on_dask(
    function: Callable[[int], R],
    indices: Iterable[int],
    *,
    on_done: Callable[[int, R], None],
    cancelled: Callable[[], bool],
    workers: int | None = None,
    scheduler: str | None = None,
    threads: int | None = None,
    attempts: int = 3,
    on_retry: Callable[[int, str], None] | None = None,
    on_remark: Callable[[str], None] | None = None,
    probe: Callable[[], None] | None = None,
) -> dict[int, str]:
    """Call a function for each block on the workers of a cluster, one future a block.

    Parameters
    ----------
    function : callable
        Takes the index of a block and returns a small record; both can be pickled. It is sent once to each worker,
        which calls it from several threads at once. It must bear being called twice for one index, even at the same
        time: a worker that is only cut off counts as dead.
    indices : iterable of int
        Of the blocks, each once; taken as workers get free.
    on_done : callable
        Told the index and the record of each block that is done, in the thread of the caller.
    cancelled : callable
        Whether the user wants to stop; looked at ten times a second.
    workers : int, optional
        Start so many processes on this machine, and end them afterwards.
    scheduler : str, optional
        In place of that: the address of a running Dask scheduler, as in ``tcp://10.0.0.1:8786``.
    threads : int, optional
        Blocks that a local worker has in hand at once, 3 by default; those of a cluster were told when they started.
    attempts : int
        How often a block is tried.
    on_retry : callable, optional
        Told the index of a block that is tried again, and what went wrong.
    on_remark : callable, optional
        Told in a line what the user should know: no workers yet, a worker lost.
    probe : callable, optional
        Called once on each worker before it gets blocks; raises InputError where the worker cannot see the files.

    Returns
    -------
    dict of int to str
        The blocks that failed for good, and what they said last. When ``cancelled``, those so far.

    Raises
    ------
    InputError
        No scheduler answers or the connection to it is lost; a worker has other versions of what decides the result,
        or fails the probe. Also from the function, unless it is a `VolumeError`: no other block would fare better.

    Notes
    -----
    A worker that dies takes with it all blocks that it has in hand. So the last attempt of a block that lost workers
    is made with no other under way, after all others are done: no block is failed for what its neighbour did.
    """
    if (workers is None) == (scheduler is None):
        raise InputError("--workers or --scheduler: expected one of them")
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: expected 1 or more")
    remark = on_remark or (lambda line: None)
    with _quiet(), _connected(workers, scheduler, threads or BLOCKS_IN_HAND) as client:
        where = f"--scheduler {scheduler}" if scheduler is not None else f"--workers {workers}"
        try:
            run = Run(client, where, workers is not None, on_done, cancelled, attempts, on_retry, remark)
            if not run.wait_for_workers():
                return {}
            _compare_versions(client, remark)
            with run.job(Job(function, probe, own_versions(), ignores_interrupt=workers is not None)):
                run.drive(indices)
                run.drive(list(run.suspects), alone=True)
        except OSError as error:
            if client.status == "running":
                raise
            raise connection_lost(where) from error
        return run.failed


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs of workers that come and go from the user, who is told in a line."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


@contextmanager
def _connected(workers: int | None, scheduler: str | None, threads: int) -> Iterator[Client]:
    """Start a cluster on this machine that ends with the block, or join one that does not."""
    if scheduler is None:
        with dask.config.set(LOCAL_SETTINGS):
            with _out_of_reach():
                local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=threads,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its web server starts all the same
                    memory_limit=0,  # Dask would pause a worker for good whose memory holds a model
                    silence_logs=logging.CRITICAL,
                )
            with local as cluster, Client(cluster, timeout=CONNECT_S, set_as_default=False) as client:
                yield client
        return
    # a Client that finds nobody waits again when it is collected: look first, in a thread that has no event loop yet
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(asyncio.run, _ask_who(scheduler)).result()
    if answer != "Scheduler":
        raise InputError(
            f"--scheduler {scheduler}: expected a running Dask scheduler, found {answer}; give an address as in "
            "tcp://10.0.0.1:8786; a scheduler is started by: dask scheduler"
        )
    with Client(scheduler, timeout=CONNECT_S, set_as_default=False) as client:
        yield client


@contextmanager
def _out_of_reach() -> Iterator[None]:
    """Start processes that inherit Ctrl-C as blocked: it does not reach them; one that comes meanwhile waits."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # which unblocks it as it starts
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


async def _ask_who(address: str) -> str:
    """Return which of Dask's processes answers at an address, or what happens there."""
    try:
        async with rpc(address, timeout=CONNECT_S) as process:
            identity = await asyncio.wait_for(process.identity(n_workers=0), CONNECT_S)
        return str(identity["type"])
    except TimeoutError:
        return "nobody"
    except ValueError as error:
        return f"no address ({error})"
    except (OSError, KeyError) as error:
        return f"nobody ({error})"


def _compare_versions(client: Client, remark: Callable[[str], None]) -> None:
    """Refuse workers whose packages would give another result."""
    mine = own_versions()
    found = cast(dict[str, Any], client.get_versions(packages=list(ASKED)))
    for name, process in (("the scheduler", found["scheduler"]), *found["workers"].items()):
        theirs = tidy_versions(process["packages"])
        difference = name_difference(mine, theirs, DECISIVE)
        if difference is not None:
            raise InputError(f"{name}: {difference}; install the same packages in both places")
    for name, process in found["workers"].items():
        difference = name_difference(mine, tidy_versions(process["packages"]), TOLERATED)
        if difference is not None:
            remark(f"{name}: {difference}")
            return
