from __future__ import annotations

import gzip
import logging
import sys

import numpy as np
import pytest

from streamdetect.errors import ChannelError, MissingExtraError, RecordingError
from streamdetect.sources.recording import read_recording
from xdf_files import channels, stream, write

pytest.importorskip("pyxdf", reason="the extra xdf is not installed")


SAMPLES = np.random.default_rng(0).normal(0, 20, (120, 3)).astype(np.float32)
STAMPS = 5000.0 + np.arange(120) / 100


def eeg(number=1, name="Amp", samples=SAMPLES, stamps=STAMPS, kind="EEG", fmt="float32", described=None, **kwargs):
    described = channels("C3", "C4", "Cz") if described is None else described
    return stream(number, name, kind, 100, fmt, samples, stamps, described, **kwargs)


def read_all(recording, **kwargs):
    chunks = list(recording.chunks(**kwargs))
    return np.hstack([each.data for each in chunks]), np.concatenate([each.times for each in chunks])


def marks(recording, chunk_samples=None):
    """Return (n_lost, restart) of each marked sample by its index."""
    found, index = {}, 0
    for each in recording.chunks(chunk_samples=chunk_samples):
        if each.n_lost or each.restart:
            found[index] = (each.n_lost, each.restart)
        index += each.n_times
    return found


def test_reads_volts_and_the_files_own_times(tmp_path):
    late = STAMPS + np.random.default_rng(1).uniform(0, 0.02, 120)
    recording = read_recording(write(tmp_path / "a.xdf", eeg(stamps=late)))
    assert recording.info.ch_names == ("C3", "C4", "Cz")
    assert (recording.info.sfreq, recording.info.name, recording.n_times) == (100.0, "a.xdf", 120)
    assert recording.first_time == late[0]
    data, times = read_all(recording)
    np.testing.assert_array_equal(data, SAMPLES.T.astype(np.float64) * 1e-6)
    np.testing.assert_array_equal(times, late - late[0])
    assert marks(recording) == {}


@pytest.mark.parametrize("chunk_samples", [1, 7, 50, 51, 1000])
def test_picks_and_chunk_size(tmp_path, chunk_samples):
    data, _ = read_all(
        read_recording(write(tmp_path / "a.xdf", eeg())), picks=["Cz", "c3"], chunk_samples=chunk_samples
    )
    np.testing.assert_array_equal(data, SAMPLES.T[[2, 0]].astype(np.float64) * 1e-6)


def test_volts_in_double_precision_are_unchanged(tmp_path):
    samples = SAMPLES.astype(np.float64) * 1e-6 / 3
    recording = read_recording(
        write(tmp_path / "a.xdf", eeg(samples=samples, fmt="double64", described=channels("a", "b", "c", unit="volts")))
    )
    np.testing.assert_array_equal(read_all(recording)[0], samples.T)


def test_each_channel_has_its_unit_and_only_eeg_is_read(tmp_path):
    described = [*channels("C3", unit="mV"), *channels("EOG", unit="none", kind="EOG"), *channels("C4", unit="\u00b5V")]
    recording = read_recording(
        write(tmp_path / "a.xdf", eeg(samples=np.full((120, 3), 7), fmt="int16", described=described))
    )
    assert recording.info.ch_names == ("C3", "C4")
    np.testing.assert_array_equal(read_all(recording)[0][:, 0], [7 * 1e-3, 7 * 1e-6])


def test_without_a_description_names_are_numbered_and_units_microvolts(tmp_path, caplog):
    path = write(tmp_path / "a.xdf", eeg(described=()))
    with caplog.at_level(logging.WARNING, logger="streamdetect"):
        recording = read_recording(path)
    assert recording.info.ch_names == ("ch1", "ch2", "ch3")
    assert "no unit is given for 3 channels; taking them as microvolts" in caplog.text
    np.testing.assert_array_equal(read_all(recording)[0], SAMPLES.T.astype(np.float64) * 1e-6)


@pytest.mark.parametrize(
    ("described", "error", "message"),
    [
        (
            channels("C3", "C4", "Cz", unit="furlong"),
            RecordingError,
            "unit 'furlong' is not known: expected one of volts, V",
        ),
        (channels("C3", "C4", "C3"), ChannelError, "found more than one C3"),
    ],
)
def test_bad_descriptions(tmp_path, described, error, message):
    with pytest.raises(error, match=message):
        read_recording(write(tmp_path / "a.xdf", eeg(described=described)))


def test_markers_become_point_annotations_in_the_time_of_the_eeg(tmp_path):
    markers = stream(
        2, "Cues", "Markers", 0, "string", [["left", ""], ["go", "now"], ["", ""]], [5000.25, 5001.0, 5001.1],
        offsets=[(5000.0, 0.0), (5001.0, 0.0)],
    )  # fmt: skip
    early_and_late = stream(3, "Notes", "other", 0, "string", [["before"], ["after"]], [4999.0, 5100.0])
    numbers = stream(4, "Codes", "markers", 0, "int16", [[3]], [5000.5])
    recording = read_recording(write(tmp_path / "a.xdf", markers, early_and_late, numbers, eeg()))
    assert [(note.onset, note.duration, note.description) for note in recording.annotations] == [
        (0.25, 0.0, "left"),
        (0.5, 0.0, "3"),
        (1.0, 0.0, "go now"),
    ]


def test_streams_are_brought_to_one_clock(tmp_path):
    """The amplifier's clock is 1000 s behind the recorder's, the markers' is the recorder's."""
    markers = stream(2, "Cues", "Markers", 0, "string", [["go"]], [6000.5], offsets=[(6000.0, 0.0), (6005.0, 0.0)])
    recording = read_recording(write(tmp_path / "a.xdf", markers, eeg(offsets=[(5000.0, 1000.0), (5005.0, 1000.0)])))
    assert recording.annotations[0].onset == pytest.approx(0.5, abs=1e-6)
    assert recording.first_time == pytest.approx(6000.0, abs=1e-6)


@pytest.mark.parametrize("chunk_samples", [None, 1, 30])
def test_lost_samples_are_marked(tmp_path, chunk_samples):
    stamps = np.concatenate([STAMPS[:30], STAMPS[30:] + 0.5])
    assert marks(read_recording(write(tmp_path / "a.xdf", eeg(stamps=stamps))), chunk_samples) == {30: (50, False)}


def test_streams_are_chosen_by_type_and_by_name(tmp_path):
    accelerometer = eeg(2, "Motion", samples=SAMPLES[:40], stamps=STAMPS[:40], kind="Accelerometer")
    second = eeg(3, "Amp2", samples=SAMPLES[:60], stamps=STAMPS[:60], kind="eeg")
    path = write(tmp_path / "a.xdf", accelerometer, eeg(), second)
    with pytest.raises(RecordingError, match=r"found 2: Amp \(type EEG\), Amp2 \(type eeg\); name one of them"):
        read_recording(path)
    assert [read_recording(path, stream=name).n_times for name in ("Amp", "Amp2", "Motion")] == [120, 60, 40]
    with pytest.raises(RecordingError, match=r"expected a stream named Amp3, found Motion \(type Accelerometer\), Amp"):
        read_recording(path, stream="Amp3")
    assert read_recording(write(tmp_path / "b.xdf", accelerometer, second)).n_times == 60


def test_file_cut_short_gives_what_is_whole_and_a_warning(tmp_path, caplog, capfd):
    path = write(tmp_path / "a.xdf", eeg())
    path.write_bytes(path.read_bytes()[:-30])
    with caplog.at_level(logging.WARNING, logger="streamdetect"):
        recording = read_recording(path)
    assert "likely XDF file corruption" in caplog.text
    assert recording.n_times == 100
    np.testing.assert_array_equal(read_all(recording)[0], SAMPLES[:100].T.astype(np.float64) * 1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.b.xdf.gz", "a.xdfz"])
def test_compressed_file(tmp_path, name):
    path = write(tmp_path / name, eeg())
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_recording(path).n_times == 120


def test_stream_without_samples(tmp_path):
    path = write(tmp_path / "a.xdf", eeg())
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(RecordingError, match="stream Amp holds no samples"):
        read_recording(path)


def test_irregular_stream(tmp_path):
    path = write(tmp_path / "a.xdf", stream(1, "Amp", "EEG", 0, "float32", SAMPLES, STAMPS))
    with pytest.raises(RecordingError, match="stream Amp has no regular sampling rate"):
        read_recording(path)


def test_pyxdf_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxdf", None)
    with pytest.raises(MissingExtraError, match=r"streamdetect\[xdf\]"):
        read_recording(write(tmp_path / "a.xdf", eeg()))


@pytest.mark.parametrize("chunk_samples", [None, 9, 1000])
def test_real_file_whose_clock_was_reset(data_dir, chunk_samples, capfd):
    """The sender restarted after sample 12,875: its clock fell from 653,288 s to 101 s, 273.6 s later."""
    recording = read_recording(data_dir / "eeg_formats" / "clock_resets.xdf")
    assert (recording.info.n_channels, recording.n_times, len(recording.annotations)) == (8, 27_815, 175)
    assert marks(recording, chunk_samples) == {12_876: (0, True)}
    _, times = read_all(recording, chunk_samples=chunk_samples)
    assert times[0] == 0.0
    assert (np.diff(times) > 0).all()
    assert times[12_876] - times[12_875] == pytest.approx(273.556, abs=0.001)
    assert 0 < recording.annotations[0].onset < recording.annotations[-1].onset < times[-1]
    assert capfd.readouterr() == ("", "")


def test_real_small_files(data_dir):
    recording = read_recording(data_dir / "eeg_formats" / "minimal.xdf")
    np.testing.assert_allclose(read_all(recording)[1], np.arange(9) / 10, atol=0.02)
    with pytest.raises(RecordingError, match="expected a stream of type EEG, found Empty data stream"):
        read_recording(data_dir / "eeg_formats" / "empty_streams.xdf")
