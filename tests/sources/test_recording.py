from __future__ import annotations

import datetime
import logging

import mne
import numpy as np
import pytest

from streamdetect.errors import ChannelError, InputError, RecordingError
from streamdetect.events import Annotation
from streamdetect.sources.channels import pick_channels, volts_per
from streamdetect.sources.recording import find_recordings, read_recording

SFREQ = 200.0
CH_NAMES = ["C3", "C4", "Cz"]
# Half a step of EDF's 16 bits over the range of the signal, and of the 32-bit floats of the others
PRECISION = {"a.edf": 3e-9, "a.vhdr": 1e-11, "a_raw.fif": 1e-11, "a.set": 1e-11}


@pytest.fixture
def raw():
    signal = np.random.default_rng(0).normal(0, 2e-5, (3, 2000))
    raw = mne.io.RawArray(signal, mne.create_info(CH_NAMES, SFREQ, "eeg"), verbose="error")
    raw.set_meas_date(datetime.datetime(2024, 5, 17, 9, 30, tzinfo=datetime.UTC))
    raw.set_annotations(mne.Annotations([1.0, 4.0], [0.5, 0.0], ["T1", "T2"], orig_time=raw.info["meas_date"]))
    return raw


def write(raw, path):
    if path.name.endswith(".fif"):
        raw.save(path, overwrite=True, verbose="error")
    else:
        mne.export.export_raw(path, raw, overwrite=True, verbose="error")
    return path


def read_all(recording, **kwargs):
    chunks = list(recording.chunks(**kwargs))
    return np.hstack([chunk.data for chunk in chunks]), np.concatenate([chunk.times for chunk in chunks])


def cut_short(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("name", PRECISION)
def test_formats_give_volts_and_annotations(tmp_path, raw, name):
    if name == "a.set":
        pytest.importorskip("eeglabio", reason="writes the EEGLAB file")
    recording = read_recording(str(write(raw, tmp_path / name)))
    assert recording.info.ch_names == tuple(CH_NAMES)
    assert (recording.info.sfreq, recording.info.name, recording.n_times, recording.first_time) == (
        SFREQ,
        name,
        2000,
        0.0,
    )
    prefix = "Comment/" if name == "a.vhdr" else ""
    assert recording.annotations == (Annotation(1.0, 0.5, f"{prefix}T1"), Annotation(4.0, 0.0, f"{prefix}T2"))

    data, times = read_all(recording)
    assert data.dtype == np.float64
    np.testing.assert_allclose(data, raw.get_data(), rtol=0, atol=PRECISION[name])
    np.testing.assert_array_equal(times, np.arange(2000) / SFREQ)
    again, _ = read_all(recording, picks=["cz", "C3"], chunk_samples=333)
    np.testing.assert_array_equal(again, data[[2, 0]])


@pytest.mark.parametrize("has_date", [True, False])
def test_onsets_count_from_the_first_sample_of_a_cropped_file(tmp_path, raw, has_date):
    if not has_date:
        raw.set_meas_date(None)
    recording = read_recording(write(raw.crop(0.5, 9.0), tmp_path / "a_raw.fif"))
    assert [note.onset for note in recording.annotations] == pytest.approx([0.5, 3.5])
    assert next(recording.chunks()).times[0] == 0.0


def test_only_eeg_channels_are_read(tmp_path, raw):
    raw.set_channel_types({"C4": "eog"}, verbose="error")
    raw.info["bads"] = ["Cz"]
    recording = read_recording(write(raw, tmp_path / "a_raw.fif"))
    assert recording.info.ch_names == ("C3", "Cz")
    np.testing.assert_allclose(read_all(recording)[0], raw.get_data([0, 2]), rtol=0, atol=1e-11)


def test_no_eeg_channels(tmp_path, raw):
    raw.set_channel_types(dict.fromkeys(CH_NAMES, "ecg"), verbose="error")
    with pytest.raises(RecordingError, match="expected EEG channels, found only ecg"):
        read_recording(write(raw, tmp_path / "a_raw.fif"))


def test_duplicated_channels_are_refused(tmp_path, raw):
    path = write(raw, tmp_path / "a.edf")
    path.write_bytes(path.read_bytes().replace(b"Cz ".ljust(16), b"C3 ".ljust(16), 1))
    with pytest.raises(ChannelError, match=r"a\.edf: channel names must be unique, found several C3"):
        read_recording(path)


def test_missing_channels_are_named(tmp_path, raw):
    recording = read_recording(write(raw, tmp_path / "a.edf"))
    with pytest.raises(ChannelError, match="2 of 3 channels are missing: Fz, Oz; it has C3, C4, Cz"):
        recording.chunks(picks=["Fz", "C3", "Oz"])


def test_chunk_samples_must_be_positive(tmp_path, raw):
    with pytest.raises(ValueError, match="at least 1, found 0"):
        read_recording(write(raw, tmp_path / "a.edf")).chunks(chunk_samples=0)


def test_edf_cut_short_is_refused(tmp_path, raw):
    path = write(raw, tmp_path / "a.edf")
    cut_short(path, path.stat().st_size // 2)
    with pytest.raises(RecordingError, match=r"expected 10 records of 1 s, found [45]: the end of the file is missing"):
        read_recording(path)


def test_edf_that_was_never_closed_is_read_with_a_warning(tmp_path, raw, caplog):
    path = write(raw, tmp_path / "a.edf")
    content = path.read_bytes()
    path.write_bytes(content[:236] + b"-1".ljust(8) + content[244:])
    with caplog.at_level(logging.WARNING, logger="streamdetect"):
        assert read_recording(path).n_times == 2000
    assert "was never closed; reading the 10 records" in caplog.text


@pytest.mark.parametrize("interrupted", [True, False])
def test_interrupted_edf_is_refused(tmp_path, raw, interrupted):
    path = write(raw, tmp_path / "a.edf")
    content = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    if interrupted:
        assert content.count(b"+7\x14\x14") == 1
        content = content.replace(b"+7\x14\x14", b"+9\x14\x14")
    path.write_bytes(content)
    if interrupted:
        with pytest.raises(RecordingError, match="found a jump from 7 s to 9 s"):
            read_recording(path)
        path.write_bytes(content.replace(b"+9\x14\x14", b"nine"))
        with pytest.raises(RecordingError, match="record 8: expected its onset in s, found b'nine"):
            read_recording(path)
    else:
        assert read_recording(path).n_times == 2000


def test_a_split_fif_is_one_recording(tmp_path, raw):
    signal = np.random.default_rng(0).normal(0, 2e-5, (3, 400_000))
    raw = mne.io.RawArray(signal, raw.info, verbose="error")
    raw.save(tmp_path / "a_raw.fif", split_size="2MB", verbose="error")
    assert len(list(tmp_path.iterdir())) > 1
    (path,) = find_recordings([tmp_path])
    recording = read_recording(path)
    assert recording.n_times == 400_000
    np.testing.assert_allclose(read_all(recording, picks=["C4"])[0], signal[1:2], rtol=0, atol=1e-11)


def test_brainvision_cut_short_is_refused(tmp_path, raw):
    path = write(raw, tmp_path / "a.vhdr")
    cut_short(path.with_suffix(".eeg"), 14_401)
    with pytest.raises(RecordingError, match=r"a\.eeg: expected whole samples, found 1200 and part of one"):
        read_recording(path)
    cut_short(path.with_suffix(".eeg"), 14_400)
    path.write_text(path.read_text().replace("NumberOfChannels=3", "NumberOfChannels=3\nDataPoints=2000"))
    with pytest.raises(RecordingError, match="expected 2000 samples, found 1200: the end"):
        read_recording(path)


def test_fif_cut_short_is_refused_when_it_is_read(tmp_path, raw):
    path = write(raw, tmp_path / "a_raw.fif")
    cut_short(path, path.stat().st_size * 6 // 10)
    recording = read_recording(path)
    with pytest.raises(RecordingError, match=r"a_raw\.fif: expected samples at 0\.0 s"):
        list(recording.chunks(chunk_samples=200))


@pytest.mark.parametrize(
    "name", ["a.edf", "a.bdf", "a.vhdr", "a_raw.fif", "a.set", "a.cnt", "a.gdf", "a.foo", "a", "a.xdf"]
)
@pytest.mark.parametrize("content", [b"hello, I am a text\n" * 100, bytes(range(256)) * 20, b"0"])
def test_whatever_is_no_recording_ends_in_one_clear_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        list(read_recording(path).chunks())
    message = str(caught.value)
    assert message.startswith(f"{path}: expected")
    assert "\n" not in message
    assert (caught.value.__cause__ is None) == (name == "a.xdf")


@pytest.mark.parametrize("keep", [0.001, 0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", PRECISION)
def test_truncated_anywhere_it_is_refused(tmp_path, raw, name, keep):
    if name == "a.set":
        pytest.importorskip("eeglabio", reason="writes the EEGLAB file")
    path = write(raw, tmp_path / name)
    cut = path.with_suffix(".eeg") if name == "a.vhdr" else path
    cut_short(cut, int(cut.stat().st_size * keep) | 1)
    with pytest.raises(RecordingError):
        list(read_recording(path).chunks())


def test_a_suffix_that_mne_does_not_know_is_named(tmp_path):
    path = tmp_path / "a.foo"
    path.write_text("hello")
    with pytest.raises(
        RecordingError, match=r"Unsupported file type \(\.foo\); is it whole, and named after its format"
    ):
        read_recording(path)


def test_no_such_file_an_empty_one_and_a_folder(tmp_path):
    with pytest.raises(RecordingError, match="no such file"):
        read_recording(tmp_path / "none.edf")
    (tmp_path / "empty.edf").touch()
    with pytest.raises(RecordingError, match="found an empty file"):
        read_recording(tmp_path / "empty.edf")
    with pytest.raises(RecordingError, match="found a folder"):
        read_recording(tmp_path)


def test_a_stream_can_be_chosen_in_xdf_only(tmp_path, raw):
    with pytest.raises(InputError, match="in XDF files only"):
        read_recording(write(raw, tmp_path / "a.edf"), stream="Amp")


def test_find_recordings_lists_each_recording_once(tmp_path):
    listed = [
        "a.edf",
        "b.BDF",
        "c.vhdr",
        "d_raw.fif",
        "e.set",
        "f.xdf",
        "g.eeg",
        "h.mff",
        "i_split-01_eeg.fif",
        "subj1_series1_data.csv",
    ]
    sides = [
        "a.edf.event",
        "c.vmrk",
        "c.eeg",
        "d_raw-1.fif",
        "e.fdt",
        "i_split-02_eeg.fif",
        "subj1_series1_events.csv",
        "notes.txt",
        "._a.edf",
    ]
    for name in (*listed, *sides):
        if name.endswith(".mff"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "inside.edf").touch()
        else:
            (tmp_path / name).touch()
    assert [path.name for path in find_recordings([tmp_path])] == listed
    assert find_recordings([tmp_path / "b.BDF", tmp_path / "notes.txt", tmp_path])[:3] == [
        tmp_path / name for name in ("b.BDF", "notes.txt", "a.edf")
    ]
    assert len(find_recordings([tmp_path, tmp_path / "a.edf"])) == len(listed)


def test_find_recordings_refuses_what_holds_none(tmp_path):
    with pytest.raises(RecordingError, match="no such file or folder"):
        find_recordings([tmp_path / "none"])
    with pytest.raises(RecordingError, match="expected recordings in this folder, found none"):
        find_recordings([tmp_path])


def test_physionet_runs(data_dir):
    paths = find_recordings([data_dir / "eeg_motor_S001"])
    assert [path.name for path in paths] == [f"S001R{run:02}.edf" for run in range(3, 11)]
    recording = read_recording(paths[0])
    assert (recording.info.n_channels, recording.info.sfreq, recording.n_times) == (64, 160.0, 20_000)
    assert {note.description for note in recording.annotations} == {"T0", "T1", "T2"}
    data, _ = read_all(recording, picks=["FC5", "Iz"])
    reference = mne.io.read_raw_edf(paths[0], verbose="error").get_data(["Fc5.", "Iz.."])
    np.testing.assert_array_equal(data, reference)


def test_pick_channels_prefers_the_exact_name():
    assert pick_channels(["C3", "c3", "Fc5."], ["c3", "FC5", "C3"], where="x") == [1, 2, 0]
    with pytest.raises(ChannelError, match=r"x: channel C3 could be any of c3, C3\."):
        pick_channels(["c3", "C3."], ["C3"], where="x")
    with pytest.raises(ChannelError, match="x: channel names must be unique, found more than one C3"):
        pick_channels(["C3", "C4", "C3"], ["C4"], where="x")


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        (("volts", "V", "Volt", "v"), 1.0),
        (("millivolts", "mV", "mv", "MILLIVOLTS"), 1e-3),
        (("microvolts", "uV", "\u00b5V", "\u03bcV", "UV", " uV "), 1e-6),
        (("nanovolts", "nV"), 1e-9),
    ],
)
def test_units(units, factor):
    assert {volts_per(unit) for unit in units} == {factor}


@pytest.mark.parametrize("unit", ["MV", "Mv", "", "ohm", "megavolts"])
def test_unknown_units(unit):
    with pytest.raises(InputError, match=r"unit .* is not known: expected one of volts, V"):
        volts_per(unit)
