from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outcomes import make_outcome
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.scoring.controls import ClockModel, PhaseRandomised, clock_outcome, phase_randomise
from streamdetect.scoring.metrics import area_under_roc, score

SFREQ = 100.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def covariance(data: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cov(data)


class TestClockModel:
    times = np.arange(0, 120, 0.02)
    labels = times % 8.2 >= 4.1

    def test_knows_alternating_cues_of_another_run(self) -> None:
        clock = ClockModel.fit([(self.times, self.labels), (self.times[:5000], self.labels[:5000])])
        later = self.times + 0.01
        assert area_under_roc(later % 8.2 >= 4.1, clock.predict(later)) > 0.98

    def test_knows_cues_in_step_with_its_bins_exactly(self) -> None:
        labels = self.times % 8 >= 4
        clock = ClockModel.fit([(self.times, labels)])
        assert area_under_roc(labels, clock.predict(self.times)) == 1.0

    def test_knows_nothing_of_cues_at_random_times(self) -> None:
        def run(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
            onsets = np.sort(rng(seed).uniform(0, 600, 60))
            times = np.arange(0, 600, 0.1)
            return times, np.abs(times[:, None] - onsets).min(axis=1) < 1

        clock = ClockModel.fit([run(seed) for seed in range(6)])
        times, labels = run(6)
        assert area_under_roc(labels, clock.predict(times)) == pytest.approx(0.5, abs=0.1)

    def test_each_run_counts_the_same(self) -> None:
        times = np.arange(0, 0.5, 0.1)
        dense = np.arange(0, 0.5, 0.001)
        clock = ClockModel.fit([(times, np.ones(5, bool)), (dense, np.zeros(500, bool))])
        assert clock.rates == (0.5,)

    def test_outside_its_bins_it_gives_the_mean(self) -> None:
        clock = ClockModel(1.0, (0.0, 0.5))
        assert clock.predict(np.array([-3.0, 0.5, 1.5, 99.0])).tolist() == [0.25, 0.0, 0.5, 0.25]

    def test_bins_that_no_run_reaches_get_the_mean(self) -> None:
        times = np.array([0.1, 5.1])
        clock = ClockModel.fit([(times, np.array([True, False]))])
        assert clock.rates[5] == 0.5

    def test_goes_through_json(self) -> None:
        clock = ClockModel.fit([(self.times, self.labels)])
        document = json.loads(json.dumps(asdict(clock)))
        assert ClockModel(document["bin_s"], tuple(document["rates"])) == clock

    def test_needs_a_labelled_moment(self) -> None:
        with pytest.raises(InputError, match="at least one labelled moment"):
            ClockModel.fit([])

    def test_is_scored_like_a_detector(self) -> None:
        outcome = make_outcome([0.5] * 100, [Annotation(4.0, 2.0, "T1")], detection_times=[1.0], invalid=slice(0, 10))
        clock = ClockModel.fit(
            [(outcome.decisions.times, (outcome.decisions.times >= 4) & (outcome.decisions.times < 6))]
        )
        scores = score([clock_outcome(outcome, {"movement": clock})], {"movement": 0.5})
        assert scores["n_invalid"] == 10
        assert scores["mean"]["auc"] == 1.0
        assert scores["mean"]["members"] == {}
        assert scores["mean"]["false_alarms_per_min"] == 0.0


class TestPhaseRandomise:
    @pytest.mark.parametrize("n_times", [1, 2, 3, 500, 501])
    def test_keeps_spectra_and_cross_spectra(self, n_times: int) -> None:
        data = rng().standard_normal((3, 3)) @ rng(1).standard_normal((3, n_times)) + 5.0
        surrogate = phase_randomise(data, rng(2))
        before, after = np.fft.rfft(data), np.fft.rfft(surrogate)
        # The transforms sum 500 values of size 10: rounding stays below 1e-10.
        np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-10)
        cross = np.einsum("if,jf->ijf", before, before.conj())
        np.testing.assert_allclose(np.einsum("if,jf->ijf", after, after.conj()), cross, atol=1e-8)
        np.testing.assert_allclose(surrogate.mean(axis=1), data.mean(axis=1), atol=1e-12)

    def test_scrambles_the_timing(self) -> None:
        data = rng().standard_normal((4, 5000))
        data[:, 2500:] *= 10
        surrogate = phase_randomise(data, rng(1))
        assert abs(np.corrcoef(data[0], surrogate[0])[0, 1]) < 0.1
        ratio = surrogate[:, 2500:].std() / surrogate[:, :2500].std()
        assert ratio == pytest.approx(1.0, abs=0.1)

    def test_constant_channel_stays_constant_to_the_bit(self) -> None:
        data = np.stack([np.full(501, 0.1), rng().standard_normal(501)])
        assert (phase_randomise(data, rng())[0] == 0.1).all()

    def test_leaves_its_input_alone(self) -> None:
        data = rng().standard_normal((2, 100))
        before = data.copy()
        phase_randomise(data, rng())
        assert np.array_equal(data, before)


@dataclass
class FakeRecording:
    """A recording in memory."""

    data: NDArray[np.float64]
    path: Path = Path("data/S001/S001R03.edf")
    annotations: tuple[Annotation, ...] = (Annotation(1.0, 4.0, "T1"),)
    first_time: float = 12.5
    lost_before: int | None = None  # a chunk ends here, and samples were lost before the next

    @property
    def info(self) -> StreamInfo:
        return StreamInfo(tuple(f"EEG{i}" for i in range(len(self.data))), SFREQ)

    @property
    def n_times(self) -> int:
        return self.data.shape[1]

    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        rows = [self.info.ch_names.index(name) for name in picks or self.info.ch_names]
        cuts = list(range(0, max(1, self.n_times), chunk_samples or 1000))
        if self.lost_before is not None:
            cuts = sorted({*cuts, self.lost_before})
        for start, stop in zip(cuts, [*cuts[1:], self.n_times], strict=True):
            is_after_gap = start == self.lost_before
            yield Chunk(
                self.data[rows, start:stop],
                np.arange(start, stop) / SFREQ,
                n_lost=7 if is_after_gap else 0,
                restart=is_after_gap,
                first_sample=start,
            )


def join(chunks: Iterator[Chunk]) -> NDArray[np.float64]:
    return np.concatenate([chunk.data for chunk in chunks], axis=1)


class TestPhaseRandomised:
    recording = FakeRecording(rng().standard_normal((3, 7001)).cumsum(axis=1) % 5)

    def test_looks_like_the_recording(self) -> None:
        wrapped = PhaseRandomised(self.recording, seed=1)
        for name in ("path", "info", "n_times", "annotations", "first_time"):
            assert getattr(wrapped, name) == getattr(self.recording, name)
        assert join(wrapped.chunks()).shape == self.recording.data.shape

    def test_one_segment_keeps_the_covariance(self) -> None:
        surrogate = join(PhaseRandomised(self.recording, seed=1).chunks())
        np.testing.assert_allclose(covariance(surrogate), covariance(self.recording.data), rtol=1e-9)
        assert abs(np.corrcoef(surrogate[0], self.recording.data[0])[0, 1]) < 0.5

    @settings(deadline=None)
    @given(chunk_samples=st.integers(20, 8000))
    def test_does_not_depend_on_chunks(self, chunk_samples: int) -> None:
        wrapped = PhaseRandomised(self.recording, seed=1, segment_s=10.0)
        chunks = list(wrapped.chunks(chunk_samples=chunk_samples))
        assert np.array_equal(join(iter(chunks)), join(wrapped.chunks()))
        assert np.array_equal(np.concatenate([chunk.times for chunk in chunks]), np.arange(7001) / SFREQ)
        starts = np.cumsum([0, *(chunk.n_times for chunk in chunks)])[:-1]
        assert [chunk.first_sample for chunk in chunks] == starts.tolist()

    def test_memory_is_bounded_by_segments(self) -> None:
        wrapped = PhaseRandomised(self.recording, seed=1, segment_s=10.0)
        seen = 0

        class Counting(FakeRecording):
            def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
                nonlocal seen
                for chunk in super().chunks(picks, chunk_samples):
                    seen += chunk.n_times
                    yield chunk

        wrapped = PhaseRandomised(Counting(self.recording.data), seed=1, segment_s=10.0)
        next(wrapped.chunks(chunk_samples=100))
        assert seen <= 1500 + 100

    def test_segment_edges_differ_between_recordings(self) -> None:
        def edges(path: str) -> list[int]:
            wrapped = PhaseRandomised(replace(self.recording, path=Path(path)), seed=1, segment_s=10.0)
            return [chunk.first_sample for chunk in wrapped.chunks(chunk_samples=7001)]

        first, second = edges("a/S001R03.edf"), edges("a/S001R07.edf")
        assert len(first) == len(second) == 7
        assert not set(first[1:]) & set(second[1:])

    def test_alike_recordings_get_unlike_phases(self) -> None:
        other = replace(self.recording, path=Path("data/S001/S001R07.edf"))
        one, two = (join(PhaseRandomised(each, seed=1).chunks()) for each in (self.recording, other))
        assert abs(np.corrcoef(one[0], two[0])[0, 1]) < 0.5

    def test_same_phases_wherever_the_data_lie(self) -> None:
        moved = replace(self.recording, path=Path("/mnt/elsewhere/S001/S001R03.edf"))
        one, two = (join(PhaseRandomised(each, seed=1).chunks()) for each in (self.recording, moved))
        assert np.array_equal(one, two)

    def test_picks(self) -> None:
        wrapped = PhaseRandomised(self.recording, seed=1)
        assert np.array_equal(join(wrapped.chunks(["EEG2"])), join(wrapped.chunks())[2:])

    def test_bad_samples_and_gaps_stay_where_they_were(self) -> None:
        data = self.recording.data.copy()
        data[1, 100:110] = np.nan
        data[2] = np.nan
        wrapped = PhaseRandomised(replace(self.recording, data=data, lost_before=1234), seed=1)
        chunks = list(wrapped.chunks())
        surrogate = join(iter(chunks))
        assert np.array_equal(np.isfinite(surrogate), np.isfinite(data))
        gaps = [(chunk.first_sample, chunk.n_lost, chunk.restart) for chunk in chunks if chunk.n_lost]
        assert gaps == [(1234, 7, True)]

    def test_empty_recording(self) -> None:
        assert [chunk.n_times for chunk in PhaseRandomised(FakeRecording(np.zeros((2, 0))), seed=1).chunks()] == [0]

    def test_hides_the_label_from_band_power(self) -> None:
        # Power that follows a cue of 4 s: the window's power gives it away in the data, not in the surrogate.
        times = np.arange(60_000) / SFREQ
        labels = times % 8 >= 4
        data = rng().standard_normal((1, len(times))) * np.where(labels, 2.0, 1.0)
        surrogate = join(PhaseRandomised(FakeRecording(data), seed=1).chunks())

        def power(signal: NDArray[np.float64]) -> NDArray[np.float64]:
            return (signal[0].reshape(-1, 100) ** 2).mean(axis=1)

        seen = labels[::100]
        auc = area_under_roc(seen, power(data))
        assert auc is not None
        assert auc > 0.95
        assert area_under_roc(seen, power(surrogate)) == pytest.approx(0.5, abs=0.1)
