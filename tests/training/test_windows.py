from __future__ import annotations

import numpy as np
import pytest

from recordings import CH_NAMES, SFREQ, make_recording, recording_of
from streamdetect.errors import ChannelError, EventError, InputError, RecordingError
from streamdetect.events import Annotation, check_events
from streamdetect.settings import EventSettings, FeatureSettings, FilterSettings, HealthSettings, PowerSettings
from streamdetect.training.windows import choose_channels, label_windows

HEALTH = HealthSettings(max_gap_samples=100, flat_samples=200)
FEATURES = FeatureSettings("power", (PowerSettings((FilterSettings(None, 30.0),), 100, log=True),), 2)
MOVE = EventSettings("move", ("move",))


def test_labels_are_those_of_each_window_s_last_sample(tmp_path):
    recording = recording_of(
        tmp_path,
        "a",
        np.random.default_rng(0).standard_normal((4, 1000)),
        [Annotation(3.0, 2.0, "move"), Annotation(7.0, 0.0, "tap")],
    )
    windows = label_windows(recording, CH_NAMES, HEALTH, FEATURES, (MOVE, EventSettings("any", ("move", "tap"))))
    times = windows.features.times
    np.testing.assert_array_equal(windows.labels[:, 0], (times >= 3.0) & (times < 5.0 - 1e-9))
    near_tap = np.abs(times - 7.0) <= 0.15 + 1e-9
    np.testing.assert_array_equal(windows.labels[:, 1], windows.labels[:, 0] | near_tap)


def test_usable_windows_are_valid_and_lie_on_the_stride(tmp_path):
    data = np.random.default_rng(0).standard_normal((4, 1000))
    data[0, 500] = np.nan
    windows = label_windows(recording_of(tmp_path, "a", data), CH_NAMES, HEALTH, FEATURES, (MOVE,))
    usable = windows.usable(5)
    assert ((usable + 1) % 5 == 0).all()
    assert windows.valid[usable].all()
    assert len(usable) < len(windows.features) // 5


def test_a_channel_that_never_changes_is_refused_by_name(tmp_path):
    data = np.random.default_rng(0).standard_normal((4, 1000))
    data[2] = 1e-3
    with pytest.raises(ChannelError, match=r"flat from start to end: C4; .*--exclude C4"):
        label_windows(recording_of(tmp_path, "a", data), CH_NAMES, HEALTH, FEATURES, (MOVE,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_recording_without_a_usable_window_is_refused(tmp_path, bad):
    data = np.random.default_rng(0).standard_normal((4, 1000))
    data[1, ::50] = bad
    with pytest.raises(RecordingError, match=r"no usable window in 10\.0 s"):
        label_windows(recording_of(tmp_path, "a", data), CH_NAMES, HEALTH, FEATURES, (MOVE,))


def test_channels_are_those_of_the_first_recording_less_the_excluded(tmp_path):
    first = make_recording(tmp_path, "a", seed=1)
    second = make_recording(tmp_path, "b", seed=2, ch_names=("Pz", "C4", "Cz", "C3"))
    assert choose_channels([first, second], exclude=("cz",)) == ("C3", "C4", "Pz")
    assert choose_channels([first, second], channels=("C4", "C3")) == ("C4", "C3")


def test_channels_missing_from_any_recording_are_named(tmp_path):
    first = make_recording(tmp_path, "a", seed=1)
    second = make_recording(tmp_path, "b", seed=2, ch_names=("C3", "Cz", "C4", "Oz"))
    with pytest.raises(ChannelError, match=r"b.*Pz"):
        choose_channels([first, second])
    with pytest.raises(ChannelError, match="Fz"):
        choose_channels([first], exclude=("Fz",))
    with pytest.raises(ChannelError, match="no channel is left"):
        choose_channels([first], exclude=CH_NAMES)


def test_recordings_of_other_sampling_rates_do_not_mix(tmp_path):
    first = make_recording(tmp_path, "a", seed=1)
    second = make_recording(tmp_path, "b", seed=2, sfreq=2 * SFREQ)
    with pytest.raises(InputError, match="b: sampling rate 200 Hz, but a has 100 Hz"):
        choose_channels([first, second])


def test_an_event_that_no_recording_holds_is_refused_with_a_list(tmp_path):
    recording = make_recording(tmp_path, "a", seed=1)
    with pytest.raises(EventError, match=r"event hand: T9 is in no recording; they hold move \(\d+\), tap \(\d+\)"):
        check_events([recording], [EventSettings("hand", ("T9", "move"))])
    silent = recording_of(tmp_path, "b", np.zeros((4, 10)))
    with pytest.raises(EventError, match="b: no events"):
        check_events([silent], [MOVE])
