from __future__ import annotations

import numpy as np

from streamdetect.dashboard.scalp import BANDS, EDGE_RADIUS, GRID_SIZE, band_power, place_electrodes, scalp_grid
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS as CHANNELS


def nearest(grid, name):
    axis = np.linspace(-EDGE_RADIUS, EDGE_RADIUS, GRID_SIZE)
    _, places = place_electrodes([name])
    return np.abs(axis - places[0, 1]).argmin(), np.abs(axis - places[0, 0]).argmin()


def test_a_rhythm_is_found_in_its_band_alone():
    times = np.arange(500) / 500
    signal = 100.0 + 10 * np.sin(2 * np.pi * 20 * times)
    power = band_power(np.stack([signal, np.zeros(500), np.full(500, np.nan)]), 500.0)
    names = [name for name, _, _ in BANDS]
    assert abs(power[names.index("13–30 Hz, beta"), 0] - 10 * np.log10(50)) < 0.1
    assert power[names.index("8–13 Hz, alpha, mu"), 0] < 0
    assert np.isfinite(power).all()


def test_the_map_goes_through_the_electrodes_values():
    values = np.random.default_rng(0).normal(10.0, 1.0, len(CHANNELS))
    values[CHANNELS.index("C3")] = 20.0
    image = scalp_grid(CHANNELS).image(values)
    row, column = nearest(image, "C3")
    assert image[row, column] > 18.0
    assert np.nanmax(image) <= 20.0
    assert np.nanmin(image) >= np.float32(values.min())
    assert np.isnan(image[0, 0])


def test_up_is_the_nose_and_right_is_right():
    _, places = place_electrodes(["Fz", "Oz", "T7", "T8"])
    assert places[0, 1] > 0.4
    assert places[1, 1] < -0.9
    assert places[2, 0] < -0.9
    assert places[3, 0] > 0.9


def test_a_bad_channel_does_not_colour_the_map():
    values = np.full(len(CHANNELS), 10.0)
    values[CHANNELS.index("C3")] = 90.0
    image = scalp_grid(CHANNELS, frozenset(["C3"])).image(values)
    assert np.nanmax(image) < 10.001


def test_channels_of_unknown_or_of_one_place_are_left_out():
    grid = scalp_grid(("EMG1", "FC5.", "T3", "T7", "O1..", "Fp2.", "cz"))
    assert grid.picks.tolist() == [1, 2, 4, 5, 6]


def test_too_few_places_make_no_map():
    assert scalp_grid(("EMG1", "ch2", "ch3", "ch4")) is None
    assert scalp_grid(("Fz", "Cz", "Pz", "Oz")) is None  # all on one line
    assert scalp_grid(CHANNELS[:5], frozenset(CHANNELS[:2])) is None


def test_all_electrodes_are_on_the_head_that_is_drawn():
    _, places = place_electrodes(["Iz", "P9", "P10", "F9", "TP10", "O9", "Fpz"])
    assert np.hypot(*places.T).max() < EDGE_RADIUS
