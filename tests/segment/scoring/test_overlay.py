from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from segment.errors import InputError
from segment.scoring.overlay import FALSE, MISSED, PREDICTED, TRUE, choose_slices, overlay_figure, scale_bar


def make_slices(n=2, shape=(48, 64)):
    image = np.random.default_rng(0).integers(80, 180, (n, *shape)).astype(np.uint8)
    truth = np.zeros((n, *shape), bool)
    truth[:, 10:30, 10:30] = True
    prediction = np.zeros((n, *shape), bool)
    prediction[:, 10:30, 20:44] = True
    return image, prediction, truth


def draw(figure, dpi=100):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    file.seek(0)
    return imread(file)[..., :3]


def count_pixels(picture, color):
    """Count pixels of a colour, or nearly so."""
    return int((np.abs(picture - np.array(to_rgb(color))).max(axis=-1) < 0.08).sum())


def panels(figure):
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def test_without_a_truth_raw_and_prediction_stand_side_by_side():
    image, prediction, _ = make_slices(3)
    figure = overlay_figure(image, prediction, slices=[5, 50, 120])
    assert list(panels(figure)) == ["raw", "prediction"]
    assert len(figure.axes) == 6
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["z = 5", "z = 50", "z = 120"]
    picture = draw(figure)
    assert count_pixels(picture, PREDICTED) > 200
    assert count_pixels(picture, TRUE) == 0


def test_with_a_truth_four_panels_and_the_colours_of_what_differs():
    image, prediction, truth = make_slices()
    figure = overlay_figure(image, prediction, truth)
    assert list(panels(figure)) == ["raw", "truth", "prediction", "difference"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["true", "predicted", "both", "missed", "false"]
    colored = panels(figure)["difference"].images[1].get_array()
    for where, color in ((~prediction & truth, MISSED), (prediction & ~truth, FALSE)):
        np.testing.assert_allclose(colored[where[0]][:, :3], np.tile(to_rgb(color), (where[0].sum(), 1)), atol=1e-6)
    assert (colored[~(prediction | truth)[0]] == 0).all()
    both = 20 * 10 / (20 * 34)
    assert panels(figure)["difference"].get_ylabel() == f"IoU {both:.3f}"
    picture = draw(figure)
    assert count_pixels(picture, TRUE) > 200
    assert count_pixels(picture, PREDICTED) > 200


def size_bars(axis):
    return [each for each in axis.get_children() if isinstance(each, AnchoredSizeBar)]


def outline_points(axis):
    return np.concatenate([path.vertices for collection in axis.collections for path in collection.get_paths()])


def test_outlines_lie_on_the_edge_of_the_mask_and_close_at_the_edge_of_the_picture():
    image, _, _ = make_slices(1)
    mask = np.zeros(image.shape, bool)
    mask[0, 20:, 5:15] = True  # down to the last row
    points = outline_points(panels(overlay_figure(image, mask))["prediction"])
    assert points[:, 0].min() == pytest.approx(4.5)
    assert points[:, 0].max() == pytest.approx(14.5)
    assert points[:, 1].min() == pytest.approx(19.5)
    assert points[:, 1].max() == pytest.approx(image.shape[1] - 0.5)


def test_objects_that_touch_have_an_outline_each():
    image, _, _ = make_slices(1)
    labels = np.zeros(image.shape, np.uint32)
    labels[0, 10:20, 10:20] = 7
    labels[0, 10:20, 20:30] = 2**31
    apart = panels(overlay_figure(image, labels))["prediction"]
    together = panels(overlay_figure(image, labels > 0))["prediction"]
    assert (len(apart.collections), len(together.collections)) == (2, 1)


def test_empty_and_full_masks_are_drawn_without_a_warning():
    image, _, _ = make_slices(1)
    nothing, everything = np.zeros(image.shape, bool), np.ones(image.shape, bool)
    figure = overlay_figure(np.full_like(image, 7), nothing, nothing)
    assert panels(figure)["difference"].get_ylabel() == "no foreground"
    draw(figure)
    points = outline_points(panels(overlay_figure(image, everything))["prediction"])
    assert (points.min(), points[:, 0].max()) == (pytest.approx(-0.5), pytest.approx(63.5))


@pytest.mark.parametrize(("axis", "aspect", "text"), [("z", 2.0, "100 nm"), ("y", 8.0, "100 nm"), ("x", 4.0, "200 nm")])
def test_pixels_and_the_scale_bar_follow_the_voxel_size(axis, aspect, text):
    image, prediction, _ = make_slices(1)
    figure = overlay_figure(image, prediction, voxel_nm=(80.0, 20.0, 10.0), axis=axis)
    raw = panels(figure)["raw"]
    assert raw.get_aspect() == aspect
    (bar,) = size_bars(raw)
    assert bar.txt_label.get_text() == text
    length = bar.size_bar.get_children()[0].get_width() * {"z": 10.0, "y": 10.0, "x": 20.0}[axis]
    assert length == pytest.approx(float(text.split()[0]))
    assert raw.get_ylabel() == f"{axis} = 0"


def test_without_a_voxel_size_there_is_no_scale_bar():
    image, prediction, _ = make_slices(1)
    raw = panels(overlay_figure(image, prediction))["raw"]
    assert not size_bars(raw)


@pytest.mark.parametrize("width_nm", [0.7, 3.0, 12.0, 99.0, 640.0, 5120.0, 1e6])
def test_scale_bars_are_round_numbers_that_fit(width_nm):
    length, text = scale_bar(width_nm)
    assert 0.1 * width_nm < length <= 0.3 * width_nm * (1 + 1e-9)
    assert f"{length:e}"[0] in "125"
    number, unit = text.split()
    assert float(number) * {"nm": 1.0, "µm": 1000.0}[unit] == pytest.approx(length)


@pytest.mark.parametrize(("n_slices", "count"), [(165, 4), (10, 10), (3, 8), (1, 4)])
def test_chosen_slices_are_spread_evenly(n_slices, count):
    chosen = choose_slices(n_slices, count)
    assert len(chosen) == min(n_slices, count) == len(set(chosen))
    assert chosen[0] - 0 == pytest.approx(n_slices - 1 - chosen[-1], abs=1)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_bad_input_is_refused():
    image, prediction, truth = make_slices()
    with pytest.raises(InputError, match=r"prediction: .*shape of the image"):
        overlay_figure(image, prediction[:1])
    with pytest.raises(InputError, match=r"truth: .*shape of the image"):
        overlay_figure(image, prediction, truth[:, 1:])
    with pytest.raises(InputError, match="number each of the 2 slices, found 1"):
        overlay_figure(image, prediction, slices=[3])
    with pytest.raises(InputError, match="one at least"):
        overlay_figure(image[:0], prediction[:0])
    with pytest.raises(InputError, match="axis must be z, y or x"):
        overlay_figure(image, prediction, axis="t")
