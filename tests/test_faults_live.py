"""Each kind of fault, played over LSL into a live session: what the rules of `streamdetect monitor` make of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import signal

from fake_recording import FakeRecording
from models import make_model
from streamdetect.bench.rehearsal import decide_offline, rehearse, rehearse_live
from streamdetect.chunk import StreamInfo
from streamdetect.detector import Detector
from streamdetect.errors import StreamError
from streamdetect.scoring.scalp import electrode_directions
from streamdetect.settings import ChannelHealthSettings, HealthSettings
from streamdetect.sources.fault_plan import (
    ClockJump,
    Drift,
    Duplicates,
    FaultPlan,
    Flat,
    Gap,
    LineNoise,
    Muscle,
    NotANumber,
    Railed,
    Restart,
    Steps,
)

pytestmark = pytest.mark.usefixtures("lsl")

SFREQ = 250.0
CH_NAMES = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
INFO = StreamInfo(CH_NAMES, SFREQ, "rec.edf")
_numbers = itertools.count()


def make_recording(seconds):
    """Make noise with most of its power below 10 Hz."""
    white = np.random.default_rng(0).standard_normal((len(CH_NAMES), round(seconds * SFREQ)))
    return FakeRecording(signal.lfilter([5e-6], [1.0, -0.9], white), INFO)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Return a detector that repairs up to two of ten channels."""
    rules = ChannelHealthSettings(block_samples=250, max_repaired=2, positions=electrode_directions(CH_NAMES))
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return Detector.load(make_model(path, ch_names=CH_NAMES, health=HealthSettings(250, 250, rules)))


@pytest.fixture
def live(detector, tmp_path):
    """Return a function that plays 20 s with faults over LSL into a session.

    It returns the session, and a function for the decisions on what was sent.
    """

    def run(*faults, seconds=20.0):
        recording, plan = make_recording(seconds), FaultPlan(faults=faults)
        ended = rehearse_live(recording, plan, detector, tmp_path / "j.jsonl", f"faults-{next(_numbers)}")
        return ended, lambda: decide_offline(recording, plan, detector)

    return run


def check(ended, decide):
    """Check that nothing was lost but what the plan took away, and that the decisions are those that it leaves."""
    expected = decide()
    assert ended.error is None
    assert (ended.summary.n_samples, ended.summary.n_lost) == (ended.n_sent, ended.n_lost)
    assert sum(record["n_lost"] for record in ended.of_type("reset")) == ended.n_lost
    decisions = ended.of_type("decision")
    assert [record["sample"] for record in decisions] == expected.samples.tolist()
    assert [record["valid"] for record in decisions] == expected.valid.tolist()
    live = np.array([record["p_HandStart"] for record in decisions], dtype=np.float32)
    assert np.array_equal(live, expected.probability[:, 0], equal_nan=True)
    assert decisions[-1]["valid"]


def invalid_spans(ended):
    """List from where to where, in s, decisions after the first warm-up are invalid, and why."""
    decisions = [record for record in ended.of_type("decision") if record["sample"] > 2 * SFREQ]
    runs = [list(run) for is_valid, run in itertools.groupby(decisions, lambda one: one["valid"]) if not is_valid]
    return [(run[0]["sample"] / SFREQ, run[-1]["sample"] / SFREQ, {one["reason"] for one in run}) for run in runs]


def about(seconds):
    return pytest.approx(seconds, abs=0.03)  # the hop is 0.02 s


WARMUP_S = 0.3  # the window of 0.2 s, and the settling of the filter


def test_each_sample_of_a_gap_is_counted_and_decisions_wait_for_the_warm_up(live):
    ended, decide = live(Gap(onset=6.0, duration=0.004), Gap(onset=10.0, duration=0.5), Gap(onset=14.0, duration=2.0))
    check(ended, decide)
    assert ended.n_lost == 1 + 125 + 500
    resets = [(record["sample"], record["n_lost"]) for record in ended.of_type("reset")]
    assert resets == [(1501, 1), (2625, 125), (4000, 500)]
    short, filled, longest = invalid_spans(ended)
    assert short == (about(6.0), about(6.0 + WARMUP_S), {"lost"})
    assert filled == (about(10.0), about(10.5 + WARMUP_S), {"lost"})
    assert longest == (about(16.0), about(16.0 + WARMUP_S), {"warm-up"})  # in a long gap there is no decision at all


def test_a_clock_that_jumps_starts_anew_and_loses_nothing(live):
    ended, decide = live(ClockJump(onset=6.0, jump_s=3600.0), ClockJump(onset=12.0, jump_s=-7200.0))
    check(ended, decide)
    resets = [(record["sample"], record["n_lost"], record["restart"]) for record in ended.of_type("reset")]
    assert resets == [(1500, 0, True), (3000, 0, True)]
    assert (ended.n_lost, ended.summary.n_restarts) == (0, 2)
    assert [span[:2] for span in invalid_spans(ended)] == [
        (about(6.0), about(6.0 + WARMUP_S)),
        (about(12.0), about(12.0 + WARMUP_S)),
    ]


def test_duplicates_are_not_processed_twice(live):
    ended, decide = live(Duplicates(onset=6.0, duration=1.0), Duplicates(onset=12.0, duration=0.05))
    check(ended, decide)
    assert ended.n_repeated == ended.summary.n_repeated == 262
    assert (ended.summary.n_samples, ended.summary.n_gaps) == (5000, 0)
    assert invalid_spans(ended) == []


def test_a_clock_that_drifts_loses_nothing(live):
    ended, decide = live(Drift(onset=0.0, duration=20.0, ppm=5000.0))
    check(ended, decide)
    assert (ended.n_lost, ended.summary.n_gaps) == (0, 0)
    assert invalid_spans(ended) == []


def test_a_clock_that_drifts_shows_in_the_effective_rate(detector, tmp_path):
    plan = FaultPlan(faults=(Drift(onset=0.0, duration=20.0, ppm=-8000.0),))
    ended = rehearse(make_recording(20.0), plan, detector, tmp_path / "j.jsonl")
    assert ended.statuses[-1].effective_sfreq == pytest.approx(0.992 * SFREQ, rel=1e-4)
    assert any("below the nominal" in warning for warning in ended.statuses[-1].warnings)


def test_nan_makes_decisions_invalid_until_the_warm_up_has_passed_and_poisons_nothing(live):
    ended, decide = live(NotANumber(onset=6.0, duration=0.2), NotANumber(onset=12.0, duration=3.0, channels=("C3",)))
    check(ended, decide)
    short, longer = invalid_spans(ended)
    assert short == (about(6.0), about(6.2 + WARMUP_S), {"non-finite"})
    assert longer[:2] == (about(12.0), about(15.0 + WARMUP_S))
    assert "non-finite" in longer[2]


@pytest.mark.parametrize("source_id", ["same", "new"])
def test_a_stream_that_restarts_is_taken_up_again_and_its_loss_is_counted(live, source_id):
    ended, _ = live(Restart(onset=6.0, duration=1.0, source_id=source_id))
    assert ended.error is None
    assert ended.n_sent == 4750
    assert ended.n_lost >= 250  # and what it took to find the stream again
    assert (ended.summary.n_samples, ended.summary.n_lost) == (ended.n_sent, ended.n_lost)
    (reset,) = ended.of_type("reset")
    assert (reset["sample"], reset["n_lost"]) == (1500 + ended.n_lost, ended.n_lost)
    (span,) = invalid_spans(ended)
    assert span[:2] == (about(6.0 + ended.n_lost / SFREQ), about(6.0 + ended.n_lost / SFREQ + WARMUP_S))


@pytest.mark.parametrize("ch_names", [CH_NAMES[1:], (*CH_NAMES[1:], CH_NAMES[0])])
def test_a_stream_that_comes_back_with_other_channels_ends_the_session(live, ch_names):
    ended, _ = live(Restart(onset=6.0, duration=1.0, ch_names=ch_names))
    assert isinstance(ended.error, StreamError)
    assert "came back as another" in str(ended.error)
    assert ended.of_type("decision")[-1]["sample"] == 1499
    assert ended.of_type("end")[0]["reason"] == "lost"


def test_bad_channels_are_repaired_and_too_many_make_decisions_invalid(live):
    flat = Flat(onset=4.0, duration=6.0, channels=("C3",))
    railed = Railed(onset=6.0, duration=4.0, channels=("P4",))
    ended, decide = live(flat, railed, Flat(onset=8.0, duration=2.0, channels=("Fz",)), seconds=24.0)
    check(ended, decide)
    spans = [(start, reasons) for start, _, reasons in invalid_spans(ended)]
    assert (about(5.0), {"warm-up"}) in spans
    assert (about(7.0), {"warm-up"}) in spans
    assert any(start == about(9.0) and "bad-channels" in reasons for start, reasons in spans)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Flat, {"level_uv": 40.0}),
        (Railed, {"level_uv": -3276.8}),
        (LineNoise, {"amplitude_uv": 200.0}),
        (LineNoise, {"amplitude_uv": 200.0, "frequency": 60.0}),
        (Muscle, {"amplitude_uv": 200.0}),
        (Steps, {"amplitude_uv": 1000.0, "interval_s": 0.8}),
    ],
)
def test_a_bad_channel_is_named_repaired_and_good_again_in_the_end(detector, tmp_path, kind, settings):
    plan = FaultPlan(faults=(kind(onset=5.0, duration=8.0, channels=("C3",), **settings),))
    ended = rehearse(make_recording(30.0), plan, detector, tmp_path / "j.jsonl")
    bad = [state for status in ended.statuses for state in status.channels if state.reasons]
    assert {(state.name, state.reasons) for state in bad} == {("C3", (kind.model_fields["kind"].default,))}
    assert sum(state.repaired for state in bad) > 0.9 * len(bad)  # it begins with the sample after the verdict
    assert not any(state.reasons for state in ended.statuses[-1].channels)
    valid = [record["valid"] for record in ended.of_type("decision") if 10.0 < record["sample"] / SFREQ < 13.0]
    assert valid
    assert all(valid)
