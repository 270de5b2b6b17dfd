from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm, t

from outcomes import HOP_S, make_outcome, simulate_outcomes
from streamdetect.errors import EventError, InputError
from streamdetect.events import Annotation, label_times
from streamdetect.scoring.metrics import Outcome, area_under_roc, pool
from streamdetect.scoring.resampling import BLOCK_S, bootstrap_interval, cut_trials, permutation_test

EVENT = "movement"


def autocorrelated(n: int, tau_s: float, rng: np.random.Generator) -> np.ndarray:
    """Noise that forgets within so many seconds, of unit variance."""
    decay = np.exp(-HOP_S / tau_s)
    noise = lfilter([np.sqrt(1 - decay**2)], [1.0, -decay], rng.standard_normal(n + 1000))
    return noise[1000:]


def place_events(design: str, seconds: float, rng: np.random.Generator) -> list[Annotation]:
    """Rest and movement by the clock, at random intervals, or moments with a jitter."""
    if design == "cued":
        return [Annotation(float(onset), 4.1, EVENT) for onset in np.arange(4.2, seconds - 4.2, 8.3)]
    if design == "random":
        starts = np.cumsum(4 + rng.uniform(2, 5, int(seconds / 7)))
        return [Annotation(float(onset), 4.0, EVENT) for onset in starts if onset < seconds - 4]
    return [Annotation(float(onset), 0.0, EVENT) for onset in np.arange(4, seconds - 4, 8) + rng.uniform(-1.5, 1.5)]


def make_recordings(
    design: str, *, n_recordings: int, seed: int, effect: float = 0.0, seconds: float = 125.0
) -> list[Outcome]:
    """Recordings whose probability is autocorrelated noise, and a second later and smoothed what truly happened."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for index in range(n_recordings):
        events = place_events(design, seconds, rng)
        times = np.arange(round(seconds / HOP_S)) * HOP_S
        felt = np.convolve(label_times(times, events), np.ones(12) / 12)[: len(times)]
        evidence = autocorrelated(len(times), 1.0, rng) + 0.3 * np.linspace(-1, 1, len(times)) + effect * felt
        outcomes.append(make_outcome(1 / (1 + np.exp(-evidence)), events, name=f"run {index}"))
    return outcomes


def tracks(outcomes: Sequence[Outcome]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels and probability of each recording."""
    pooled = [pool([each], EVENT) for each in outcomes]
    return [(each.labels, each.probability) for each in pooled]


def pooled_auc(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    return area_under_roc(*(np.concatenate(each) for each in zip(*parts, strict=True)))


class TestCutTrials:
    def test_cuts_lie_midway_between_events(self) -> None:
        labels = np.zeros(100, dtype=bool)
        labels[[10, 11, 30, 50, 51, 52, 90]] = True
        assert cut_trials(labels, 5) == [slice(0, 21), slice(21, 40), slice(40, 71), slice(71, 100)]

    def test_short_trials_are_joined(self) -> None:
        labels = np.zeros(100, dtype=bool)
        labels[[10, 20, 30, 70, 95]] = True
        assert cut_trials(labels, 20) == [slice(0, 25), slice(25, 50), slice(50, 100)]

    @pytest.mark.parametrize("n", [0, 1, 9])
    @pytest.mark.parametrize("value", [True, False])
    def test_one_label_throughout_is_one_trial(self, n: int, value: bool) -> None:
        assert cut_trials(np.full(n, value), 3) == ([slice(0, n)] if n else [])

    def test_nothing_is_lost(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(50):
            labels = rng.random(rng.integers(1, 80)) < 0.4
            parts = cut_trials(labels, int(rng.integers(0, 30)))
            np.testing.assert_array_equal(np.concatenate([labels[part] for part in parts]), labels)
            assert all(labels[part].any() for part in parts) or not labels.any()


class TestPermutation:
    @pytest.mark.parametrize("design", ["cued", "random", "moments"])
    def test_equals_rolling_the_labels_and_ranking_anew(self, design: str) -> None:
        outcomes = make_recordings(design, n_recordings=3, seed=1, effect=0.3)
        outcomes[1] = make_outcome(  # ties and lost signal
            np.round(outcomes[1].decisions.probability[:, 0], 1), outcomes[1].events[EVENT], invalid=slice(200, 320)
        )
        found = permutation_test(outcomes, EVENT, n_permutations=40, seed=5)

        rng = np.random.default_rng(5)
        blocks, offsets = [], []
        for labels, probability in tracks(outcomes):
            for part in cut_trials(labels, round(BLOCK_S / HOP_S)):
                blocks.append((labels[part], probability[part]))
                offsets.append(rng.integers(part.stop - part.start, size=40))
        expected = [
            pooled_auc([(np.roll(labels, shift[k]), p) for (labels, p), shift in zip(blocks, offsets, strict=True)])
            for k in range(40)
        ]
        observed = pooled_auc(blocks)
        np.testing.assert_allclose(found.null, np.array(expected, dtype=float), rtol=1e-12)
        assert found.auc == observed
        assert found.p_value == (1 + sum(auc >= observed for auc in expected)) / 41
        assert found.n_blocks == len(blocks) >= 9

    @pytest.mark.parametrize("n_recordings", [1, 4])
    @pytest.mark.parametrize("design", ["cued", "random", "moments"])
    def test_noise_is_no_better_than_luck(self, design: str, n_recordings: int) -> None:
        p_values = np.array(
            [
                permutation_test(make_recordings(design, n_recordings=n_recordings, seed=seed), EVENT, 199).p_value
                for seed in range(200)
            ]
        )
        assert np.mean(p_values <= 0.05) <= 0.08
        assert 0.4 < p_values.mean() < 0.6
        assert np.histogram(p_values, 4, (0, 1))[0].min() >= 25  # of 50

    def test_noise_would_look_better_if_decisions_were_shuffled(self) -> None:
        """What the blocks are for; else the test above could hold for any test."""
        n_found = 0
        for seed in range(50):
            rng = np.random.default_rng(1000 + seed)
            pooled = pool(make_recordings("cued", n_recordings=1, seed=seed), EVENT)
            observed = area_under_roc(pooled.labels, pooled.probability)
            null = [area_under_roc(rng.permutation(pooled.labels), pooled.probability) for _ in range(39)]
            n_found += all(auc < observed for auc in null)
        assert n_found > 10

    @pytest.mark.parametrize("n_recordings", [1, 3])
    @pytest.mark.parametrize(("design", "effect"), [("cued", 1.5), ("random", 1.5), ("moments", 8.0)])
    def test_an_effect_is_found_though_it_lags(self, design: str, effect: float, n_recordings: int) -> None:
        found = permutation_test(make_recordings(design, n_recordings=n_recordings, seed=3, effect=effect), EVENT)
        assert found.auc > 0.6
        assert found.p_value <= 0.01

    def test_worse_than_chance_is_not_better(self) -> None:
        found = permutation_test(make_recordings("cued", n_recordings=3, seed=0, effect=-2.0), EVENT)
        assert found.p_value == 1.0

    def test_knowing_the_recording_is_not_knowing_the_event(self) -> None:
        """A higher probability in the recording that holds more events raises the AUC of chance as well."""
        rng = np.random.default_rng(0)
        busy = [Annotation(float(onset), 4.0, EVENT) for onset in np.arange(2, 118, 5)]
        calm = [Annotation(float(onset), 1.0, EVENT) for onset in np.arange(5, 110, 20)]
        outcomes = [
            make_outcome(0.3 * level + 0.2 * rng.random(1200), events)
            for level, events in zip((1, 0), (busy, calm), strict=True)
        ]
        found = permutation_test(outcomes, EVENT)
        assert found.auc > 0.7
        assert found.p_value > 0.05
        assert abs(found.null.mean() - found.auc) < 0.03

    def test_same_seed_same_answer(self) -> None:
        outcomes = make_recordings("random", n_recordings=2, seed=0, effect=0.2)
        first, again, other = (permutation_test(outcomes, EVENT, 99, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.null, again.null)
        assert not np.array_equal(first.null, other.null)

    def test_event_that_leaves_no_room_is_not_significant(self) -> None:
        rng = np.random.default_rng(0)
        outcome = make_outcome(rng.random(50), [Annotation(0.0, 4.9, EVENT)])
        assert permutation_test([outcome], EVENT, 99).p_value > 0.01


class TestBootstrap:
    def test_by_recording_equals_ranking_each_sample_anew(self) -> None:
        outcomes = make_recordings("random", n_recordings=5, seed=2, effect=0.5)
        outcomes[3] = make_outcome(np.round(outcomes[3].decisions.probability[:, 0], 1), outcomes[3].events[EVENT])
        outcomes[4] = replace(outcomes[4], events={EVENT: ()})
        found = bootstrap_interval(outcomes, EVENT, n_boot=60, seed=9, level=0.9)

        parts = tracks(outcomes)
        drawn = np.random.default_rng(9).multinomial(5, [0.2] * 5, size=60)
        aucs = [pooled_auc([parts[index] for index in np.repeat(np.arange(5), each)]) for each in drawn]
        tail = norm.cdf(np.sqrt(5 / 4) * t.ppf(0.05, 4))
        assert 0 < tail < 0.05
        np.testing.assert_allclose(found[:2], np.quantile([auc for auc in aucs if auc is not None], [tail, 1 - tail]))
        assert found[2:] == ("recording", 5)

    def test_a_single_recording_is_drawn_by_trial(self) -> None:
        outcomes = make_recordings("moments", n_recordings=1, seed=2, effect=2.0)
        found = bootstrap_interval(outcomes, EVENT, n_boot=60, seed=9)

        ((labels, probability),) = tracks(outcomes)
        trials = [(labels[part], probability[part]) for part in cut_trials(labels, 40)]
        n = len(trials)
        drawn = np.random.default_rng(9).multinomial(n, [1 / n] * n, size=60)
        aucs = [pooled_auc([trials[index] for index in np.repeat(np.arange(n), each)]) for each in drawn]
        tail = norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1))
        np.testing.assert_allclose(found[:2], np.quantile(np.array(aucs, dtype=float), [tail, 1 - tail]))
        assert found[2:] == ("trial", n)
        assert n == len(outcomes[0].events[EVENT])

    def test_trials_where_fewer_than_three_recordings_hold_the_event(self) -> None:
        outcomes = make_recordings("moments", n_recordings=4, seed=2, effect=2.0)
        outcomes[2:] = [replace(each, events={}) for each in outcomes[2:]]
        found = bootstrap_interval(outcomes, EVENT)
        assert found[2:] == ("trial", sum(len(each.events[EVENT]) for each in outcomes[:2]))
        assert found.low < permutation_test(outcomes, EVENT).auc < found.high

    def test_samples_without_the_event_are_left_out(self) -> None:
        outcomes = make_recordings("random", n_recordings=6, seed=2, effect=0.5)
        outcomes = [*outcomes[:3], *(replace(each, events={}) for each in outcomes[3:])]
        found = bootstrap_interval(outcomes, EVENT)
        assert found.resampled_by == "recording"
        assert np.isfinite([found.low, found.high]).all()

    def test_covers_the_truth(self) -> None:
        """Of ten recordings the interval holds what a hundred times as many score, nearly as often as it says."""
        truth = permutation_test(make_recordings("random", n_recordings=200, seed=99, effect=0.6), EVENT, 1).auc
        found = [
            bootstrap_interval(make_recordings("random", n_recordings=10, seed=seed, effect=0.6), EVENT, 200)
            for seed in range(100)
        ]
        n_covered = sum(each.low <= truth <= each.high for each in found)
        assert 88 <= n_covered <= 99

    def test_less_data_wider_interval(self) -> None:
        widths = []
        for n_recordings in (6, 24):
            outcomes = make_recordings("random", n_recordings=n_recordings, seed=1, effect=0.6)
            found = bootstrap_interval(outcomes, EVENT)
            widths.append(found.high - found.low)
        assert widths[0] > 1.4 * widths[1]

    def test_a_single_trial_gives_no_interval(self) -> None:
        outcome = make_outcome(np.linspace(0, 1, 300), [Annotation(25.0, 4.0, EVENT)])
        assert bootstrap_interval([outcome], EVENT) == (None, None, None, 0)


class TestUndefined:
    nothing_inside = make_outcome(np.full(100, 0.5), ())
    nothing_outside = make_outcome(np.full(100, 0.5), [Annotation(0.0, 10.0, EVENT)])
    nothing_valid = make_outcome(np.full(100, 0.5), [Annotation(2.0, 1.0, EVENT)], invalid=slice(None))
    empty = make_outcome([], [Annotation(2.0, 1.0, EVENT)])

    @pytest.mark.parametrize("name", ["nothing_inside", "nothing_outside", "nothing_valid", "empty"])
    def test_has_no_p_value_and_no_interval(self, name: str) -> None:
        outcome = getattr(self, name)
        assert permutation_test([outcome], EVENT)[:2] == (None, None)
        assert bootstrap_interval([outcome], EVENT) == (None, None, None, 0)

    @pytest.mark.parametrize("name", ["nothing_valid", "empty"])
    def test_a_recording_without_decisions_changes_nothing(self, name: str) -> None:
        outcomes = make_recordings("random", n_recordings=2, seed=0, effect=0.5)
        more = [outcomes[0], getattr(self, name), outcomes[1]]
        assert permutation_test(more, EVENT, 99).p_value == permutation_test(outcomes, EVENT, 99).p_value
        assert bootstrap_interval(more, EVENT) == bootstrap_interval(outcomes, EVENT)

    def test_bad_arguments_are_refused(self) -> None:
        outcomes = simulate_outcomes((EVENT,), n_recordings=2, seconds=60)
        with pytest.raises(InputError, match="n_permutations: expected at least 1, found 0"):
            permutation_test(outcomes, EVENT, 0)
        with pytest.raises(InputError, match="n_boot: expected at least 1, found 0"):
            bootstrap_interval(outcomes, EVENT, 0)
        with pytest.raises(InputError, match="level: expected a part above 0 and below 1"):
            bootstrap_interval(outcomes, EVENT, level=95)
        for call in (permutation_test, bootstrap_interval):
            with pytest.raises(EventError, match="expected one of movement, found 'grasp'"):
                call(outcomes, "grasp")
