"""Real-time scheduling: a process whose threads run before everything else on the machine."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from streamdetect.errors import InputError

# Of 1 to 99. The threads of liblsl do little and must not wait for the main thread, which may be at work for long.
_MAIN_PRIORITY = 1
_THREADS_PRIORITY = 2


def claim_realtime(argument: str = "--realtime") -> None:
    """Have the threads of this process run before all that are not real-time: ``SCHED_FIFO`` of Linux.

    Threads and processes that are started later inherit it: start those first that may wait.

    Parameters
    ----------
    argument : str
        What error messages call the wish.

    Raises
    ------
    InputError
        This is not Linux, or this user may not do that.

    References
    ----------
    The manual page sched(7): `RLIMIT_RTPRIO`, `CAP_SYS_NICE`, and the 5 % of the time that the kernel keeps for others.
    """
    if sys.platform != "linux":
        raise InputError(f"{argument}: only Linux has it; leave it out")
    try:
        for thread in [int(path.name) for path in Path("/proc/self/task").iterdir()]:
            priority = _MAIN_PRIORITY if thread == os.getpid() else _THREADS_PRIORITY
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError as error:
        raise InputError(
            f"{argument}: this user may not ask for real-time scheduling; add a line such as '@audio - rtprio 10' to "
            "/etc/security/limits.d/realtime.conf and log in again, or leave it out"
        ) from error
