from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from streamdetect.errors import InputError
from streamdetect.scoring.learning import ablation_figure, learning_figure

EVENTS = ("HandStart", "FirstDigitTouch", "BothStartLoadPhase", "LiftOff")
ROWS = [("low-pass bank", {"movement": 0.61}), ("LDA", {"movement": 0.705}), ("random forest", {"movement": None})]
FULL = {"movement": (0.712, 0.662, 0.758)}


def words(figure: Figure) -> list[str]:
    """Draw, and return all text in a figure."""
    figure.savefig(BytesIO(), format="png", dpi=40)
    return [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]


def lines(figure: Figure, label: str) -> list[np.ndarray]:
    """Points of the lines with a label, one array a panel."""
    return [line.get_xydata() for axis in figure.axes for line in axis.lines if line.get_label() == label]


class TestLearning:
    def test_draws_each_score_where_it_belongs(self) -> None:
        figure = learning_figure([8, 2, 4], {"movement": [(0.7, 0.6, 0.8), (0.55, 0.4, 0.7), (None, None, None)]})
        (points,) = lines(figure, "AUC on held-out signal")
        np.testing.assert_array_equal(points, [(2, 0.55), (4, np.nan), (8, 0.7)])
        (band,) = figure.axes[0].findobj(PolyCollection)
        assert {(2.0, 0.4), (2.0, 0.7)} <= {
            tuple(point) for path in band.get_paths() for point in path.vertices.tolist()
        }
        assert {"movement", "minutes of calibration", "AUC", "chance"} <= set(words(figure))

    def test_a_panel_an_event_at_one_scale(self) -> None:
        figure = learning_figure([1, 2], {name: [(0.6, 0.5, 0.7), (0.9, 0.85, 0.99)] for name in EVENTS}, protocol="x")
        assert [axis.get_title() for axis in figure.axes] == list(EVENTS)
        assert len({axis.get_ylim() for axis in figure.axes}) == 1
        low, high = figure.axes[0].get_ylim()
        assert low < 0.5
        assert high > 0.99
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.texts] == ["interval", "AUC on held-out signal", "chance"]

    def test_one_score_a_training(self) -> None:
        with pytest.raises(InputError, match="scores of Grasp: expected 2, one a training, found 1"):
            learning_figure([1, 2], {"Grasp": [(0.5, 0.4, 0.6)]})


class TestAblation:
    def test_draws_the_full_model_and_what_is_lost(self) -> None:
        figure = ablation_figure(ROWS, FULL, protocol="held-out runs")
        text = words(figure)
        assert {"low-pass bank", "LDA", "random forest", "-0.102", "-0.007", "-"} <= set(text)
        assert "movement, full model 0.712" in text
        assert any("held-out runs" in each for each in text)
        np.testing.assert_array_equal(lines(figure, "full model")[0][:, 0], [0.712, 0.712])
        np.testing.assert_array_equal(lines(figure, "so, outside the interval")[0], [(0.61, 0)])
        np.testing.assert_array_equal(lines(figure, "without it")[0][:1], [(0.705, 1)])

    def test_rows_read_from_top_to_bottom(self) -> None:
        (axis,) = ablation_figure(ROWS, FULL).axes
        bottom, top = axis.get_ylim()
        assert bottom > top

    def test_a_panel_an_event_at_one_scale(self) -> None:
        rows = [(name, dict.fromkeys(EVENTS, 0.8)) for name, _ in ROWS]
        figure = ablation_figure(rows, dict.fromkeys(EVENTS, (0.9, 0.7, 0.95)))
        assert len(figure.axes) == 4
        assert len({axis.get_xlim() for axis in figure.axes}) == 1
        assert words(figure).count("-0.100") == 12

    def test_chance_is_drawn_where_it_is_near(self) -> None:
        assert "chance" not in words(ablation_figure(ROWS, FULL))
        assert "chance" in words(ablation_figure([("LDA", {"movement": 0.49})], FULL))

    def test_no_change_has_no_minus(self) -> None:
        assert "+0.000" in words(ablation_figure([("LDA", {"movement": 0.7119})], FULL))


@pytest.mark.parametrize(
    "figure",
    [
        learning_figure([], {}),
        learning_figure([1.0], {"movement": [(None, None, None)]}),
        ablation_figure([], {}),
        ablation_figure([], FULL),
        ablation_figure(ROWS, {"movement": (None, None, None)}),
        ablation_figure([("LDA", {})], FULL),
    ],
)
def test_nothing_to_draw_is_no_fault(figure: Figure) -> None:
    assert words(figure)


def test_pyplot_is_left_alone() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    words(ablation_figure(ROWS, FULL))
    assert plt.get_fignums() == before
