"""The model card: what a person should know of a model, in Markdown, taken from its metadata and nowhere else."""

from __future__ import annotations

from streamdetect.settings import DecisionSettings
from streamdetect.stages.metadata import ModelMetadata

CARD_MARK = "Made by streamdetect"  # what tells a card from a file of someone else's


def write_card(metadata: ModelMetadata, *, sha256: str, max_difference: float, n_windows: int) -> str:
    """Return a model card.

    Parameters
    ----------
    metadata : ModelMetadata
        The document in the model file.
    sha256 : str
        Hash of the model file.
    max_difference : float
        Largest difference of a probability between ONNX Runtime and the trained estimator.
    n_windows : int
        Windows that were compared.

    Returns
    -------
    str
        Markdown.
    """
    features, training, sfreq = metadata.features, metadata.training, metadata.sfreq
    lines = [
        f"# {metadata.name}",
        "",
        f"Detects {', '.join(metadata.event_names)} in EEG of {len(metadata.ch_names)} channels at {sfreq:g} Hz. "
        f"{CARD_MARK} on {metadata.created}.",
        "",
        "## Settings",
        "",
        f"- Channels: {', '.join(metadata.ch_names)}",
        f"- Features `{features.name}`, {len(metadata.feature_names)} in all, a decision every "
        f"{_seconds(features.hop_samples, sfreq)}:",
        *(f"  - {block.description}; window {_seconds(block.window_samples, sfreq)}" for block in features.blocks),
        *_describe_choice(metadata),
        f"- Members of the vote: {', '.join(metadata.members) or 'none, a single classifier'}",
    ]
    for event, decision in zip(metadata.events, metadata.decisions, strict=True):
        lines.append(f"- {event.name} ({', '.join(event.descriptions)}): {_describe_decision(decision, sfreq)}")
    lines += [
        "",
        "## Data",
        "",
        f"Trained on windows {_seconds(training.stride_samples, sfreq)} apart, seed {training.seed}.",
        "",
    ]
    if training.recordings:
        lines += ["| recording | windows | positive | SHA-256 |", "| --- | --- | --- | --- |"]
        for one in training.recordings:
            positive = ", ".join(f"{name} {count}" for name, count in one.n_positive.items())
            lines.append(f"| {_cell(one.name)} | {one.n_windows} | {_cell(positive)} | `{one.sha256}` |")
    else:
        lines.append("The file names no recordings.")
    if training.command:
        lines += ["", "```", training.command, "```"]
    lines += ["", "## Scores", ""]
    scores = _flatten({name: value for name, value in metadata.scores.items() if name != "protocol"})
    if scores:
        lines += [f"Protocol: {metadata.scores['protocol']}.", "", "| score | value |", "| --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in scores]
    else:
        lines.append("The file holds no cross-validated scores: nothing is known of how well it detects.")
    lines += [
        "",
        "## Limits",
        "",
        "- It knows the people, the cap and the task of the recordings above; for others it has to be scored anew.",
        f"- It needs the same channels, with the same reference, at {sfreq:g} Hz.",
        "- It is no medical device.",
        "",
        "## File",
        "",
        f"- SHA-256 `{sha256}`",
        f"- ONNX Runtime gives the trained estimator's probabilities within {max_difference:.1g}, "
        f"with no other decision, on {n_windows} windows of the training data",
    ]
    lines += [f"- {name} {version}" for name, version in training.versions.items()]
    lines += [
        "",
        "## References",
        "",
        "- Oschmann 2019, Boosting research with machine learning (method)",
        "- Luciw, Jarocka & Edin 2014, Multi-channel EEG recordings during 3,936 grasp and lift trials with varying "
        "weight and friction, Scientific Data 1:140047, doi:10.1038/sdata.2014.47 (kind of data; the table above names "
        "what this model was trained on)",
        "",
    ]
    return "\n".join(lines)


def _seconds(samples: int, sfreq: float) -> str:
    return f"{samples / sfreq:.4g} s"


def _describe_choice(metadata: ModelMetadata) -> list[str]:
    """Say which normaliser there is, and why these features and no others."""
    lines, features, tried = [], metadata.features, metadata.training.features_tried
    if features.normaliser:
        lines.append(
            "  - each normalised by its running mean and standard deviation, time constant "
            f"{features.normaliser.time_constant_s:g} s, begun with those of the training windows"
        )
    if tried:
        ranked = sorted(tried.items(), key=lambda item: -item[1])
        lines.append(
            "- Chosen by `--features auto`: the highest AUC of its linear discriminant on held-out parts of training "
            "recordings, of " + ", ".join(f"`{name}` {auc:.3f}" for name, auc in ranked)
        )
    return lines


def _describe_decision(decision: DecisionSettings, sfreq: float) -> str:
    dwell, refractory = (_seconds(n, sfreq) for n in (decision.dwell_samples, decision.refractory_samples))
    return f"threshold {decision.threshold:.4g}, held for {dwell}, none for {refractory} after a detection"


def _flatten(scores: object, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested scores as rows of a dotted name and a value."""
    if isinstance(scores, dict):
        return [row for name, value in scores.items() for row in _flatten(value, f"{prefix}.{name}".lstrip("."))]
    return [(prefix, f"{scores:.4g}" if isinstance(scores, float) else "undefined" if scores is None else str(scores))]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
