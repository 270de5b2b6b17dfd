"""A list to choose a layer from, which follows the viewer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QComboBox


class LayerChoice(QComboBox):
    """A list of fixed entries and of a viewer's layers.

    Parameters
    ----------
    viewer : Viewer
    accepts : callable
        Which layers are listed.
    fixed : mapping of str to object, optional
        Entries that come first, and what `currentData` gives for them.
    """

    def __init__(self, viewer: Viewer, accepts: Callable[[Layer], bool], fixed: Mapping[str, Any] | None = None):
        super().__init__()
        self._layers, self._accepts, self._fixed = viewer.layers, accepts, dict(fixed or {})
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)  # long names of files must not widen the panel
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
            event.connect(self.refresh)
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """List the layers anew, and keep the chosen one."""
        chosen = self.currentData()
        entries = {**self._fixed, **{layer.name: layer for layer in self._layers if self._accepts(layer)}}
        keeps = any(entry == chosen for entry in entries.values())
        self.blockSignals(keeps)
        self.clear()
        for name, entry in entries.items():
            self.addItem(name, entry)
        if keeps:
            self.choose(chosen)
        self.blockSignals(False)

    def choose(self, entry: object) -> None:
        """Choose an entry by what it stands for, where it is listed."""
        for index in range(self.count()):
            if self.itemData(index) == entry:  # napari gives widgets proxies of its layers
                self.setCurrentIndex(index)
