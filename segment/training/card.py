"""The model card: what a person should know of a segmentation model, in Markdown, taken from its metadata."""

from __future__ import annotations

import hashlib

from segment.serving.metadata import Conversion, ModelMetadata

CARD_MARK = "Made by segment"  # what tells a card from a file of someone else's


def write_card(
    metadata: ModelMetadata, content: bytes, *, max_difference: float | None = None, n_pixels: int = 0
) -> str:
    """Return a model card.

    Parameters
    ----------
    metadata : ModelMetadata
        The document in the model file.
    content : bytes
        The model file.
    max_difference : float, optional
        Largest difference of a probability between ONNX Runtime and Keras, where they were compared.
    n_pixels : int
        Pixels that were compared.

    Returns
    -------
    str
        Markdown.
    """
    training, network = metadata.training, metadata.network
    voxel = " × ".join(f"{size:g}" for size in metadata.voxel_nm)
    lines = [
        f"# {metadata.name}",
        "",
        f"Finds {metadata.target} in electron-microscopy volumes with voxels of {voxel} nm (z × y × x). "
        f"{CARD_MARK} on {metadata.created}.",
        "",
        "## Settings",
        "",
        f"- U-Net: {network.width} feature maps at the finest level, {network.depth} levels below it, "
        f"{network.stem} × {network.stem} pixels a position of the finest level",
        f"- Slices fed as channels: {', '.join(map(str, metadata.slice_offsets))}",
        f"- Trained on slices along {metadata.axes}",
        "- Intensity: percentiles {:g} and {:g} of the volume become -1 and 1".format(*metadata.percentiles),
        f"- Threshold {metadata.threshold:.4g}; tiles on multiples of {metadata.stride} pixels with a halo of "
        f"{metadata.halo}",
        "",
        "## Data",
        "",
        f"- Image `{_code(training.image)}`, SHA-256 `{training.image_sha256}`",
        f"- Labels `{_code(training.labels)}`, SHA-256 `{training.labels_sha256}`",
        f"- Trained on slices {', '.join(map(_describe_run, training.train_slices))} (the last one excluded)",
        *_describe_validation(training.validate_slices),
        "",
        "Whoever passes this model on should name the data and check what its licence says of models made from it; "
        "this file does not hold any of the data.",
        "",
        "## Training",
        "",
        f"- {training.steps:,} steps of {training.batch} patches of {training.patch_pixels:,} pixels, "
        f"{training.seconds / 60:.0f} min on {training.machine}, seed {training.seed}",
    ]
    if training.start:
        lines.append(f"- Begun with the weights of `{_code(training.start)}`")
    if training.command:
        lines += ["", "```", training.command, "```"]
    if metadata.conversion is not None:
        lines += ["", "## Conversion", "", *_describe_conversion(metadata.conversion)]
    lines += ["", "## Scores", "", f"Protocol: {metadata.scores.get('protocol', 'none')}.", ""]
    rows = _flatten({name: value for name, value in metadata.scores.items() if name != "protocol"})
    if rows:
        lines += ["| score | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    lines += [
        "",
        "## Limits",
        "",
        "- Trained on one volume of one tissue and one microscope; other ones have to be scored, or trained, anew.",
        f"- Other voxel sizes are resampled to {voxel} nm; inverted contrast needs `--invert`.",
        "- It marks voxels, not objects: `segment instances` parts them by connection.",
        "",
        "## File",
        "",
        f"- SHA-256 `{hashlib.sha256(content).hexdigest()}`, {len(content) / 1e6:.1f} MB",
        *(
            []
            if max_difference is None
            else [
                f"- ONNX Runtime gives the trained network's probabilities within {max_difference:.1g}, with the same "
                f"mask, on {n_pixels:,} pixels of the validation slices"
            ]
        ),
        *(f"- {name} {version}" for name, version in (metadata.conversion or training).versions.items()),
        "",
        "## References",
        "",
        "- Ronneberger, Fischer & Brox 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, "
        "doi:10.1007/978-3-319-24574-4_28 (network)",
        "",
    ]
    return "\n".join(lines)


def _describe_conversion(conversion: Conversion) -> list[str]:
    lines = [f"- Made from `{_code(conversion.source)}`, SHA-256 `{conversion.source_sha256}`"]
    if conversion.precision == "int8":
        runs = ", ".join(map(_describe_run, conversion.calibrate_slices))
        lines += [
            f"- 8-bit integers, weights of {conversion.weight_bits} bits; float32 in front of the first convolution "
            "and from the last one on",
            f"- Ranges of values from {conversion.n_tiles} tiles of slices {runs}",
        ]
    else:
        lines.append("- float16; float32 in front of the first convolution and from the last one on")
    lines.append(
        f"- Foreground IoU on slices {_describe_run(conversion.validate_slices)}: {conversion.iou:.4f}, "
        f"before {conversion.source_iou:.4f}"
    )
    return [*lines, "", "```", conversion.command, "```"] if conversion.command else lines


def _flatten(scores: object, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(scores, dict):
        return [row for name, value in scores.items() for row in _flatten(value, f"{prefix}.{name}".lstrip("."))]
    return [(prefix, f"{scores:.4f}" if isinstance(scores, float) else str(scores))]


def _describe_run(run: tuple[int, int]) -> str:
    return f"{run[0]}:{run[1]}"


def _describe_validation(run: tuple[int, int] | None) -> list[str]:
    return [f"- Weights and threshold chosen on slices {_describe_run(run)}"] if run else []


def _code(text: str) -> str:
    return text.replace("`", "'")
