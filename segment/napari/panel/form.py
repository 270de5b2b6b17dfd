"""The fields that say what to segment, and how."""

from __future__ import annotations

from typing import cast, get_args

from napari.layers import Image, Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from segment.errors import InputError
from segment.napari.layers import find_voxel_size, find_voxels, limit_slices, shapes_box, view_box
from segment.napari.panel.layer_choice import LayerChoice
from segment.napari.panel.model_choice import ModelChoice
from segment.napari.segmentation import Task
from segment.napari.writer import PROBABILITY_LAYER
from segment.serving.plan import format_nm
from segment.volumes import parse_voxel_size
from segment.volumes.stored import Box
from streamdetect.runtime import Device

AXES = {"z (quick)": "z", "z, y and x (3 × the time)": "zyx"}
WHOLE, VIEW = "whole image", "what is in view"


class SettingsForm(QWidget):
    """Image, model, device, axes, voxel size, region and contrast.

    Parameters
    ----------
    viewer : Viewer
        Whose image layers are listed; the one that is selected there is chosen.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.image = LayerChoice(viewer, _is_image)
        self.model = ModelChoice()
        self.device = QComboBox()
        self.device.addItems(get_args(Device))
        self.axes = QComboBox()
        for words, axes in AXES.items():
            self.axes.addItem(words, axes)
        self.voxel_size = QLineEdit()
        self.region = LayerChoice(viewer, lambda layer: isinstance(layer, Shapes), {WHOLE: WHOLE, VIEW: VIEW})
        self.first, self.last = QSpinBox(), QSpinBox()
        self.invert = QCheckBox("membranes are bright")
        self._lay_out()
        self._explain()
        self.image.currentIndexChanged.connect(self._show_image)
        self.model.chosen.connect(self._show_model)
        viewer.layers.selection.events.active.connect(self._follow)
        self._follow()
        self._show_image()
        self._show_model()

    def read_task(self) -> Task:
        """Return what the fields say.

        Raises
        ------
        InputError
            A field cannot be used as it is.
        """
        layer = self.layer()
        image = find_voxels(layer)
        if self.model.metadata is None:
            raise InputError("model: none is shipped with this installation; choose a file")
        voxel_nm = parse_voxel_size(self.voxel_size.text()) if self.voxel_size.text().strip() else None
        return Task(
            image,
            limit_slices(self._find_region(layer), self.first.value(), self.last.value()),
            model=self.model.currentData(),
            device=cast(Device, self.device.currentText()),
            axes=self.axes.currentData(),
            invert=self.invert.isChecked(),
            voxel_nm=voxel_nm,
        )

    def layer(self) -> Image:
        """Return the image layer that is chosen.

        Raises
        ------
        InputError
            There is none.
        """
        layer = self.image.currentData()
        if layer is None:
            raise InputError("image: there is no image layer; open a stack, or File > Open Sample > streamdetect")
        return layer

    def _lay_out(self) -> None:
        fields = QFormLayout(self)
        fields.setContentsMargins(0, 0, 0, 0)
        fields.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        fields.addRow("Image", self.image)
        fields.addRow("Model", self.model)
        fields.addRow("Device", self.device)
        fields.addRow("Cut along", self.axes)
        fields.addRow("Voxel size", self.voxel_size)
        fields.addRow("Region", self.region)
        slices = QHBoxLayout()
        slices.addWidget(self.first, stretch=1)
        slices.addWidget(QLabel("to"))
        slices.addWidget(self.last, stretch=1)
        fields.addRow("Slices", slices)
        fields.addRow("Invert", self.invert)

    def _explain(self) -> None:
        self.image.setToolTip("The layer to segment: a stack of grey values, (z, y, x)")
        self.model.setToolTip("A shipped model, or a file that  segment train  made")
        self.device.setToolTip("auto takes CUDA where it can be had")
        self.axes.setToolTip("Segments slices along these axes; the mean over three finds fewer false objects")
        self.voxel_size.setToolTip("Z,Y,X in nm, or one number for all; from the layer's scale and units, or its file")
        self.region.setToolTip("All of the image, what the canvas shows of it, or what a shapes layer marks")
        self.first.setToolTip("The first slice along z")
        self.last.setToolTip("The last slice along z")
        self.invert.setToolTip("Swap dark and bright: models expect dark membranes on a bright ground")

    def _show_image(self) -> None:
        """Fill in what follows from the image."""
        layer = self.image.currentData()
        voxel_nm = find_voxel_size(layer) if layer is not None else None
        self.voxel_size.setText(format_nm(voxel_nm) if voxel_nm is not None else "")
        try:
            last = find_voxels(layer).shape[0] - 1 if layer is not None else 0
        except InputError:  # said when it is to be segmented
            last = 0
        for field, value in ((self.first, 0), (self.last, last)):
            field.setMaximum(last)
            field.setValue(value)

    def _show_model(self) -> None:
        """Say which voxel size stands for none."""
        if self.model.metadata is not None:
            self.voxel_size.setPlaceholderText(f"unknown: {format_nm(self.model.metadata.voxel_nm)} is assumed")

    def _follow(self, event: object = None) -> None:
        """Choose the layer that is selected in the viewer, if it can be segmented."""
        self.image.choose(self._viewer.layers.selection.active)

    def _find_region(self, layer: Image) -> Box:
        region = self.region.currentData()
        if region == WHOLE:
            return find_voxels(layer).box
        return view_box(layer, self._viewer.dims) if region == VIEW else shapes_box(layer, region)


def _is_image(layer: Layer) -> bool:
    return isinstance(layer, Image) and PROBABILITY_LAYER not in layer.metadata
