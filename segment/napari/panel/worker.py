"""A thread beside the viewer's, which tells how far it is and can be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from segment.serving.predict import Cancelled

Work = Callable[[Callable[[int, int], None], Callable[[], bool]], Any]


class _Signals(WorkerBaseSignals):
    progressed = Signal(object, object)  # done, in all; numbers of voxels do not fit a Qt int


class Worker(WorkerBase):
    """Runs a function in a thread; ``quit()`` gives it up, which napari does too when it closes.

    Parameters
    ----------
    work : callable
        ``work(on_progress, cancelled)`` returns the result, which the signal `returned` carries; ``progressed`` carries
        what it tells `on_progress`, and ``errored`` what it raises.
    """

    def __init__(self, work: Work) -> None:
        super().__init__(SignalsClass=_Signals)
        self._work = work

    def work(self) -> Any:
        """Do the work; called in the thread."""
        try:
            return self._work(self.progressed.emit, lambda: self.abort_requested)
        except Cancelled:
            return None  # which nobody receives, as it was asked to quit
