"""The training report: how the loss fell, and what the network does on slices that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segment.intensity import intensity_range
from segment.scoring.overlay import overlay_figure
from segment.serving.metadata import ModelMetadata
from segment.serving.model import SegmentationModel
from segment.serving.predict import predict_volume
from segment.training.fit import Fitted, Split
from segment.training.train import History
from segment.volumes import Volume
from streamdetect.scoring.figures import BLUE, VERMILION
from streamdetect.scoring.page import figure_html, save_page, table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_SLICES = 4  # shown of the slices that were held out, evenly spread
Range = tuple[float, float]

_LOSS_CAPTION = (
    "Cross-entropy plus Dice loss of the training patches, mean of ten steps, and the IoU of the averaged weights on "
    "some of the validation slices, at the threshold that suits each best."
)
_SLICES_CAPTION = (
    "Slices of the part of the volume that was held out: raw, what is marked, what the network finds, and where the "
    "two differ."
)


def write_report(
    path: Path, fitted: Fitted, model: SegmentationModel, image: Volume, labels: NDArray[np.bool_], split: Split
) -> Path:
    """Write loss curve, held-out slices, scores and settings as one HTML file.

    Parameters
    ----------
    path : Path
        The ``.html`` file.
    fitted : Fitted
    model : SegmentationModel
        The exported file: the pictures show what is served.
    image : Volume
    labels : ndarray of bool, shape (z, y, x)
    split : Split
        The tested slices are shown, or the validation slices where none were tested.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        The file cannot be written.
    """
    import mne

    metadata = fitted.metadata
    report = mne.Report(title=f"Training of {metadata.name}", verbose="error")
    scores = table_html(["score", "value"], describe_scores(metadata))
    report.add_html(scores, "Scores", tags=("scores",))
    report.add_html(figure_html(loss_figure(fitted.trained.history), _LOSS_CAPTION), "Loss", tags=("training",))
    first, last = split.test or split.validate
    shown = np.unique(np.linspace(first, last - 1, N_SLICES + 2).round().astype(int)[1:-1])
    intensity = intensity_range(image, metadata.percentiles)
    predicted = [_predict_slice(image, model, int(index), intensity) for index in shown]
    figure = overlay_figure(
        np.stack([image[index : index + 1][0] for index in shown]),
        np.stack(predicted),
        labels[shown],
        slices=[int(index) for index in shown],
        voxel_nm=metadata.voxel_nm,
    )
    report.add_html(figure_html(figure, _SLICES_CAPTION), "Held-out slices", tags=("scores",))
    training = metadata.training
    facts = [
        ["voxel", " × ".join(f"{size:g}" for size in metadata.voxel_nm) + " nm"],
        ["network", f"width {metadata.network.width}, depth {metadata.network.depth}, stem {metadata.network.stem}"],
        ["slices fed as channels", ", ".join(map(str, metadata.slice_offsets))],
        ["trained on slices", ", ".join(f"{a}:{b}" for a, b in split.train)],
        ["chosen on slices", "{}:{}".format(*split.validate)],
        ["scored on slices", "{}:{}".format(*split.test) if split.test else "none"],
        ["steps", f"{training.steps:,} of {training.batch} patches of {training.patch_pixels:,} pixels"],
        ["time", f"{training.seconds / 60:.1f} min on {training.machine}"],
        ["command", training.command or "-"],
        *([name, version] for name, version in training.versions.items()),
    ]
    report.add_html(table_html(["", ""], facts), "Settings", tags=("training",))
    return save_page(report, path)


def describe_scores(metadata: ModelMetadata) -> list[list[str]]:
    """Return a model's scores as rows of a name and a value."""
    rows = [["threshold", f"{metadata.threshold:.3f}"]]
    for name, value in metadata.scores.items():
        if isinstance(value, dict):
            words = " ".join(f"{score} {each:.4f}" for score, each in value.items() if isinstance(each, float))
            rows.append([f"test slices, segmented along {name.removeprefix('test_axes_')}", words])
        else:
            rows.append([name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value)])
    return rows


def loss_figure(history: History) -> Figure:
    """Draw the loss and the validation IoU against time.

    Parameters
    ----------
    history : History

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("time (min)")
    if history.losses:
        steps, seconds, losses = np.array(history.losses).T
        axes.plot(seconds / 60, losses, color=BLUE, alpha=0.25, linewidth=0.8)
        share = max(1, len(steps) // 50)
        smooth = np.convolve(losses, np.ones(share) / share, mode="valid")
        axes.plot(seconds[share - 1 :] / 60, smooth, color=BLUE, label="training loss")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.set_ylabel("validation IoU")
    if history.validations:
        _, seconds, ious = np.array(history.validations).T
        other.plot(seconds / 60, ious, color=VERMILION, marker=".", linestyle="--", label="validation IoU")
        other.set_ylim(min(0.5, ious.min()), 1)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _predict_slice(image: Volume, model: SegmentationModel, index: int, intensity: Range) -> NDArray[np.bool_]:
    """Segment one slice along z, with the neighbours that the network asks for."""
    reach = max(model.metadata.slice_offsets)
    first = max(0, index - reach)
    around = image[first : index + reach + 1]
    probability = predict_volume(around, model, axes="z", intensity=intensity, voxel_nm=model.metadata.voxel_nm)
    return probability[index - first] >= model.metadata.threshold
