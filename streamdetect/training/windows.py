"""Recordings to labelled windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.detector import FeaturePipeline
from streamdetect.errors import ChannelError, InputError, RecordingError
from streamdetect.events import Annotation, label_times, select_annotations
from streamdetect.files import file_sha256
from streamdetect.settings import SFREQ_TOLERANCE, EventSettings, FeatureSettings, HealthSettings
from streamdetect.sources.channels import pick_channels
from streamdetect.sources.recording import Recording
from streamdetect.stages import features as feature_blocks
from streamdetect.stages.features import FeatureBlock


@dataclass(frozen=True, eq=False)
class LabelledWindows:
    """The windows of one recording, with the truth beside them.

    Parameters
    ----------
    name : str
        The recording's name.
    sha256 : str
        Hash of its file.
    features : FeatureBlock
        A row for each decision of the recording, invalid ones included.
    labels : ndarray of bool, shape (n, n_events)
        Whether each event is going on at the window's last sample.
    events : dict of str to tuple of Annotation
        Occurrences of each event.
    """

    name: str
    sha256: str
    features: FeatureBlock
    labels: NDArray[np.bool_]
    events: dict[str, tuple[Annotation, ...]]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether each window can be trusted, shape (n,)."""
        return self.features.quality == 0

    def take(self, indices: NDArray[np.int64]) -> LabelledWindows:
        """Return some of the windows, in the order given."""
        return replace(self, features=self.features.take(indices), labels=self.labels[indices])

    def usable(self, stride: int = 1) -> NDArray[np.int64]:
        """Return the indices of every ``stride``-th window that is valid."""
        indices = np.arange(stride - 1, len(self.features), stride)
        return indices[self.valid[indices]]


def label_windows(
    recording: Recording,
    ch_names: Sequence[str],
    health: HealthSettings,
    features: FeatureSettings,
    events: Sequence[EventSettings],
) -> LabelledWindows:
    """Run the detector's own feature pipeline over a recording and label its windows.

    Parameters
    ----------
    recording : Recording
        Read chunk by chunk.
    ch_names : sequence of str
        Channels to take, in this order.
    health, features : HealthSettings, FeatureSettings
        Settings of the pipeline.
    events : sequence of EventSettings
        What to label.

    Returns
    -------
    LabelledWindows

    Raises
    ------
    ChannelError
        A channel never changes.
    RecordingError
        No window is valid.
    """
    pipeline = FeaturePipeline(len(ch_names), recording.info.sfreq, health, features)
    low = np.full(len(ch_names), np.inf)
    high = np.full(len(ch_names), -np.inf)
    blocks = []
    for chunk in recording.chunks(picks=ch_names):
        if chunk.n_times:
            low = np.fmin(low, np.fmin.reduce(chunk.data, axis=1))
            high = np.fmax(high, np.fmax.reduce(chunk.data, axis=1))
        blocks.append(pipeline.process(chunk))
    flat = [name for name, is_flat in zip(ch_names, low == high, strict=True) if is_flat]
    if flat:
        raise ChannelError(
            f"{recording.info.name}: flat from start to end: {', '.join(flat)}; a dead electrode teaches nothing: "
            f"leave it out with --exclude {','.join(flat)}, or leave the recording out"
        )
    block = feature_blocks.join([*blocks, pipeline.flush()])
    if not (block.quality == 0).any():
        seconds = recording.n_times / recording.info.sfreq
        raise RecordingError(
            f"{recording.info.name}: no usable window in {seconds:.1f} s of signal: a window needs "
            f"{pipeline.warmup_samples / recording.info.sfreq:.1f} s without lost or non-finite samples and with no "
            "more bad channels than can be repaired"
        )
    occurrences = {event.name: select_annotations(recording.annotations, event) for event in events}
    labels = np.stack([label_times(block.times, occurrences[event.name]) for event in events], axis=1)
    return LabelledWindows(recording.info.name, file_sha256(recording.path), block, labels, occurrences)


def choose_channels(
    recordings: Sequence[Recording], channels: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[str, ...]:
    """Choose the channels that a model will take.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one; all must have the channels, in any order, and one sampling rate.
    channels : sequence of str
        The channels; empty for all of the first recording.
    exclude : sequence of str
        Channels to leave out.

    Returns
    -------
    tuple of str

    Raises
    ------
    ChannelError
        A recording lacks a channel.
    InputError
        Sampling rates differ.
    """
    first = recordings[0].info
    available = first.ch_names
    left_out = {available[i] for i in pick_channels(available, exclude, where=first.name)}
    wanted = [available[i] for i in pick_channels(available, channels, where=first.name)] if channels else available
    ch_names = tuple(name for name in wanted if name not in left_out)
    if len(set(ch_names)) < len(ch_names):
        raise ChannelError(f"--channels {','.join(channels)}: names a channel twice; name each once")
    if not ch_names:
        raise ChannelError("no channel is left: check --channels and --exclude")
    for recording in recordings[1:]:
        pick_channels(recording.info.ch_names, ch_names, where=recording.info.name)
        if abs(recording.info.sfreq - first.sfreq) > SFREQ_TOLERANCE * first.sfreq:
            raise InputError(
                f"{recording.info.name}: sampling rate {recording.info.sfreq:g} Hz, but {first.name} has "
                f"{first.sfreq:g} Hz; resample one of them, or train on each alone"
            )
    return ch_names
