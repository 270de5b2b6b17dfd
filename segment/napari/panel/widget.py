"""The panel that segments an image layer."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import psutil
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap
from napari.utils.notifications import notification_manager, show_error
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from segment.napari.layers import as_unsigned, place_like
from segment.napari.panel.form import SettingsForm
from segment.napari.panel.table import ObjectTable
from segment.napari.panel.worker import Work, Worker
from segment.napari.segmentation import Found, Segmented, find_objects, measure_labels, option_words, segment_region
from segment.napari.writer import PROBABILITY_LAYER
from segment.objects.measure import ObjectShape
from streamdetect.errors import StreamdetectError

MIN_VOXELS = 500  # preset: at 5 nm a cube of 40 nm, below which there are only specks
SETTLE_MS = 300  # that the threshold must rest for before objects are found anew
PROGRESS_STEPS = 1000
# From nothing over red to yellow: grey values shine through.
PROBABILITY_COLORS = Colormap(
    [[0.0, 0.0, 0.0, 0.0], [0.9, 0.2, 0.0, 0.5], [1.0, 0.85, 0.2, 0.6]], name="probability", controls=[0.0, 0.5, 1.0]
)


@dataclass(eq=False)
class _Shown:
    """What the viewer shows of the last run."""

    segmented: Segmented
    image: Image
    labels: Labels | None = None
    is_edited: bool = False  # by hand: not to be overwritten


class SegmentWidget(QWidget):
    """Segments an image layer, and adds probabilities, numbered objects and a table of their measures.

    Parameters
    ----------
    napari_viewer : Viewer
        napari gives it to a parameter of this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: Worker | None = None
        self._shown: _Shown | None = None
        self._is_stale = False  # objects must be found anew
        self._started_s = 0.0
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLE_MS)
        self.form = SettingsForm(napari_viewer)
        self.segment, self.cancel = QPushButton("Segment"), QPushButton("Cancel")
        self.bar, self.status = QProgressBar(), QLabel()
        self.threshold, self.min_voxels = QDoubleSpinBox(), QSpinBox()
        self.table = ObjectTable()
        self.measure, self.save = QPushButton("Measure again"), QPushButton("Save as CSV…")
        self._lay_out()
        self._connect()
        self._show_model()
        self._show_busy()

    def _find_objects(self) -> None:
        """Find the objects of the last run anew, at the threshold and the size of the fields."""
        self._is_stale = self._worker is not None
        if self._shown is None or self._is_stale:
            return
        self._run(
            partial(find_objects, self._shown.segmented, self._exact_threshold(), self.min_voxels.value()),
            self._show_objects,
        )

    def _exact_threshold(self) -> float:
        """Return the threshold: the model's to the last digit, where the field shows that one."""
        shown = self.threshold.value()
        metadata = self.form.model.metadata
        model = metadata.threshold if metadata is not None else shown
        return model if abs(model - shown) <= 10 ** -self.threshold.decimals() / 2 else shown

    def _go_to(self, one: ObjectShape) -> None:
        """Show the slice and the place of an object, and select its label."""
        shown = self._shown
        if shown is None or shown.labels is None:
            return
        start = [side.start for side in shown.segmented.task.region]
        centroid = (one.centroid_z_voxel, one.centroid_y_voxel, one.centroid_x_voxel)
        place = shown.labels.data_to_world(np.subtract(centroid, start))
        dims = self._viewer.dims
        world = {dims.ndim - 3 + axis: float(at) for axis, at in enumerate(place)}
        dims.set_point(list(world), list(world.values()))
        center = list(self._viewer.scene.camera.center)
        center[-dims.ndisplay :] = [world.get(axis, 0.0) for axis in dims.displayed]
        self._viewer.scene.camera.center = tuple(center)
        shown.labels.selected_label = one.label

    def event(self, event: QEvent | None) -> bool:
        """Give up the work when the panel is closed; Qt calls it."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._stop()
        return super().event(event)

    def _lay_out(self) -> None:
        self.threshold.setRange(0.0, 1.0)
        self.threshold.setDecimals(3)
        self.threshold.setSingleStep(0.05)
        self.min_voxels.setRange(0, 2**31 - 1)
        self.min_voxels.setValue(MIN_VOXELS)
        self.min_voxels.setSingleStep(100)
        self.min_voxels.setSuffix(" voxels")
        self.bar.setRange(0, PROGRESS_STEPS)
        self.status.setWordWrap(True)
        policy = self.status.sizePolicy()
        policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)  # long paths must not widen the panel
        self.status.setSizePolicy(policy)
        self.threshold.setToolTip("Probability from which a voxel is foreground; objects are found anew at once")
        self.min_voxels.setToolTip("Smaller objects are left out")
        self.measure.setToolTip("Measure the labels as they are now, after changes by hand")
        self.table.setToolTip("Click a row to go to the object, a header to sort")
        objects = QFormLayout()
        objects.addRow("Threshold", self.threshold)
        objects.addRow("At least", self.min_voxels)
        column = QVBoxLayout(self)
        column.addWidget(self.form)
        for row in ((self.segment, self.cancel), (self.measure, self.save)):
            buttons = QHBoxLayout()
            for button in row:
                buttons.addWidget(button)
            column.addLayout(buttons)
            if row[0] is self.segment:
                column.addWidget(self.bar)
                column.addWidget(self.status)
                column.addLayout(objects)
                column.addWidget(self.table, stretch=1)

    def _connect(self) -> None:
        self.form.model.chosen.connect(self._show_model)
        self.form.model.refused.connect(self._complain)
        self.segment.clicked.connect(self._segment)
        self.cancel.clicked.connect(self._stop)
        self.threshold.valueChanged.connect(self._settled.start)
        self.min_voxels.valueChanged.connect(self._settled.start)
        self._settled.timeout.connect(self._find_objects)
        self.table.chosen.connect(self._go_to)
        self.measure.clicked.connect(self._measure)
        self.save.clicked.connect(self._save)

    def _segment(self) -> None:
        try:
            image, task = self.form.layer(), self.form.read_task()
        except StreamdetectError as error:
            self._complain(error)
            return
        free_bytes = psutil.virtual_memory().available
        self._run(partial(segment_region, task, free_bytes), partial(self._show_probability, image))

    def _measure(self) -> None:
        shown = self._shown
        if shown is not None and shown.labels is not None:
            labels = as_unsigned(np.array(shown.labels.data), shown.labels.name)
            self._run(partial(measure_labels, labels, shown.segmented), self._show_measures)

    def _run(self, work: Work, then: Any) -> None:
        """Do some work in a thread, and then what comes of it in this one."""
        self._started_s = time.monotonic()
        self._worker = Worker(work)
        self._worker.returned.connect(then)
        self._worker.errored.connect(self._complain)
        self._worker.progressed.connect(self._show_progress)
        self._worker.finished.connect(self._finish)
        self._worker.start()
        self._show_busy()

    def _stop(self) -> None:
        self._is_stale = False
        if self._worker is not None:
            self._worker.quit()
            self.status.setText("cancelled")

    def _finish(self) -> None:
        self._worker = None
        if self._is_stale:
            self._find_objects()
        self._show_busy()

    def _show_busy(self) -> None:
        is_busy = self._worker is not None
        self.segment.setEnabled(not is_busy)
        self.cancel.setEnabled(is_busy)
        self.measure.setEnabled(not is_busy and self._shown is not None and self._shown.labels is not None)
        self.save.setEnabled(not is_busy and bool(self.table.objects))
        if not is_busy:
            self.bar.reset()

    def _show_progress(self, n_done: int, n_total: int) -> None:
        if self._worker is None or self._worker.abort_requested:
            return
        self.bar.setValue(PROGRESS_STEPS * n_done // max(1, n_total))
        left_s = (time.monotonic() - self._started_s) * (n_total - n_done) / max(1, n_done)
        if n_total >= 1e6:
            self.status.setText(
                f"{n_done / 1e6:,.1f} of {n_total / 1e6:,.1f} megavoxels" + f", {left_s:,.0f} s left" * (n_done > 0)
            )

    def _show_model(self) -> None:
        if self.form.model.metadata is not None:
            self.threshold.blockSignals(True)  # what is shown is another model's
            self.threshold.setValue(self.form.model.metadata.threshold)
            self.threshold.blockSignals(False)

    def _show_probability(self, image: Image, segmented: Segmented) -> None:
        metadata, task = segmented.metadata, segmented.task
        self._shown = _Shown(segmented, image)
        self.table.show_objects([])
        self._viewer.add_image(
            segmented.probability,
            name=f"{image.name} {metadata.target} probability",
            colormap=PROBABILITY_COLORS,
            contrast_limits=(0.0, 1.0),
            blending="translucent",
            visible=False,
            metadata={
                PROBABILITY_LAYER: {
                    "model": metadata.name,
                    "sha256": segmented.sha256,
                    "provider": segmented.provider,
                    "axes": task.axes,
                    "invert": task.invert,
                    "voxel_nm": segmented.voxel_nm,
                }
            },
            **place_like(image, [side.start for side in task.region]),
        )
        self._is_stale = True  # found when this worker has finished

    def _show_objects(self, found: Found) -> None:
        shown = self._shown
        assert shown is not None
        if shown.labels is None or shown.is_edited or shown.labels not in self._viewer.layers:
            shown.labels = self._viewer.add_labels(
                found.labels,
                name=f"{shown.image.name} {shown.segmented.metadata.target}",
                **place_like(shown.image, [side.start for side in shown.segmented.task.region]),
            )
            shown.labels.events.paint.connect(self._note_edit)
            shown.is_edited = False
        else:
            shown.labels.data = found.labels
        self._show_measures(found.objects)

    def _show_measures(self, objects: list[ObjectShape]) -> None:
        shown = self._shown
        assert shown is not None
        assert shown.labels is not None
        features = pd.DataFrame([asdict(one) for one in objects])
        shown.labels.features = features.rename(columns={"label": "index"})
        self.table.show_objects(objects)
        share = sum(one.volume_voxels for one in objects) / shown.segmented.probability.size
        lines = (f"{len(objects):,} objects, {100 * share:.1f} % of the region", *shown.segmented.remarks)
        self.status.setText("\n".join(lines))

    def _note_edit(self, event: Any) -> None:
        if self._shown is not None and event.source == self._shown.labels:
            self._shown.is_edited = True

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save measures", "measurements.csv", "Tables (*.csv)")
        if path:
            try:
                self.table.save(path)
            except StreamdetectError as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say what is wrong: in one line where it is the user's to mend."""
        message = option_words(str(error).partition("\n")[0] or type(error).__name__)
        self.status.setText(message)  # the notification shows a part of it, for a while
        if isinstance(error, StreamdetectError | MemoryError | OSError):
            show_error(message)
        else:
            notification_manager.receive_error(type(error), error, error.__traceback__)
