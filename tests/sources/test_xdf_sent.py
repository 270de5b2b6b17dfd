from __future__ import annotations

import numpy as np
import pytest

from streamdetect.errors import InputError, RecordingError
from streamdetect.sources.xdf_sent import read_all_parts, read_as_sent
from xdf_files import channels, stream, write

pytest.importorskip("pyxdf", reason="the extra xdf is not installed")

N = 120
SAMPLES = np.random.default_rng(0).normal(0, 20, (N, 2)).astype(np.float32)
STAMPS = 5000.0 + np.arange(N) / 100 + 1e-9
OFFSETS = [(5000.0, 3.0), (5001.0, 3.5)]


def amp(number=1, name="Amp", samples=SAMPLES, stamps=STAMPS, kind="EEG", fmt="float32", **options):
    described = channels("C3", "C4", unit=options.pop("unit", "microvolts"))
    return stream(number, name, kind, 100, fmt, samples, stamps, described, offsets=OFFSETS, **options)


def markers(number, name="Amp-markers"):
    return stream(number, name, "Markers", 0, "string", [["go"]], [5000.5])


def probabilities(number, name="m-probabilities"):
    return stream(number, name, "Probability", 10, "float32", [[0.5]] * 10, 5000 + np.arange(10) / 10)


def read_all(sent, picks=(0, 1)):
    return sent.between(0, len(sent.stamps), list(picks))


def test_time_stamps_are_those_that_were_sent(tmp_path):
    late = STAMPS + np.random.default_rng(1).uniform(0, 0.02, N)
    path = write(tmp_path / "a.xdf", amp(stamps=late), markers(2), probabilities(3))
    sent = read_as_sent(path, "Amp")
    np.testing.assert_array_equal(sent.stamps, late)
    assert (sent.info.ch_names, sent.info.sfreq, sent.info.name) == (("C3", "C4"), 100.0, "Amp")
    np.testing.assert_array_equal(read_all(sent, [1, 0]), SAMPLES.T[[1, 0]].astype(np.float64) * 1e-6)
    np.testing.assert_array_equal(sent.between(40, 71, [1]), SAMPLES.T[[1], 40:71].astype(np.float64) * 1e-6)


def test_the_stream_is_found_by_its_name_whatever_its_type(tmp_path):
    path = write(tmp_path / "a.xdf", markers(1, "Amp"), amp(2, kind="Signal"), amp(3, "Other"))
    assert read_as_sent(path, "Amp") is not None
    assert read_as_sent(path, "Nobody") is None
    assert read_as_sent(path, "Amp-markers") is None


def test_two_streams_of_one_name_are_told_apart_by_their_source_ids(tmp_path):
    path = write(tmp_path / "a.xdf", amp(1, source_id="left"), amp(2, samples=2 * SAMPLES, source_id="right"))
    np.testing.assert_array_equal(read_all(read_as_sent(path, "Amp", "right")), SAMPLES.T.astype(float) * 2e-6)
    with pytest.raises(RecordingError, match=r"found 2 \(source ids left, right\)"):
        read_as_sent(path, "Amp", "middle")


def test_a_given_unit_overrules_the_files(tmp_path):
    path = write(tmp_path / "a.xdf", amp(unit="parsecs"))
    sent = read_as_sent(path, "Amp")
    with pytest.raises(InputError, match="parsecs"):
        read_all(sent)
    np.testing.assert_array_equal(read_all(read_as_sent(path, "Amp", unit="mV")), SAMPLES.T.astype(float) * 1e-3)


def test_channels_of_any_type_and_without_a_description_are_there(tmp_path):
    described = [*channels("AUX", unit="none", kind="Misc"), *channels("Cz", unit="mV")]
    path = write(tmp_path / "a.xdf", stream(1, "Amp", "EEG", 100, "float32", SAMPLES, STAMPS, described))
    sent = read_as_sent(path, "Amp")
    assert sent.info.ch_names == ("AUX", "Cz")
    np.testing.assert_array_equal(read_all(sent, [1]), SAMPLES.T[[1]].astype(float) * 1e-3)
    path = write(tmp_path / "b.xdf", stream(1, "Amp", "EEG", 100, "float32", SAMPLES, STAMPS))
    sent = read_as_sent(path, "Amp")
    assert sent.info.ch_names == ("ch1", "ch2")
    np.testing.assert_array_equal(read_all(sent), SAMPLES.T.astype(float) * 1e-6)


def test_parts_are_joined_in_their_order(tmp_path):
    path = write(tmp_path / "a.xdf", amp(samples=SAMPLES[:50], stamps=STAMPS[:50]), probabilities(2))
    write(tmp_path / "a-2.xdf", probabilities(1))
    (tmp_path / "a-3.xdf").touch()
    write(tmp_path / "a-4.xdf", amp(samples=SAMPLES[50:], stamps=STAMPS[50:], source_id="new"))
    write(tmp_path / "a-6.xdf", amp())  # there is no a-5: this one belongs to something else
    sent = read_all_parts(path, "Amp", "old")
    np.testing.assert_array_equal(sent.stamps, STAMPS)
    np.testing.assert_array_equal(read_all(sent), SAMPLES.T.astype(float) * 1e-6)
    np.testing.assert_array_equal(sent.between(45, 55, [1]), SAMPLES.T[[1], 45:55].astype(float) * 1e-6)
    np.testing.assert_array_equal(sent.between(60, 62, [0]), SAMPLES.T[[0], 60:62].astype(float) * 1e-6)


def test_a_part_with_other_channels_is_refused(tmp_path):
    path = write(tmp_path / "a.xdf", amp())
    write(tmp_path / "a-2.xdf", stream(1, "Amp", "EEG", 100, "float32", SAMPLES, STAMPS, channels("C3", "Cz")))
    with pytest.raises(RecordingError, match=r"a-2\.xdf: its stream Amp has other channels"):
        read_all_parts(path, "Amp")


def test_nothing_in_any_part_is_nothing(tmp_path):
    assert read_all_parts(tmp_path / "none.xdf", "Amp") is None
    assert read_all_parts(write(tmp_path / "a.xdf", probabilities(1)), "Amp") is None
