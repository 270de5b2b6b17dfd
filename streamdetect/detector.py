"""The detector: the one place that knows the order of the stages.

health → channel health → repair → preprocess → features → normaliser → model → decision. Training takes its features
from `FeaturePipeline`, the live monitor and the replay take their decisions from `Detector`: there is one code path for
all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.decisions import Decisions
from streamdetect.errors import InputError
from streamdetect.settings import SFREQ_TOLERANCE, BlockSettings, FeatureSettings, HealthSettings, PowerSettings
from streamdetect.stages import features as feature_blocks
from streamdetect.stages.channel_health import ChannelHealth
from streamdetect.stages.decision import DecisionStage
from streamdetect.stages.features import DelayedAmplitude, FeatureBlock, HopGrid, WindowPower
from streamdetect.stages.health import Health
from streamdetect.stages.model import Model, predict_together
from streamdetect.stages.normalise import Normaliser
from streamdetect.stages.preprocess import FilterBank, rereference
from streamdetect.stages.repair import Repair


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What the rules say of a channel.

    Parameters
    ----------
    name : str
        The channel.
    reasons : tuple of str
        Its faults, some of `stages.channel_health.FAULTS`; empty where it is good.
    repaired : bool
        Whether its neighbours stand in for it.
    """

    name: str
    reasons: tuple[str, ...]
    repaired: bool


class FeaturePipeline:
    """From raw samples to features: health and repair, then for each block its reference, its filters and its window.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    sfreq : float
        Sampling rate in Hz.
    health : HealthSettings
    features : FeatureSettings
        Its normaliser is not part of this: training needs the features before it.

    Raises
    ------
    InputError
        A filter does not fit the sampling rate.
    """

    def __init__(self, n_channels: int, sfreq: float, health: HealthSettings, features: FeatureSettings) -> None:
        self.n_channels = n_channels
        self.n_features = n_channels * len(features.labels)
        self._neighbours = features.neighbours
        self._health = Health(n_channels, sfreq, replace(health, flat_samples=0) if health.channels else health)
        self._channels: tuple[ChannelHealth, Repair] | None = None
        if health.channels:
            rules = ChannelHealth(n_channels, sfreq, health.channels.block_samples, health.channels.lag_samples)
            self._channels = rules, Repair(health.channels)
        self._blocks = [
            (block, FilterBank(block.filters, n_channels, sfreq), _make_window(block, n_channels, features.hop_samples))
            for block in features.blocks
        ]
        warmup = max(block.window_samples + bank.settling_samples for block, bank, _ in self._blocks)
        self._grid = HopGrid(features.hop_samples, warmup)

    @property
    def warmup_samples(self) -> int:
        """Samples after a start or a reset before the first valid decision."""
        return self._grid.warmup_samples

    @property
    def channel_faults(self) -> tuple[tuple[str, ...], ...]:
        """The faults of each channel, as the last block left them; empty tuples for good ones."""
        return self._channels[0].reasons if self._channels else ((),) * self.n_channels

    @property
    def repaired(self) -> tuple[int, ...]:
        """The channels that were repaired in the last samples."""
        return self._channels[1].repaired if self._channels else ()

    def settle(self) -> bool:
        """Do what can wait until no samples do; see `ChannelHealth.settle`."""
        return self._channels is not None and self._channels[0].settle()

    def reset(self) -> None:
        """Return to the state before the first sample."""
        for stage in (self._health, *(self._channels or ())):
            stage.reset()
        self._grid.reset()
        for _, bank, window in self._blocks:
            bank.reset()
            window.reset()

    def process(self, chunk: Chunk) -> FeatureBlock:
        """Return the features of the decisions that end in a chunk.

        Parameters
        ----------
        chunk : Chunk
            Samples in volts, shape (n_channels, n_times); any number of them, none included.

        Returns
        -------
        FeatureBlock
            float32 values, shape (n_decisions, n_features).

        Raises
        ------
        ValueError
            The chunk has another number of channels.
        """
        if chunk.data.shape[0] != self.n_channels:
            raise ValueError(f"chunk has {chunk.data.shape[0]} channels, expected {self.n_channels}")
        pieces = self._health.process(chunk)
        if self._channels:
            rules, repair = self._channels
            pieces = [repair.process(part) for piece in pieces for part in rules.process(piece)]
        blocks = [self._compute(piece) for piece in pieces]
        if len(blocks) == 1:
            return blocks[0]
        return feature_blocks.join(blocks) if blocks else self.flush()

    def _compute(self, chunk: Chunk) -> FeatureBlock:
        """Compute every block of features on samples that have passed the health stage."""
        values, referenced = [], {}
        for settings, bank, window in self._blocks:
            if settings.reference not in referenced:
                data = rereference(chunk.data, settings.reference, self._neighbours)
                referenced[settings.reference] = chunk.with_data(data)
            values.append(window.process(bank.process(referenced[settings.reference])))
        grid = self._grid.process(chunk)
        joined = values[0] if len(values) == 1 else np.concatenate(values, axis=1)
        return FeatureBlock(grid.samples, grid.times, grid.quality, joined)

    def flush(self) -> FeatureBlock:
        """Return what is held back: nothing, since a decision is made at its window's last sample."""
        return FeatureBlock(
            samples=np.empty(0, np.int64),
            times=np.empty(0),
            quality=np.empty(0, np.uint8),
            values=np.empty((0, self.n_features), np.float32),
        )


def _make_window(block: BlockSettings, n_channels: int, hop_samples: int) -> WindowPower | DelayedAmplitude:
    if isinstance(block, PowerSettings):
        return WindowPower(len(block.filters) * n_channels, hop_samples, block)
    return DelayedAmplitude(len(block.filters), n_channels, hop_samples, block)


class Detector:
    """Flags events in a stream of samples with a trained model.

    Parameters
    ----------
    model : Model
        A loaded model; its metadata hold the settings of every stage.

    Attributes
    ----------
    model : Model
        The model.
    event_names : tuple of str
        Events that it detects, in the order of the probabilities.

    Examples
    --------
    >>> from streamdetect import Detector, read_recording
    >>> detector = Detector.load("hands.onnx")  # doctest: +SKIP
    >>> recording = read_recording("S001R09.edf")  # doctest: +SKIP
    >>> for chunk in recording.chunks(picks=detector.ch_names):  # doctest: +SKIP
    ...     for detection in detector.process(chunk).detections:
    ...         print(detection.event, detection.time)
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._features = FeaturePipeline(
            len(model.metadata.ch_names), model.metadata.sfreq, model.metadata.health, model.metadata.features
        )
        normaliser = model.metadata.features.normaliser
        hop_s = model.metadata.features.hop_samples / model.metadata.sfreq
        self._normaliser = Normaliser(normaliser, hop_s) if normaliser else None
        self._decision = DecisionStage(model.metadata.decisions)
        self.event_names = tuple(event.name for event in model.metadata.events)

    @classmethod
    def load(cls, model: str | Path) -> Detector:
        """Load a model file, or a shipped model by its name."""
        return cls(Model.load(model))

    def copy(self) -> Detector:
        """Return another detector that runs the same loaded model, before its first sample."""
        return Detector(self.model)

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channels that the detector takes, in this order."""
        return self.model.metadata.ch_names

    @property
    def channel_states(self) -> tuple[ChannelState, ...]:
        """What the rules say of each channel, in the order of `ch_names`; all good where the model has no rules."""
        repaired = self._features.repaired
        return tuple(
            ChannelState(name, faults, index in repaired)
            for index, (name, faults) in enumerate(zip(self.ch_names, self._features.channel_faults, strict=True))
        )

    def check(self, info: StreamInfo) -> None:
        """Refuse a source of another sampling rate.

        Raises
        ------
        InputError
            The source's nominal rate is not the model's.
        """
        expected = self.model.metadata.sfreq
        if abs(info.sfreq - expected) > SFREQ_TOLERANCE * expected:
            raise InputError(
                f"{info.name or 'source'}: sampling rate {info.sfreq:g} Hz, but the model was trained at "
                f"{expected:g} Hz; resample the recording, set the amplifier to that rate, or train a model at this one"
            )

    def reset(self) -> None:
        """Return to the state before the first sample."""
        self._features.reset()
        if self._normaliser:
            self._normaliser.reset()
        self._decision.reset()

    def process(self, chunk: Chunk) -> Decisions:
        """Decide on the windows that end in a chunk.

        Parameters
        ----------
        chunk : Chunk
            Samples in volts, channels in the order of `ch_names`; any number of samples, none included.

        Returns
        -------
        Decisions
            One decision a hop; however a recording is cut into chunks, the joined decisions are bit-identical.
        """
        return decide_together([(self, self.compute(chunk))])[0]

    def flush(self) -> Decisions:
        """Return what is held back: nothing."""
        return decide_together([(self, self._features.flush())])[0]

    def compute(self, chunk: Chunk) -> FeatureBlock:
        """Return what the model is to see of the decisions that end in a chunk: the first half of `process`.

        Parameters
        ----------
        chunk : Chunk
            As for `process`.

        Returns
        -------
        FeatureBlock
            For `decide_together`.
        """
        block = self._features.process(chunk)
        return self._normaliser.process(block) if self._normaliser else block

    def complete(self, block: FeatureBlock, outputs: dict[str, NDArray[np.float32]]) -> Decisions:
        """Return the decisions on features: the second half of `process`, once the model has run.

        Parameters
        ----------
        block : FeatureBlock
            As `compute` gives it.
        outputs : dict of str to ndarray of float32, shape (n_valid, n_events)
            What the model makes of its valid rows.

        Returns
        -------
        Decisions
        """
        if np.count_nonzero(block.quality):
            valid = block.quality == 0
            outputs = {name: _spread(values, valid) for name, values in outputs.items()}
        members = {name: values for name, values in outputs.items() if name != "probability"}
        return self._decision.process(
            Decisions(self.event_names, block.samples, block.times, block.quality, outputs["probability"], members)
        )

    def settle(self) -> bool:
        """Do what can wait until no samples do. Calling it changes when the work is done, and no decision.

        Returns
        -------
        bool
            Whether there was something to do.
        """
        return self._features.settle()


def decide_together(pairs: Sequence[tuple[Detector, FeatureBlock]]) -> list[Decisions]:
    """Decide for several detectors: those that share a model share a run of it.

    Parameters
    ----------
    pairs : sequence of (Detector, FeatureBlock)
        A detector and what it computed; of one detector's blocks each comes after those before it.

    Returns
    -------
    list of Decisions
        In the same order, and the same to the last bit as from one after the other: a row's probability does not depend
        on the rows beside it.
    """
    outputs = predict_together([(detector.model, _valid_rows(block)) for detector, block in pairs])
    return [detector.complete(block, output) for (detector, block), output in zip(pairs, outputs, strict=True)]


def _valid_rows(block: FeatureBlock) -> NDArray[np.float32]:
    return block.values[block.quality == 0] if np.count_nonzero(block.quality) else block.values


def _spread(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Put rows back among the invalid ones, which become NaN."""
    spread = np.full((len(valid), values.shape[1]), np.nan, dtype=np.float32)
    spread[valid] = values
    return spread
