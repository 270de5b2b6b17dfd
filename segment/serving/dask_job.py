"""What a Dask worker keeps of a run, and how it computes a block. It needs the extra ``cluster``."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from distributed import Status, Worker, WorkerPlugin, get_worker

from segment.errors import InputError
from segment.serving.versions import DECISIVE, name_difference, own_versions

SETTLE_S = 1.0  # a nanny brings back only a worker that it has seen running; it looks 20 times a second


class Job(WorkerPlugin):
    """What a worker process keeps between blocks; one that joins later gets it too."""

    def __init__(
        self,
        function: Callable[[int], Any],
        probe: Callable[[], None] | None,
        versions: dict[str, str | None],
        ignores_interrupt: bool,
    ) -> None:
        self.function = function
        self.probe = probe
        self.versions = versions
        self.ignores_interrupt = ignores_interrupt
        self.refusal: str | None = None
        self.starts_at = 0.0

    def setup(self, worker: Worker) -> None:
        """Look whether this worker is fit for the job."""
        if worker.status != Status.running:
            self.starts_at = time.monotonic() + SETTLE_S
        if self.ignores_interrupt:  # Ctrl-C reaches the whole process group: the client decides what ends
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            difference = name_difference(self.versions, own_versions(), DECISIVE)
            if difference is not None:
                raise InputError(difference)
            if self.probe is not None:
                self.probe()
        except (InputError, OSError) as error:
            self.refusal = f"worker {worker.address}: {error}"
            raise InputError(self.refusal) from error


class Unfit(Exception):
    """A worker that joined later does not fit."""


def run_block(job: str, index: int) -> Any:
    """Compute a block on a worker."""
    worker = get_worker()
    plugin = worker.plugins[job]
    assert isinstance(plugin, Job)
    if plugin.refusal is not None:
        raise Unfit(worker.address, plugin.refusal)
    time.sleep(max(0.0, plugin.starts_at - time.monotonic()))
    return plugin.function(index)
