"""The table of measured objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from segment.errors import InputError
from segment.objects.measure import ObjectShape, write_measures

_Column = tuple[str, str, Callable[[ObjectShape], Any], str]
_COLUMNS: tuple[_Column, ...] = (
    ("no.", "Number in the labels layer", lambda one: one.label, "d"),
    ("µm³", "Volume", lambda one: one.volume_nm3 / 1e9, ".4f"),
    ("µm²", "Surface area", lambda one: one.surface_nm2 / 1e6, ".3f"),
    (
        "µm",
        "Major axis of the ellipsoid with the same second moments",
        lambda one: one.major_axis_nm / 1e3,
        ".2f",
    ),
    ("elong.", "Elongation, major by middle axis: 1 for a sphere, high for a rod", lambda one: one.elongation, ".1f"),
    ("cut", "Cut by the border of the region: the rest may be outside", lambda one: one.touches_border, ""),
)
ROW_PIXELS = 24
_NUMBER = Qt.ItemDataRole.UserRole  # what rows are sorted by


class _Rows(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.objects: list[ObjectShape] = []

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.objects)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return len(_COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        _, _, value_of, style = _COLUMNS[index.column()]
        value = value_of(self.objects[index.row()])
        if role == _NUMBER:
            return value
        if role == Qt.ItemDataRole.DisplayRole:
            return format(value, style) if style else "yes" if value else ""
        if role == Qt.ItemDataRole.TextAlignmentRole and style:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section][0]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.ToolTipRole:
            return _COLUMNS[section][1]
        return None


class ObjectTable(QTableView):
    """A row for each object, sorted by a click on a header.

    `chosen` carries the object of a row that is clicked, or reached with the keyboard.
    """

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._rows = _Rows()
        self._sorted = QSortFilterProxyModel()
        self._sorted.setSourceModel(self._rows)
        self._sorted.setSortRole(_NUMBER)
        self.setModel(self._sorted)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        numbers = QHeaderView(Qt.Orientation.Vertical)
        numbers.hide()
        numbers.setDefaultSectionSize(ROW_PIXELS)
        self.setVerticalHeader(numbers)
        names = QHeaderView(Qt.Orientation.Horizontal)
        names.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        names.setSectionsClickable(True)
        self.setHorizontalHeader(names)
        names.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)  # volumes have the most digits
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)

    @property
    def objects(self) -> list[ObjectShape]:
        """What is shown, in the order of the labels."""
        return self._rows.objects

    def show_objects(self, objects: Sequence[ObjectShape]) -> None:
        """Show other objects."""
        self._rows.beginResetModel()
        self._rows.objects = list(objects)
        self._rows.endResetModel()

    def save(self, path: str | Path) -> None:
        """Write all measures, also those that are not shown, as CSV.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        try:
            with open(path, "w", encoding="utf-8", newline="") as file:
                write_measures(file, self.objects)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error

    def currentChanged(self, current: QModelIndex, previous: QModelIndex) -> None:
        """Tell which object was reached; Qt calls it."""
        super().currentChanged(current, previous)
        if current.isValid():
            self.chosen.emit(self.objects[self._sorted.mapToSource(current).row()])
