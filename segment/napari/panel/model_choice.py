"""A list to choose a model from: those that are shipped, and files."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog

from segment.cli.predict import DEFAULT_MODEL
from segment.serving.metadata import METADATA_KEY, ModelMetadata
from segment.serving.model import SegmentationModel
from streamdetect.errors import StreamdetectError
from streamdetect.model_file import list_shipped

FROM_FILE = "from a file…"


class ModelChoice(QComboBox):
    """A list of the shipped models, with a last entry that asks for a file.

    `chosen` carries the metadata of a model, `refused` the error of a file that is none: the choice stays as it was.

    Attributes
    ----------
    metadata : ModelMetadata or None
        Of the model that is chosen; None where there is no shipped model and no file was chosen.
    """

    chosen = Signal(object)
    refused = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.metadata: ModelMetadata | None = None
        self._name: str | None = None
        for name in list_shipped(METADATA_KEY):
            self.addItem(name, name)
        self.addItem(FROM_FILE)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.activated.connect(self._activate)
        if self.count() > 1:
            self.choose(self.itemData(max(0, self.findData(DEFAULT_MODEL))))

    def choose(self, path_or_name: str) -> None:
        """Choose a model: a file, or the name of one that is shipped."""
        try:
            self.metadata = SegmentationModel.load(path_or_name, device="cpu", threads=1).metadata
        except StreamdetectError as error:
            self.setCurrentIndex(self.findData(self._name))
            self.refused.emit(error)
            return
        self._name = path_or_name
        if self.findData(path_or_name) < 0:
            self.insertItem(self.count() - 1, Path(path_or_name).name, path_or_name)
        self.setCurrentIndex(self.findData(path_or_name))
        self.chosen.emit(self.metadata)

    def _activate(self, index: int) -> None:
        """Follow the user's choice of an entry."""
        name = self.itemData(index)
        if name is None:
            name, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", "Models (*.onnx)")
        if name:
            self.choose(name)
        else:
            self.setCurrentIndex(self.findData(self._name))
