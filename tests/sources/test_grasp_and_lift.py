from __future__ import annotations

import numpy as np
import pytest

from streamdetect.errors import ChannelError, RecordingError
from streamdetect.events import Annotation
from streamdetect.sources.recording import find_recordings, read_recording

EVENTS = "id,HandStart,FirstDigitTouch,BothStartLoadPhase,LiftOff,Replace,BothReleased"


@pytest.fixture
def counts():
    return np.random.default_rng(0).integers(-2000, 2000, (1234, 3))


@pytest.fixture
def pair(tmp_path, counts):
    marks = np.zeros((len(counts), 6), dtype=int)
    marks[100:250, 0] = 1  # 150 samples: the middle lies between two
    marks[1000:1234, 5] = 1  # to the end
    marks[0, 1] = 1
    path = tmp_path / "subj1_series1_data.csv"
    write(path, "id,Fp1,Fp2,F7", counts)
    write(tmp_path / "subj1_series1_events.csv", EVENTS, marks)
    return path


def write(path, header, rows):
    lines = [f"subj1_series1_{i}," + ",".join(map(str, row)) for i, row in enumerate(rows.tolist())]
    path.write_text("\n".join([header, *lines]) + "\n")


def edit_line(path, number, change):
    lines = path.read_text().split("\n")
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines))


def read_all(recording, **kwargs):
    chunks = list(recording.chunks(**kwargs))
    return np.hstack([chunk.data for chunk in chunks]), np.concatenate([chunk.times for chunk in chunks])


def test_reads_integers_as_microvolts(pair, counts):
    recording = read_recording(pair)
    assert recording.info.ch_names == ("Fp1", "Fp2", "F7")
    assert (recording.info.sfreq, recording.info.name, recording.n_times) == (500.0, pair.name, 1234)
    data, times = read_all(recording)
    assert data.dtype == np.float64
    np.testing.assert_array_equal(data, counts.T * 1e-6)
    np.testing.assert_array_equal(times, np.arange(1234) / 500)
    np.testing.assert_array_equal(read_all(recording)[0], data)  # a second time


@pytest.mark.parametrize("chunk_samples", [1, 7, 500, 5000])
def test_picks_and_chunk_size(pair, counts, chunk_samples):
    data, times = read_all(read_recording(pair), picks=["F7", "fp1"], chunk_samples=chunk_samples)
    np.testing.assert_array_equal(data, counts.T[[2, 0]] * 1e-6)
    assert len(times) == 1234


def test_onset_is_the_middle_of_a_run_of_ones(pair):
    assert read_recording(pair).annotations == (
        Annotation(0.0, 0.0, "FirstDigitTouch"),
        Annotation((100 + 249) / 2 / 500, 0.0, "HandStart"),
        Annotation((1000 + 1233) / 2 / 500, 0.0, "BothReleased"),
    )


def test_without_an_events_file_there_are_no_annotations(pair):
    pair.with_name("subj1_series1_events.csv").unlink()
    assert read_recording(pair).annotations == ()


def test_empty_and_nan_cells_become_nan(pair, counts):
    edit_line(pair, 5, lambda line: line.rsplit(",", 1)[0] + ",")
    edit_line(pair, 900, lambda line: line.rsplit(",", 1)[0] + ",nan")
    data, _ = read_all(read_recording(pair), chunk_samples=100)
    expected = counts.T * 1e-6
    expected[2, [3, 898]] = np.nan
    np.testing.assert_array_equal(data, expected)


def test_fractions_windows_line_ends_and_trailing_blank_lines(tmp_path):
    path = tmp_path / "a_data.csv"
    path.write_bytes("\ufeffid,C3,C4\r\na_0,1.5,-2\r\na_1,0.25,3\r\n\r\n".encode())
    recording = read_recording(path)
    assert (recording.info.ch_names, recording.n_times) == (("C3", "C4"), 2)
    np.testing.assert_array_equal(read_all(recording)[0], np.array([[1.5, 0.25], [-2, 3]]) * 1e-6)


def test_given_the_events_file_it_names_the_data_file(pair):
    with pytest.raises(RecordingError, match=r"give .*subj1_series1_data\.csv"):
        read_recording(pair.with_name("subj1_series1_events.csv"))


def test_row_counts_must_agree(pair):
    events = pair.with_name("subj1_series1_events.csv")
    events.write_text(events.read_text().rsplit("\n", 3)[0] + "\n")
    with pytest.raises(RecordingError, match=r"expected the 1234 rows of subj1_series1_data\.csv, found 1232"):
        read_recording(pair)


def test_events_must_be_0_or_1(pair):
    edit_line(pair.with_name("subj1_series1_events.csv"), 12, lambda line: line[:-1] + "2")
    with pytest.raises(RecordingError, match="expected 0 or 1 in every cell, found something else in line 12"):
        read_recording(pair)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line + ",7", "line 800: expected 4 cells, found 5"),
        (lambda line: line.rsplit(",", 1)[0], "line 800: expected 4 cells, found 3"),
        (lambda line: line.rsplit(",", 1)[0] + ",x1", "line 800: expected a number in column F7, found 'x1'"),
    ],
)
def test_damaged_rows_are_named(pair, change, message):
    edit_line(pair, 800, change)
    recording = read_recording(pair)
    with pytest.raises(RecordingError, match=message):
        list(recording.chunks(chunk_samples=300))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("time,C3\n0,1\n", RecordingError, "line 1: expected a header such as id,Fp1"),
        ("id\n0\n", RecordingError, "line 1: expected a header"),
        ("id,C3,C3\n0,1,2\n", ChannelError, "found more than one C3"),
        ("id,C3,C4\n", RecordingError, "expected one row a sample below the header, found none"),
    ],
)
def test_bad_headers(tmp_path, text, error, message):
    path = tmp_path / "a_data.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_recording(path)


def test_binary_file_named_csv(tmp_path):
    path = tmp_path / "a_data.csv"
    path.write_bytes(b"\xff\xfe\x00\x81" * 100)
    with pytest.raises(RecordingError, match="no UTF-8 text"):
        read_recording(path)


def test_folder_lists_the_data_files_only(pair):
    assert find_recordings([pair.parent]) == [pair]
