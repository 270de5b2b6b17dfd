"""Every streaming block keeps the contract, with Hypothesis choosing the cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from models import make_model
from streamdetect.chunk import Chunk, Quality
from streamdetect.decisions import Decisions
from streamdetect.detector import Detector, FeaturePipeline
from streamdetect.scoring.scalp import electrode_directions
from streamdetect.settings import (
    AmplitudeSettings,
    ChannelHealthSettings,
    DecisionSettings,
    FeatureSettings,
    FilterSettings,
    HealthSettings,
    NormaliserSettings,
    PowerSettings,
)
from streamdetect.stages.channel_health import ChannelHealth
from streamdetect.stages.decision import DecisionStage
from streamdetect.stages.features import DelayedAmplitude, HopGrid, WindowPower
from streamdetect.stages.health import Health
from streamdetect.stages.model import Model
from streamdetect.stages.normalise import Normaliser
from streamdetect.stages.preprocess import FilterBank
from streamdetect.stages.repair import Repair

SFREQ = 100.0
N_CHANNELS = 3
HEALTH = HealthSettings(max_gap_samples=12, flat_samples=30)
POWER = FeatureSettings("power", (PowerSettings((FilterSettings(None, 30.0),), window_samples=50, log=True),), 4)
FILTERS = (FilterSettings(8.0, 13.0, 2), FilterSettings(None, 5.0))
BANK = FeatureSettings("bank", (PowerSettings(FILTERS, window_samples=33, log=False),), 1)
DELAYS = AmplitudeSettings(FILTERS, delays_samples=(0, 3, 20), reference="average")
COURSE = AmplitudeSettings(FILTERS, delays_samples=(2, 5, 9, 31), n_cosines=3, reference="laplacian")
LAPLACIAN = PowerSettings(FILTERS, window_samples=20, log=True, reference="laplacian")
EVERYTHING = FeatureSettings("all", (DELAYS, COURSE, LAPLACIAN, *POWER.blocks), 3, neighbours=((1, 2), (0,), (1, 0)))


@st.composite
def signals(draw, n_channels=N_CHANNELS) -> list[Chunk]:
    """Chunks with noise, NaN, infinities, flat stretches, gaps and restarts; the last may be empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chunks, first = [], 0
    for _ in range(draw(st.integers(1, 4))):
        n_times = draw(st.integers(0, 260))
        data = 1e-5 * rng.standard_normal((n_channels, n_times)) + rng.normal(0, 1e-3, (n_channels, 1))
        for _ in range(draw(st.integers(0, 3))):
            start, length = draw(st.integers(0, 250)), draw(st.integers(1, 70))
            channel = draw(st.integers(0, n_channels - 1))
            data[channel, start : start + length] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0]))
        n_lost = draw(st.sampled_from([0, 0, 1, 5, 12, 13, 40])) if chunks else 0
        first += n_lost
        times = (first + np.arange(n_times)) / SFREQ
        chunks.append(Chunk(data, times, n_lost=n_lost, restart=bool(chunks) and draw(st.integers(0, 5)) == 0))
        first += n_times
    return chunks


@st.composite
def cutters(draw):
    """A function that cuts a chunk at random places, empty and one-sample pieces included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1, 3, 20, 200]))

    def recut(chunk: Chunk) -> list[Chunk]:
        sizes, left = [], chunk.n_times
        while left:
            size = min(left, int(rng.integers(0, scale + 1)))
            sizes.append(size)
            left -= size
        return contract.cut(chunk, [*sizes, 0])

    return recut


class AfterHealth:
    """A block behind the health stage, so that it gets what it gets in the pipeline."""

    def __init__(self, *blocks, n_channels=N_CHANNELS) -> None:
        self.health = Health(n_channels, SFREQ, HEALTH)
        self.blocks = blocks

    def reset(self) -> None:
        for block in (self.health, *self.blocks):
            block.reset()

    def process(self, chunk: Chunk) -> list:
        pieces: list = self.health.process(chunk)
        for block in self.blocks:
            outputs = [block.process(piece) for piece in pieces]
            pieces = [one for each in outputs for one in (each if isinstance(each, list) else [each])]
        return pieces

    def flush(self) -> tuple[()]:
        return ()


def make_bank():
    return FilterBank(FILTERS, N_CHANNELS, SFREQ)


def make_power():
    return WindowPower(2 * N_CHANNELS, 7, PowerSettings(FILTERS, window_samples=33, log=True))


def make_amplitude(settings_):
    return DelayedAmplitude(2, N_CHANNELS, 7, settings_)


class Normalised:
    """A pipeline with the normaliser behind it."""

    def __init__(self) -> None:
        self.pipeline = FeaturePipeline(N_CHANNELS, SFREQ, HEALTH, POWER)
        self.normaliser = Normaliser(NormaliserSettings(3.0, (-1.0, 0.0, 2.0), (0.5, 1.0, 0.0)), 4 / SFREQ)

    def reset(self) -> None:
        self.pipeline.reset()
        self.normaliser.reset()

    def process(self, chunk: Chunk):
        return self.normaliser.process(self.pipeline.process(chunk))

    def flush(self):
        return self.pipeline.flush()


BLOCKS = {
    "health": lambda: Health(N_CHANNELS, SFREQ, HEALTH),
    "preprocess": lambda: AfterHealth(make_bank()),
    "hop grid": lambda: AfterHealth(HopGrid(7, 40)),
    "power": lambda: AfterHealth(make_bank(), make_power()),
    "delays": lambda: AfterHealth(make_bank(), make_amplitude(DELAYS)),
    "course": lambda: AfterHealth(make_bank(), make_amplitude(COURSE)),
    "normaliser": Normalised,
    "pipeline power": lambda: FeaturePipeline(N_CHANNELS, SFREQ, HEALTH, POWER),
    "pipeline bank": lambda: FeaturePipeline(N_CHANNELS, SFREQ, HEALTH, BANK),
    "pipeline of every block": lambda: FeaturePipeline(N_CHANNELS, SFREQ, HEALTH, EVERYTHING),
}


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=60, deadline=None)
@given(chunks=signals(), recut=cutters())
def test_block_keeps_the_contract(name, chunks, recut):
    contract.check_block(BLOCKS[name], chunks, recut)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=signals(), recut=cutters())
def test_detector_keeps_the_contract(tiny_model, chunks, recut):
    contract.check_block(lambda: Detector(tiny_model), chunks, recut)


SIX = ("Fz", "C3", "Cz", "C4", "Pz", "Oz")
RULES = ChannelHealthSettings(block_samples=28, max_repaired=2, positions=electrode_directions(SIX), lag_samples=8)
WITH_RULES = replace(HEALTH, channels=RULES)


def make_rules():
    return ChannelHealth(6, SFREQ, RULES.block_samples, RULES.lag_samples)


RULE_BLOCKS = {
    "channel health": lambda: AfterHealth(make_rules(), n_channels=6),
    "repair": lambda: AfterHealth(make_rules(), Repair(RULES), n_channels=6),
    "pipeline with rules": lambda: FeaturePipeline(6, SFREQ, WITH_RULES, POWER),
}


@pytest.mark.parametrize("name", RULE_BLOCKS)
@settings(max_examples=40, deadline=None)
@given(chunks=signals(n_channels=6), recut=cutters())
def test_channel_rules_keep_the_contract(name, chunks, recut):
    contract.check_block(RULE_BLOCKS[name], chunks, recut)


@pytest.fixture(scope="module")
def model_with_rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "rules.onnx"
    return Model.load(make_model(path, ch_names=SIX, sfreq=SFREQ, n_events=2, hop_samples=4, health=WITH_RULES))


@settings(max_examples=40, deadline=None)
@given(chunks=signals(n_channels=6), recut=cutters())
def test_detector_with_rules_keeps_the_contract(model_with_rules, chunks, recut):
    contract.check_block(lambda: Detector(model_with_rules), chunks, recut)


def test_live_equals_replay_while_channels_fail_and_come_back(model_with_rules):
    """One goes flat, one is railed with it, a third makes them too many; each comes back. Every reason occurs."""
    data = 1e-5 * np.random.default_rng(5).standard_normal((6, 3000))
    data[1, 500:1100] = data[1, 499]
    data[4, 700:1000] = 0.1875
    data[0, 800:900] = -0.1875
    whole = Chunk(data, np.arange(3000) / SFREQ)
    replayed = Detector(model_with_rules).process(whole)
    live = Detector(model_with_rules)
    decisions = [live.process(piece) for piece in contract.cut(whole, [7] * 428 + [4])]
    contract.assert_same(contract.join(decisions), contract.join([replayed]))
    reason = {int(sample): Quality(quality) for sample, quality in zip(replayed.samples, replayed.quality, strict=True)}
    # Blocks end at multiples of 28, verdicts lag by 8. Flat until 532, railed until 728, one too many until 812.
    assert [reason[sample] for sample in (539, 543, 699, 735, 739, 819)] == [
        *(Quality.GOOD, Quality.WARM_UP, Quality.GOOD, Quality.GOOD, Quality.WARM_UP, Quality.GOOD)
    ]
    # The last of its blocks ends at 924: good again ten blocks later.
    assert {reason[sample] for sample in range(823, 924 + 280 + 8, 4)} == {Quality.BAD_CHANNELS}
    assert reason[924 + 280 + 8 + 3] == Quality.WARM_UP
    assert reason[2999] == Quality.GOOD
    assert replayed.samples.tolist() == list(range(3, 3000, 4))  # a restart keeps the grid of the hop


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_decision_stage_keeps_the_contract(seed, cuts):
    rng = np.random.default_rng(seed)
    n = sum(cuts)
    probability = rng.choice([0.1, 0.5, 0.9, np.nan], size=(n, 2), p=[0.2, 0.1, 0.65, 0.05]).astype(np.float32)
    quality = np.isnan(probability).any(axis=1).astype(np.uint8)
    whole = Decisions(("a", "b"), np.arange(n) * 10, np.arange(n) / 50, quality, probability, {"lda": probability})
    stage = DecisionStage((DecisionSettings(0.5, 30, 100), DecisionSettings(0.6, 0, 0)))
    expected = stage.process(whole).detections
    stage.reset()
    found, start = [], 0
    for size in cuts:
        part = slice(start, start + size)
        found += stage.process(
            Decisions(whole.event_names, whole.samples[part], whole.times[part], quality[part], probability[part], {})
        ).detections
        start += size
    assert sorted(found, key=lambda d: (d.event, d.sample)) == sorted(expected, key=lambda d: (d.event, d.sample))


@pytest.mark.parametrize("name", BLOCKS)
def test_float32_input_gives_the_float64_answer_of_the_same_values(name):
    data = np.random.default_rng(0).standard_normal((N_CHANNELS, 300)).astype(np.float32) * np.float32(1e-5)
    times = np.arange(300) / SFREQ
    from_float32 = contract.collect(BLOCKS[name](), [Chunk(data, times)])
    from_float64 = contract.collect(BLOCKS[name](), [Chunk(data.astype(np.float64), times)])
    contract.assert_same(from_float32, from_float64)


@pytest.mark.parametrize("settings_", [POWER, BANK, EVERYTHING], ids=["power", "bank", "every block"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_bad_channel_makes_decisions_invalid_and_keeps_them_finite(settings_, bad):
    pipeline = FeaturePipeline(N_CHANNELS, SFREQ, HEALTH, settings_)
    data = 1e-5 * np.random.default_rng(1).standard_normal((N_CHANNELS, 900))
    data[1, 300:400] = bad
    block = pipeline.process(Chunk(data, np.arange(900) / SFREQ))
    assert np.isfinite(block.values).all()
    flat = bad == 0.0
    first_bad = 300 + (HEALTH.flat_samples - 1 if flat else 0)
    expected_bad = np.zeros(900, dtype=bool)
    expected_bad[first_bad:400] = True
    during = (block.samples >= first_bad) & (block.samples < 400)
    assert set(block.quality[during]) == {Quality.FLAT if flat else Quality.NON_FINITE}
    after = block.samples >= 400 + pipeline.warmup_samples
    assert (block.quality[after] == Quality.GOOD).all()
    assert after.any()
