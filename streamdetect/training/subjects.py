"""Cross-validation of many subjects, each on its own, on the cores of this machine or on a Dask cluster."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from streamdetect.errors import InputError, MissingExtraError, StreamdetectError
from streamdetect.events import check_events, default_events
from streamdetect.scoring.luck import verdicts
from streamdetect.sources.recording import give_duration, read_recording
from streamdetect.training.choose import make_trainers
from streamdetect.training.protocols import score_held_out
from streamdetect.training.trainer import TrainingSettings
from streamdetect.training.windows import choose_channels

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 5.0  # a scheduler in the same building answers in milliseconds
WORKERS_S = 30.0  # a cluster that grows on demand starts a worker meanwhile
_PACKAGES = ("streamdetect", "numpy", "scipy", "scikit-learn", "mne")  # that a score may depend on


@dataclass(frozen=True)
class Plan:
    """What is done with each subject.

    Parameters
    ----------
    settings : TrainingSettings
        Without events every event of the subject's recordings is taken.
    channels, exclude : tuple of str
        Channels to take, all if empty, and to leave out.
    event_duration_s : float or None
        How long events last that the recordings give no duration, in s.
    with_controls : bool
        Also score the two controls.
    """

    settings: TrainingSettings
    channels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    event_duration_s: float | None = None
    with_controls: bool = True


@dataclass(frozen=True)
class Failure:
    """Why a subject has no score."""

    reason: str


_Result = tuple[str, dict[str, Any] | Failure]


def evaluate_subject(paths: Sequence[Path], plan: Plan) -> dict[str, Any] | Failure:
    """Cross-validate one subject on a single core.

    Parameters
    ----------
    paths : sequence of Path
        The subject's recordings.
    plan : Plan

    Returns
    -------
    dict or Failure
        What ``evaluate --json`` writes of these recordings alone; a failure where they allow no score.

    Notes
    -----
    Subjects are the parallel part: whatever would take more cores inside takes one, so that the cores are not
    oversubscribed.
    """
    with threadpool_limits(1, "blas"):
        try:
            recordings = [give_duration(read_recording(path), plan.event_duration_s) for path in paths]
            events = plan.settings.events or default_events(recordings)
            check_events(recordings, events)
            settings = replace(plan.settings, events=events, n_jobs=1)
            ch_names = choose_channels(recordings, plan.channels, plan.exclude)
            trainers = make_trainers(ch_names, recordings[0].info.sfreq, settings)
            scores, outcomes, controls = score_held_out(
                trainers, recordings, lambda one: one.label(recordings), with_controls=plan.with_controls
            )
        except StreamdetectError as error:
            return Failure(str(error))
        luck = verdicts(outcomes, seed=settings.seed)
    return scores | {"controls": controls, "luck": {name: each.figures() for name, each in luck.items()}}


def evaluate_subjects(
    subjects: Mapping[str, Sequence[Path]],
    plan: Plan,
    *,
    n_jobs: int = 1,
    scheduler: str | None = None,
    on_subject: Callable[[str], None] = lambda name: None,
    warn: Callable[[str], None] = lambda message: None,
) -> dict[str, dict[str, Any] | Failure]:
    """Cross-validate each subject on its own.

    Parameters
    ----------
    subjects : mapping of str to sequence of Path
        The recordings of each subject.
    plan : Plan
    n_jobs : int
        Cores of this machine to use, one a subject; not used with ``scheduler``.
    scheduler : str or None
        Address of a Dask scheduler, to run on its workers; they must see the recordings under the same absolute paths.
    on_subject : callable
        Called with each subject's name when it is done.
    warn : callable
        Called with a line where a worker has other versions than this machine.

    Returns
    -------
    dict
        For each subject, in the order given, what `evaluate_subject` returns: the same whatever the number of cores.

    Raises
    ------
    InputError
        No scheduler answers, it has no worker, or a worker cannot run this or died.
    MissingExtraError
        ``scheduler`` is given, and Dask is not installed.
    """
    paths = {name: [path.absolute() for path in own] for name, own in subjects.items()}
    results = _on_cores(paths, plan, n_jobs) if scheduler is None else _on_cluster(paths, plan, scheduler, warn)
    found = {}
    for name, result in results:
        found[name] = result
        on_subject(name)
    return {name: found[name] for name in subjects}


def _evaluate_named(name: str, paths: Sequence[Path], plan: Plan) -> _Result:
    return name, evaluate_subject(paths, plan)


def _on_cores(subjects: Mapping[str, Sequence[Path]], plan: Plan, n_jobs: int) -> Iterator[_Result]:
    """Yield what each subject gave, as it comes, from processes of this machine."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    run = Parallel(n_jobs, batch_size=1, return_as="generator_unordered")
    try:
        yield from run(delayed(_evaluate_named)(name, own, plan) for name, own in subjects.items())
    except BrokenProcessPool as error:
        raise InputError(
            f"--jobs {n_jobs}: a process died, as where memory runs out; give fewer, each needs that of a training"
        ) from error


def _on_cluster(
    subjects: Mapping[str, Sequence[Path]], plan: Plan, scheduler: str, warn: Callable[[str], None]
) -> Iterator[_Result]:
    """Yield what each subject gave, as it comes, from a Dask cluster.

    Not through joblib, which runs everything here where the cluster has one core so far, as one that grows on demand.
    """
    try:
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm import CommClosedError
    except ImportError as error:
        raise MissingExtraError(error.name or "distributed", "cluster") from error
    try:
        with _connect(scheduler) as client:
            _check_versions(client, scheduler, warn)
            futures = client.map(_evaluate_named, list(subjects), list(subjects.values()), plan=plan, pure=False)
            names = dict(zip(futures, subjects, strict=True))
            for future in as_completed(futures, loop=client.loop):
                try:
                    yield future.result()
                except KilledWorker:
                    yield (
                        names[future],
                        Failure("its worker died several times, as where memory runs out; give it more"),
                    )
    except (CancelledError, CommClosedError) as error:
        raise InputError(f"--scheduler {scheduler}: the connection was lost; start again once it is there") from error


@contextmanager
def _connect(scheduler: str) -> Iterator[Client]:
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what went wrong is said below, in one line
    try:
        kind = asyncio.run(_ask_kind(scheduler))
    except Exception as error:  # whatever else answers there makes Dask stumble in its own way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"--scheduler {scheduler}: expected the address of a Dask scheduler, such as tcp://host:8786, found none "
            f"({reason}); start one with  dask scheduler"
        ) from error
    if kind != "Scheduler":
        raise InputError(f"--scheduler {scheduler}: expected a Dask scheduler, found a {kind}; give its scheduler")
    with warnings.catch_warnings():  # the versions that matter for a score are compared below
        warnings.simplefilter("ignore")
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    with client:
        yield client


async def _ask_kind(address: str) -> str:
    """Ask what listens at an address, before a client that hangs for ten seconds where nobody does."""
    from distributed.core import rpc

    async with rpc(address, timeout=CONNECT_S) as there:
        return (await asyncio.wait_for(there.identity(), CONNECT_S))["type"]


def _check_versions(client: Client, scheduler: str, warn: Callable[[str], None]) -> None:
    """Refuse workers without this package, and warn of those with another version of something that matters."""
    try:  # a task, since a cluster that grows on demand waits for one
        client.submit(platform.python_version, pure=False).result(timeout=WORKERS_S)
    except TimeoutError as error:
        raise InputError(
            f"--scheduler {scheduler}: no worker has come for {WORKERS_S:g} s; start some with  dask worker {scheduler}"
        ) from error
    here = _versions()
    answers = client.run(_versions, on_error="return")
    for worker, there in answers.items():
        if isinstance(there, OSError):  # gone since; Dask gives its subjects to others
            continue
        if isinstance(there, Exception):
            raise InputError(
                f"--scheduler {scheduler}: the worker {worker} cannot run this ({there}); install the same "
                "streamdetect[train,cluster] there"
            )
        other = [
            f"{name} {there.get(name)} (here {number})" for name, number in here.items() if there.get(name) != number
        ]
        if other:
            warn(f"the worker {worker} has {', '.join(other)}: scores may differ in their last digits")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _PACKAGES}
