from __future__ import annotations

import mne
import numpy as np
import pytest

from streamdetect.chunk import Chunk, Quality
from streamdetect.scoring.scalp import electrode_directions
from streamdetect.settings import ChannelHealthSettings
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS
from streamdetect.stages.repair import Repair, spline_weights

POSITIONS = electrode_directions(GRASP_AND_LIFT_CHANNELS)


def chunk_of(data, bad=(), first=0, quality=Quality.GOOD):
    n_times = data.shape[1]
    marks = np.full(n_times, quality, np.uint8)
    return Chunk(data, np.arange(n_times) / 100, quality=marks, first_sample=first, bad_channels=bad)


@pytest.fixture
def data():
    return 0.01 + 1e-5 * np.random.default_rng(0).standard_normal((32, 600))


@pytest.mark.parametrize("bad", [(12,), (0, 13, 31)])
def test_a_repaired_channel_is_that_of_mne(data, bad):
    names = list(GRASP_AND_LIFT_CHANNELS)
    raw = mne.io.RawArray(data.copy(), mne.create_info(names, 100.0, "eeg"), verbose="error")
    places = {name: 0.095 * np.array(place) for name, place in zip(names, POSITIONS, strict=True)}
    raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    raw.info["bads"] = [names[index] for index in bad]
    expected = raw.interpolate_bads(origin=(0.0, 0.0, 0.0), method={"eeg": "spline"}, verbose="error").get_data()
    out = Repair(ChannelHealthSettings(100, 3, POSITIONS)).process(chunk_of(data, bad))
    np.testing.assert_allclose(out.data, expected, rtol=0, atol=1e-11)  # 10 pV, of signals of 10 mV
    good = [index for index in range(32) if index not in bad]
    np.testing.assert_array_equal(out.data[good], data[good])
    assert np.abs(out.data[list(bad)] - data[list(bad)]).max() > 1e-6


def test_weights_keep_what_all_channels_share():
    directions = np.array(POSITIONS)
    weights = spline_weights(directions[2:], directions[:2])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(np.argmax(weights, axis=1) + 2, [2, 6])  # F7 is next to Fp1, F8 to Fp2


def test_a_direction_may_have_any_length(data):
    longer = tuple(tuple(7.0 * value for value in place) for place in POSITIONS)
    one, other = (
        Repair(ChannelHealthSettings(100, 3, places)).process(chunk_of(data, (5,))) for places in (POSITIONS, longer)
    )
    np.testing.assert_allclose(one.data, other.data, rtol=1e-9)


def test_the_signal_starts_anew_where_the_repaired_channels_change(data):
    repair = Repair(ChannelHealthSettings(100, 2, POSITIONS))
    found = []
    for bad in ((), (3,), (3,), (3, 4), (3, 4, 5), (3, 4, 5), (3,), (), ()):
        out = repair.process(chunk_of(data[:, :50], bad))
        found.append((repair.repaired, out.restart, out.quality[0]))
    assert found == [
        ((), False, 0),
        ((3,), True, 0),
        ((3,), False, 0),
        ((3, 4), True, 0),
        ((), True, Quality.BAD_CHANNELS),  # three are too many
        ((), False, Quality.BAD_CHANNELS),
        ((3,), True, 0),
        ((), True, 0),
        ((), False, 0),
    ]


def test_too_many_bad_channels_leave_the_data_and_other_marks_alone(data):
    repair = Repair(ChannelHealthSettings(100, 0, POSITIONS))
    out = repair.process(chunk_of(data, (3,), quality=Quality.LOST))
    assert out.data is data
    assert (out.quality == Quality.LOST).all()


@pytest.mark.parametrize(
    "positions",
    [(None, *POSITIONS[1:]), (*POSITIONS[:4], *[None] * 28)],
    ids=["its own place is not known", "three good channels with a known place"],
)
def test_without_places_nothing_is_repaired(data, positions):
    repair = Repair(ChannelHealthSettings(100, 3, positions))
    out = repair.process(chunk_of(data, (0,)))
    assert (out.quality == Quality.BAD_CHANNELS).all()
    assert repair.repaired == ()


def test_a_channel_of_unknown_place_is_no_source(data):
    positions = (*POSITIONS[:-1], None)
    data[-1] = 1.0
    out = Repair(ChannelHealthSettings(100, 3, positions)).process(chunk_of(data, (0,)))
    assert out.data[0].max() < 0.02


def test_the_input_is_left_alone(data):
    before = data.copy()
    Repair(ChannelHealthSettings(100, 3, POSITIONS)).process(chunk_of(data, (0,)))
    np.testing.assert_array_equal(data, before)
