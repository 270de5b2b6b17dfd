from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models import EVENTS, make_metadata
from outcomes import make_outcome, simulate_outcomes
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.scoring import page
from streamdetect.scoring.calibration import reliability
from streamdetect.scoring.event_figures import lag_figure, operating_figure
from streamdetect.scoring.figures import (
    confusion_figure,
    cut_excerpt,
    excerpt_figure,
    reliability_figure,
    roc_figure,
)
from streamdetect.scoring.metrics import Outcome, match_outcome, pool, score
from streamdetect.scoring.operating import OperatingCurve, operating_curve
from streamdetect.scoring.report import describe_points, write_report
from streamdetect.scoring.scalp import channel_values, electrode_directions, make_montage, scalp_figure
from streamdetect.scoring.tables import RANDOM_SPLIT_WARNING
from streamdetect.settings import DecisionSettings
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS, scalp_directions
from streamdetect.stages.metadata import ModelMetadata

CAP = ("Fc5.", "C3..", "Cz..", "C4..", "Fp1.", "O1..", "EOG1")
THRESHOLDS = dict.fromkeys(EVENTS, 0.5)
PROTOCOL = "held-out, by recording"


def make_patterned(ch_names: Sequence[str] = CAP, n_events: int = 1, n_filters: int = 1) -> ModelMetadata:
    rng = np.random.default_rng(0)
    size = len(ch_names) * n_filters
    patterns = {
        member: {event: tuple(rng.standard_normal(size).tolist()) for event in EVENTS[:n_events]}
        for member in ("lda", "lr")
    }
    patterns["rf"] = {event: tuple(rng.random(size).tolist()) for event in EVENTS[:n_events]}
    return make_metadata(ch_names=ch_names, n_events=n_events, n_filters=n_filters, patterns=patterns)


def make_scores(outcomes: list[Outcome], protocol: str = PROTOCOL) -> dict[str, Any]:
    return {"protocol": protocol, **score(outcomes, THRESHOLDS)}


def draw(figure: Figure) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=40)
    return drawn.getvalue()


def words(figure: Figure) -> str:
    """Return all text in a figure."""
    draw(figure)
    return "\n".join(text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text")))


@dataclass
class FakeRecording:
    """Noise on an offset, in memory; chunk by chunk."""

    ch_names: tuple[str, ...]
    n_times: int
    annotations: tuple[Annotation, ...] = ()
    path: Path = Path("a.edf")
    first_time: float = 0.0
    n_read: int = 0

    @property
    def info(self) -> StreamInfo:
        return StreamInfo(self.ch_names, 100.0, "a")

    def chunks(self, picks: Sequence[str] | None = None, chunk_samples: int | None = None) -> Iterator[Chunk]:
        rng = np.random.default_rng(0)
        for start in range(0, self.n_times, 500):
            data: NDArray[np.float64] = 4e-3 + 2e-5 * rng.standard_normal((len(picks or self.ch_names), 500))
            self.n_read += 500
            yield Chunk(data, (start + np.arange(500)) / 100.0)


class TestFigures:
    outcomes = simulate_outcomes(EVENTS[:1], seconds=120)
    event = EVENTS[0]

    def test_confusion_shows_counts_and_row_rates(self) -> None:
        text = words(confusion_figure({"tn": 90, "fp": 10, "fn": 1, "tp": 3}, "Grasp", PROTOCOL))
        for expected in ("90\n90.0%", "10\n10.0%", "1\n25.0%", "3\n75.0%", PROTOCOL):
            assert expected in text

    def test_confusion_without_events(self) -> None:
        assert "0\n-" in words(confusion_figure({"tn": 90, "fp": 10, "fn": 0, "tp": 0}, "Grasp", PROTOCOL))

    def test_roc_names_vote_and_members(self) -> None:
        pooled = pool(self.outcomes, self.event)
        auc = score(self.outcomes, THRESHOLDS)["events"][self.event]["auc"]
        text = words(roc_figure(pooled, self.event, PROTOCOL))
        for expected in (f"vote, AUC {auc:.3f}", "LDA", "random forest", "LR", PROTOCOL):
            assert expected in text

    def test_roc_curve_has_the_area_of_the_auc(self) -> None:
        figure = roc_figure(pool(self.outcomes, self.event), self.event, PROTOCOL)
        vote = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("vote"))
        area = np.trapezoid(vote.get_ydata(), vote.get_xdata())
        # Drawn at no more than 2,000 points.
        assert area == pytest.approx(score(self.outcomes, THRESHOLDS)["events"][self.event]["auc"], abs=1e-3)

    def test_roc_without_events(self) -> None:
        assert draw(roc_figure(pool([make_outcome([0.1] * 20)], "movement"), "movement", PROTOCOL))

    def draw_operating(self, **changes: Any) -> tuple[Figure, OperatingCurve, dict[str, Any]]:
        rule = DecisionSettings(0.5, 20, 100)
        curve = operating_curve(self.outcomes, self.event, rule)
        scores = score(self.outcomes, THRESHOLDS)["events"][self.event] | changes
        return operating_figure(curve, scores, self.event, rule, 100.0, 2.0), curve, scores

    def test_operating_curve_shows_recall_and_lag(self) -> None:
        figure, curve, _ = self.draw_operating()
        for axis, values in zip(figure.axes, (curve.event_recall, curve.lag_s), strict=True):
            np.testing.assert_array_equal(axis.lines[0].get_xdata(), curve.false_alarms_per_min)
            np.testing.assert_array_equal(axis.lines[0].get_ydata(), values)
        assert "dwell 0.2 s, refractory time 1 s" in words(figure)

    def test_operating_curve_marks_the_chosen_point_and_the_limit(self) -> None:
        figure, _, scores = self.draw_operating()
        for axis, value in zip(figure.axes, (scores["event_recall"], scores["lag_s"]["median"]), strict=True):
            (chosen,) = (line for line in axis.lines if line.get_marker() == "o")
            assert chosen.get_xydata().tolist() == [[scores["false_alarms_per_min"], value]]
            assert any(list(line.get_xdata()) == [2.0, 2.0] for line in axis.lines)
        text = words(figure)
        assert f"{scores['event_recall']:.0%} of events" in text
        assert f"median {scores['lag_s']['median']:.2f} s" in text
        assert "limit asked for: 2/min" in text

    @pytest.mark.parametrize(("rate", "reach"), [(0.0, 20.0), (40.0, 50.0)])
    def test_operating_curve_gives_low_and_high_rates_room(self, rate: float, reach: float) -> None:
        figure, *_ = self.draw_operating(false_alarms_per_min=rate)
        axis = figure.axes[1]
        places = axis.transAxes.inverted().transform(axis.transData.transform([(x, 0) for x in (0, 0.1, 1, 10, reach)]))
        assert (np.diff(places[:, 0]) > 0.05).all()
        assert 0 <= places[0, 0] < places[-1, 0] <= 1

    def test_operating_curve_where_nothing_is_found(self) -> None:
        outcomes = [make_outcome([0.1] * 100, [Annotation(5.0, 0.0, "T1")])]
        rule = DecisionSettings(0.5, 0, 0)
        found = score(outcomes, {"movement": 0.5})["events"]["movement"]
        figure = operating_figure(operating_curve(outcomes, "movement", rule, [0.5]), found, "movement", rule, 100.0)
        assert "0% of events" in words(figure)
        assert "limit" not in words(figure)

    def test_operating_points_as_rows(self) -> None:
        curve = OperatingCurve(*np.array([[0.2, 0.5, 0.8], [0.9, 0.8, 0.0], [3.0, 1.25, 0.4], [0.2, 0.25, math.nan]]))
        assert describe_points(curve, 1.5) == [
            ["0.2", "-", "-", "-", "-"],
            ["0.5", "0.8", "0%", "0.40", "-"],
            ["1", "0.8", "0%", "0.40", "-"],
            ["1.5 (asked for)", "0.5", "80%", "1.25", "0.25"],
            ["2", "0.5", "80%", "1.25", "0.25"],
            ["5", "0.2", "90%", "3.00", "0.20"],
        ]
        assert [row[0] for row in describe_points(curve, 1.0)] == ["0.2", "0.5", "1 (asked for)", "2", "5"]

    def test_reliability_draws_the_bins(self) -> None:
        pooled = pool(self.outcomes, self.event)
        found = reliability(pooled.labels, pooled.probability)
        figure = reliability_figure(pooled, self.event, PROTOCOL)
        (bins,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
        np.testing.assert_array_equal(bins.get_xydata(), np.stack([found.predicted, found.observed], axis=1))
        text = words(figure)
        for expected in (f"calibration error {found.expected_calibration_error:.3f}", f"{found.brier:.3f}", PROTOCOL):
            assert expected in text

    @pytest.mark.parametrize("n_valid", [0, 20])
    def test_reliability_without_events_or_decisions(self, n_valid: int) -> None:
        outcome = make_outcome([0.1] * 20, invalid=slice(n_valid, 20))
        text = words(reliability_figure(pool([outcome], "movement"), "movement", PROTOCOL))
        assert ("no valid decision" in text) is (n_valid == 0)

    def test_lag(self) -> None:
        n_found = sum(match_outcome(each, self.event).n_matched for each in self.outcomes)
        assert n_found > 0
        assert f"{n_found} detected events" in words(lag_figure(self.outcomes, self.event))

    def test_lag_of_nothing(self) -> None:
        assert "no event was detected" in words(lag_figure([make_outcome([0.1])], "movement"))

    def test_excerpt_shows_the_central_channels_and_a_scale(self) -> None:
        recording = FakeRecording(tuple(f"E{i}" for i in range(10)) + CAP, 12_000)
        excerpt = cut_excerpt(recording, self.outcomes[0])
        assert {"C3..", "Cz..", "C4.."} <= set(excerpt.ch_names)
        assert len(excerpt.ch_names) == 5
        assert excerpt.data.shape == (5, len(excerpt.times))
        assert excerpt.times[-1] - excerpt.times[0] == pytest.approx(20, abs=0.02)
        detected = [each.time for each in self.outcomes[0].decisions.detections]
        assert any(excerpt.times[0] <= time <= excerpt.times[-1] for time in detected)
        assert recording.n_read < 12_000
        text = words(excerpt_figure(excerpt, THRESHOLDS))
        assert "µV" in text
        assert "detection" in text

    def test_excerpt_with_lost_samples_and_long_events(self) -> None:
        outcome = make_outcome([0.1] * 300, [Annotation(5.0, 4.0, "T1")])
        excerpt = cut_excerpt(FakeRecording(CAP, 3000), outcome)
        excerpt.data[0] = np.nan
        excerpt.data[1, :50] = np.nan
        assert draw(excerpt_figure(excerpt, {"movement": 0.5}))

    def test_excerpt_of_a_flat_signal(self) -> None:
        excerpt = cut_excerpt(FakeRecording(CAP, 3000), make_outcome([0.1] * 300))
        assert draw(excerpt_figure(replace(excerpt, data=np.zeros_like(excerpt.data)), {"movement": 0.5}))

    def test_figures_leave_pyplot_alone(self) -> None:
        import matplotlib.pyplot as plt

        before = plt.get_fignums()
        draw(lag_figure(self.outcomes, self.event))
        draw(scalp_figure(make_patterned()))
        assert plt.get_fignums() == before


class TestScalp:
    def test_positions_are_found_whatever_the_spelling(self) -> None:
        assert make_montage(["fc5.", "C3..", "CZ", "EOG1"]).ch_names == ["fc5.", "C3..", "CZ"]

    def test_directions_are_those_of_another_template(self) -> None:
        """The 10-20 places of a head and of a sphere differ by some degrees, and neighbours lie further apart."""
        directions = np.array(electrode_directions(GRASP_AND_LIFT_CHANNELS))
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, atol=1e-5)
        angles = np.degrees(np.arccos(directions @ scalp_directions(GRASP_AND_LIFT_CHANNELS).T))
        assert np.diag(angles).max() < 12
        np.testing.assert_array_equal(angles.argmin(axis=1), np.arange(32))

    def test_a_channel_without_a_place_has_no_direction(self) -> None:
        places = electrode_directions(["fc5.", "EOG1", "FC5", "T10."])
        assert [place is None for place in places] == [False, True, True, False]

    def test_many_bands_go_below_each_other(self) -> None:
        figure = scalp_figure(make_patterned(n_filters=3))
        assert figure.get_figwidth() < 10
        assert words(figure).count("LDA pattern") == 3

    def test_two_names_of_one_place_count_once(self) -> None:
        assert make_montage(["T7", "T3", "C3"]).ch_names == ["T7", "C3"]

    def test_one_map_an_event_member_and_band(self) -> None:
        figure = scalp_figure(make_patterned(n_events=2, n_filters=2))
        text = words(figure)
        for event in EVENTS[:2]:
            for kind in ("LDA pattern", "LR pattern", "forest importance"):
                assert all(f"{event}\n{kind}, {band}" in text for band in ("0-30 Hz", "0-15 Hz"))
        assert "Left out, position unknown or taken: EOG1" in text

    @pytest.mark.parametrize("ch_names", [("A", "B"), ("C3", "Cz", "C4"), [f"EEG {i}" for i in range(64)]])
    def test_too_few_positions_make_bars(self, ch_names: Sequence[str]) -> None:
        assert "No maps: fewer than 4 channels" in words(scalp_figure(make_patterned(ch_names)))

    def test_channels_on_one_line_can_be_mapped(self) -> None:
        assert draw(scalp_figure(make_patterned(("C3", "C1", "Cz", "C2", "C4"))))

    def test_model_without_patterns(self) -> None:
        assert "no patterns" in words(scalp_figure(make_metadata()))

    def test_values_are_relative_to_the_largest(self) -> None:
        metadata = make_patterned(n_filters=2)
        values = channel_values(metadata, "lda", EVENTS[0])
        raw = np.reshape(metadata.patterns["lda"][EVENTS[0]], (2, len(CAP)))
        np.testing.assert_allclose(values, raw / np.abs(raw).max())


class TestWriteReport:
    def write(self, path: Path, protocol: str = PROTOCOL, **changes: Any) -> str:
        outcomes = simulate_outcomes(EVENTS[:1], n_recordings=2, seconds=60)
        metadata = make_patterned()
        fields = {"scores": make_scores(outcomes, protocol), "outcomes": outcomes, "metadata": metadata}
        return write_report(path, title="Hand <movements>", **(fields | changes)).read_text(encoding="utf-8")

    def test_is_one_file_that_fetches_nothing(self, tmp_path: Path) -> None:
        outcomes = simulate_outcomes(EVENTS[:1], n_recordings=2, seconds=60)
        excerpt = cut_excerpt(FakeRecording(CAP, 6000), outcomes[0])
        controls = {"clock": {EVENTS[0]: 0.61}, "phase_randomised": {EVENTS[0]: 0.5}}
        html = self.write(tmp_path / "report.html", excerpt=excerpt, controls=controls)
        assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
        for source in re.findall(r'<(?:script|img|link|iframe|source)[^>]*?(?:src|href)="([^"]{0,40})', html):
            assert source.startswith("data:"), source
        assert "@import url(http" not in html
        assert html.count("data:image/png;base64") >= 7
        for expected in (PROTOCOL, "clock alone", "0.610", "random phases", "a.csv", "0" * 64, "Fc5. C3..", "0.5123"):
            assert expected in html
        assert RANDOM_SPLIT_WARNING not in html

    def test_shows_operating_points_and_the_limit_asked_for(self, tmp_path: Path) -> None:
        html = self.write(tmp_path / "report.html", max_false_alarms_per_min=3.0)
        assert html.index(">2</td>") < html.index(">3 (asked for)</td>") < html.index(">5</td>")
        assert "(asked for)" not in self.write(tmp_path / "report.html")

    def test_random_split_carries_its_warning_wherever_it_is_shown(self, tmp_path: Path) -> None:
        html = self.write(tmp_path / "report.html", "random-split")
        assert html.count(RANDOM_SPLIT_WARNING) == 2
        random_split = make_scores(simulate_outcomes(EVENTS[:1], n_recordings=1, seconds=60), "random-split")
        html = self.write(tmp_path / "report.html", random_split=random_split)
        assert RANDOM_SPLIT_WARNING in html

    def test_scores_without_event_level(self, tmp_path: Path) -> None:
        scores = make_scores(simulate_outcomes(EVENTS[:1], n_recordings=2, seconds=60))
        for each in (*scores["events"].values(), scores["mean"]):
            each.update(event_recall=None, false_alarms_per_min=None, lag_s={"median": None, "p95": None})
        assert "what a live user would see" in self.write(tmp_path / "report.html", scores=scores)

    def test_a_fault_leaves_the_old_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")

        def fail(source: Path, target: Path) -> None:
            target.write_text("half")
            raise OSError("disk full")

        monkeypatch.setattr(page.shutil, "copyfile", fail)
        with pytest.raises(InputError, match="cannot be written: disk full"):
            self.write(path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
