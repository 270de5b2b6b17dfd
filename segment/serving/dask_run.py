"""The blocks of a run on Dask: which are under way, which are tried again, which failed.

It needs the extra ``cluster``.
"""

from __future__ import annotations

import asyncio
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, TypeVar

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from segment.errors import InputError, VolumeError
from segment.serving.dask_job import Job, Unfit, run_block

R = TypeVar("R")

IN_FLIGHT = 2  # futures for each block that a worker has in hand: the next is there when one is done
WAIT_S = 0.1  # how long a wish to stop may go unseen
LOOK_S = 1.0  # between two looks at who the workers are
LOCAL_GONE_S = 60.0  # a local worker that died is back within a few seconds


def connection_lost(where: str) -> InputError:
    """Return what ends a run whose scheduler is gone."""
    return InputError(f"{where}: the connection to the scheduler was lost; start it again, and then the run")


@dataclass(frozen=True)
class _Flight:
    """A block that the scheduler has."""

    index: int
    future: Future
    alone: bool  # nothing else is in flight


@dataclass(frozen=True)
class _Ended:
    """A future came to its end."""

    key: str
    record: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class _WorkerLost:
    """A worker died, and what it had in hand."""

    address: str
    keys: frozenset[str]


class Run(Generic[R]):
    """The blocks of one run that are under way or went wrong."""

    def __init__(
        self,
        client: Client,
        where: str,
        is_local: bool,
        on_done: Callable[[int, R], None],
        cancelled: Callable[[], bool],
        attempts: int,
        on_retry: Callable[[int, str], None] | None,
        remark: Callable[[str], None],
    ) -> None:
        self.failed: dict[int, str] = {}
        self.suspects: deque[int] = deque()
        self._client = client
        self._where = where
        self._is_local = is_local
        self._on_done = on_done
        self._cancelled = cancelled
        self._attempts = attempts
        self._on_retry = on_retry or (lambda index, message: None)
        self._remark = remark
        self._job = f"segment-{uuid.uuid4().hex[:8]}"
        self._n_submitted = count()
        self._news: queue.SimpleQueue[_Ended | _WorkerLost] = queue.SimpleQueue()  # from the client's own thread
        self._in_flight: dict[str, _Flight] = {}
        self._again: deque[int] = deque()
        self._tries: dict[int, int] = {}
        self._workers: dict[str, int] = {}
        self._looked = -LOOK_S
        self._none_since: float | None = None
        self._sent_away: set[str] = set()

    @contextmanager
    def job(self, job: Job) -> Iterator[None]:
        """Give the job to all workers, and take it back in the end."""
        self._client.subscribe_topic("all", self._hear)
        try:
            self._client.register_plugin(job, name=self._job)
            yield
        finally:
            with suppress(OSError, RuntimeError):  # the latter from a client that has closed: its scheduler is gone
                self._client.cancel([flight.future for flight in self._in_flight.values()])
                self._client.unsubscribe_topic("all")
                if not self._is_local:
                    self._client.unregister_worker_plugin(self._job)

    def wait_for_workers(self) -> bool:
        """Wait until there is a worker; return whether there is one, and the user still wants the run."""
        while not self._cancelled():
            self._look()
            if self._workers:
                return True
            time.sleep(WAIT_S)
        return False

    def drive(self, indices: Iterable[int], alone: bool = False) -> None:
        """Run blocks until all are done or failed, with a few in flight."""
        remaining = iter(indices)
        while not self._cancelled():
            self._look()
            if not self._fill(remaining, alone) and not self._in_flight and self._workers:
                return
            for news in self._hear_news():
                self._take(news)

    def _look(self) -> None:
        """See who the workers are: they may come and go."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        self._workers = {name: n for name, n in self._client.nthreads().items() if name not in self._sent_away}
        if self._workers:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            self._remark(f"{self._where}: no workers; waiting for some")
        elif self._is_local and now - self._none_since > LOCAL_GONE_S:
            raise InputError(f"{self._where}: the workers died and do not come back; try fewer, memory may be short")

    def _fill(self, remaining: Iterator[int], alone: bool) -> bool:
        """Submit blocks as long as there is room; return whether there was one to submit."""
        room = min(1, len(self._workers)) if alone else IN_FLIGHT * sum(self._workers.values())
        batch = self._next(remaining, room - len(self._in_flight))
        if not batch:
            return False
        keys = [f"{self._job}-{index}-{next(self._n_submitted)}" for index in batch]
        futures = self._client.map(run_block, [self._job] * len(batch), batch, key=keys, pure=False)
        loop = self._client.loop
        assert loop is not None
        for key, index, future in zip(keys, batch, futures, strict=True):
            self._in_flight[key] = _Flight(index, future, alone)
            loop.add_callback(self._await, key, future)
        return True

    def _next(self, remaining: Iterator[int], n: int) -> list[int]:
        """Take up to n blocks, those first that are tried again."""
        n = max(0, n)  # workers may have left
        batch = [self._again.popleft() for _ in range(min(n, len(self._again)))]
        return [*batch, *islice(remaining, n - len(batch))]

    async def _await(self, key: str, future: Future) -> None:
        """Tell how a future ended; in the client's thread, so that nobody waits for a record that was lost."""
        try:
            self._news.put(_Ended(key, record=await future))
        except (Exception, asyncio.CancelledError) as error:
            self._news.put(_Ended(key, error=error))

    def _hear(self, event: tuple[float, Any]) -> None:
        """Note which blocks a worker took with it; in the client's thread."""
        _, message = event
        if message.get("action") == "remove-worker" and not message["expected"]:
            self._news.put(_WorkerLost(message["worker"], frozenset(message["processing-tasks"])))

    def _hear_news(self) -> Iterator[_Ended | _WorkerLost]:
        """Yield what happened, after a short wait where nothing did."""
        with suppress(queue.Empty):
            yield self._news.get(timeout=WAIT_S)
            while True:
                yield self._news.get_nowait()

    def _take(self, news: _Ended | _WorkerLost) -> None:
        """Draw the consequences of what happened."""
        if isinstance(news, _WorkerLost):
            lost = [self._in_flight.pop(key) for key in news.keys & self._in_flight.keys()]
            if lost:
                self._client.cancel([flight.future for flight in lost])
                self._remark(f"worker {news.address} was lost; what it had in hand goes to others")
            for flight in lost:
                self._died(flight)
            return
        if news.key not in self._in_flight:  # given up here, when its worker died
            return
        flight = self._in_flight.pop(news.key)
        error = news.error
        if error is None:
            self._tries.pop(flight.index, None)
            self._on_done(flight.index, news.record)
        elif isinstance(error, asyncio.CancelledError):
            raise connection_lost(self._where)
        elif isinstance(error, KilledWorker):
            self._died(flight)
        elif isinstance(error, Unfit):
            self._send_away(*error.args)
            self._again.append(flight.index)
        elif isinstance(error, InputError) and not isinstance(error, VolumeError):
            raise error  # no other block would fare better
        else:
            message = str(error) if isinstance(error, VolumeError) else f"{type(error).__name__}: {error}"
            self._retry_or_fail(flight.index, self._tries.get(flight.index, 0) + 1, message)

    def _died(self, flight: _Flight) -> None:
        """Try a block again whose worker died; alone where this is its last chance."""
        tries = self._tries.get(flight.index, 0) + 1
        message = "the worker that ran it died"
        if not flight.alone and tries >= self._attempts - 1:
            self._tries[flight.index] = self._attempts - 1
            self._on_retry(flight.index, message)
            self.suspects.append(flight.index)
        else:
            self._retry_or_fail(flight.index, tries, message)

    def _retry_or_fail(self, index: int, tries: int, message: str) -> None:
        """Count an attempt, and put the block where it belongs."""
        if tries < self._attempts:
            self._tries[index] = tries
            self._on_retry(index, message)
            self._again.append(index)
        else:
            self._tries.pop(index, None)
            self.failed[index] = f"{message} ({tries} attempt{'s' if tries > 1 else ''})"

    def _send_away(self, address: str, refusal: str) -> None:
        """End a worker that would fail every block that it gets."""
        if address in self._sent_away:
            return
        self._sent_away.add(address)
        self._workers.pop(address, None)
        self._remark(f"{refusal}; it is sent away")
        self._client.retire_workers([address])
