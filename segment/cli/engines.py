"""What runs over the blocks of ``segment instances`` and ``segment measure``, and shows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streamdetect.cli.console import needs_extra, progress
from streamdetect.cli.interrupt import stop_on_signal

if TYPE_CHECKING:
    from segment.objects.blocks import Engine, OnProgress

Result = TypeVar("Result")

N_THREADS = 2  # blocks at a time in this process: one is read or written while another is worked on

Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Share the blocks among N processes on this machine.", min=1)
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDR", help="Share the blocks among the workers of a Dask scheduler.")
]


def choose_engine(workers: int | None, scheduler: str | None) -> Engine:
    """Return what runs over the blocks: this process, some of this machine, or those of a cluster.

    Raises
    ------
    InputError
        Both are given.
    """
    from streamdetect.errors import InputError

    if workers is not None and scheduler is not None:
        raise InputError("--workers and --scheduler: expected one of them")
    if workers is None and scheduler is None:
        from segment.serving.blockwise import run_here

        return partial(run_here, n_threads=N_THREADS)
    with needs_extra("cluster"):
        from segment.serving.distribute import run_on_dask

    def run_until_stopped(
        function: Callable[[int], Result],
        indices: Iterable[int],
        *,
        on_done: Callable[[int, Result], None],
        cancelled: Callable[[], bool],
    ) -> dict[int, str]:
        """Let Dask's processes end in good order before the command is interrupted."""
        with stop_on_signal() as stop:
            failed = run_on_dask(
                function,
                indices,
                on_done=on_done,
                cancelled=lambda: stop.is_set() or cancelled(),
                workers=workers,
                scheduler=scheduler,
                threads=N_THREADS,
            )
        if stop.is_set():
            raise KeyboardInterrupt
        return failed

    return run_until_stopped


@contextmanager
def block_progress() -> Iterator[OnProgress]:
    """Show a bar for each step over the blocks."""
    with progress() as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
