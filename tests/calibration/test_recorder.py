from __future__ import annotations

import mne
import numpy as np
import pytest

from streamdetect.calibration.recorder import Recorder, find_sample
from streamdetect.chunk import Chunk, StreamInfo
from streamdetect.errors import InputError
from streamdetect.events import Annotation
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.recording import read_recording

SFREQ = 100.0
INFO = StreamInfo(("C3", "Cz"), SFREQ, "amp")
DATA = np.random.default_rng(0).standard_normal((2, 3000)) * 1e-5 / 3  # not to be had in float32
OFFSET_S = 50.0  # from the source's clock to this machine's


def record(times, data=DATA, cues=(), block=37, correction=OFFSET_S):
    """Record a signal with these time stamps, and cues at (name, time in this machine's clock, duration)."""
    recorder, marker, cues = Recorder(INFO), GapMarker(SFREQ), list(cues)
    for start in range(0, len(times), block):
        for chunk in marker.mark(data[:, start : start + block], times[start : start + block]):
            while cues and cues[0][1] < chunk.times[0] + correction:
                recorder.add_cue(*cues.pop(0))
            recorder.add(chunk, correction)
    for cue in cues:
        recorder.add_cue(*cue)
    return recorder


def onsets(recorder):
    return [note.onset * SFREQ for note in recorder.annotations]


TIMES = 1000.0 + np.arange(3000) / SFREQ


def test_what_was_recorded_reads_again_bit_for_bit(tmp_path):
    recorder = record(TIMES, cues=[("rest", 1051.0, 2.0), ("movement", 1053.005, 3.0)])
    path = tmp_path / "m-calibration_raw.fif"
    recorder.save(path, "a test")
    recording = read_recording(path)
    np.testing.assert_array_equal(np.concatenate([c.data for c in recording.chunks()], axis=1), DATA)
    assert recording.info == StreamInfo(INFO.ch_names, SFREQ, path.name)
    notes = recording.annotations
    assert [note.description for note in notes] == ["rest", "movement"]
    assert [note.onset for note in notes] == pytest.approx([1.0, 3.005], abs=1e-4)
    assert [note.duration for note in notes] == pytest.approx([2.0, 3.0], abs=1e-4)
    assert mne.io.read_raw(path, verbose="error").info["description"] == "a test"


@pytest.mark.parametrize("block", [1, 10, 3000])
def test_stamps_that_jitter_and_a_rate_that_is_off_do_not_move_cues(block):
    n = np.arange(3000)
    true = 1000.0 + n / (SFREQ * 1.0005)
    by_block = true[np.minimum(n // 8 * 8 + 7, 2999)]  # a driver that stamps each 8 samples when the last has come
    jittered = by_block + np.random.default_rng(1).uniform(0, 0.01, 3000)
    cues = [("movement", true[at] + OFFSET_S, 1.0) for at in (30, 400, 1501, 2990)]
    delay = np.mean(jittered - true) * SFREQ  # what no one can know
    found = np.array(onsets(record(jittered, cues=cues, block=block)))
    assert found + delay == pytest.approx([30, 400, 1501, 2990], abs=0.6)


def test_lost_samples_are_nan_and_time_goes_on(tmp_path):
    times = np.delete(TIMES, np.s_[700:950])
    data = np.delete(DATA, np.s_[700:950], axis=1)
    cues = [("movement", 1000.0 + at / SFREQ + OFFSET_S, 1.0) for at in (500, 800, 2000)]
    recorder = record(times, data, cues)
    assert (recorder.n_times, recorder.n_lost, recorder.n_gaps) == (3000, 250, 1)
    assert onsets(recorder) == pytest.approx([500, 800, 2000], abs=0.01)
    recorder.save(tmp_path / "g_raw.fif")
    read = np.concatenate([c.data for c in read_recording(tmp_path / "g_raw.fif").chunks()], axis=1)
    expected = DATA.copy()
    expected[:, 700:950] = np.nan
    np.testing.assert_array_equal(read, expected)
    raw = mne.io.read_raw(tmp_path / "g_raw.fif", preload=True, verbose="error")
    for bad in mne.preprocessing.annotate_nan(raw):  # MNE's own tools know what to leave out, channel by channel
        assert (bad["onset"], bad["duration"]) == pytest.approx((7.0, 2.5), abs=0.02)


@pytest.mark.parametrize("new_start", [200.0, 5000.0])  # the clock goes back, or jumps ahead by more than 10 min
def test_after_a_restart_cues_stay_where_they_were(new_start):
    recorder = Recorder(INFO)
    recorder.add(Chunk(DATA[:, :1000], TIMES[:1000]), OFFSET_S)
    recorder.add_cue("movement", 1000.0 + 3.0 + OFFSET_S, 1.0)
    recorder.add_cue("rest", 1000.0 + 9.5 + OFFSET_S, 5.0)
    again = new_start + np.arange(1000) / SFREQ
    correction = 1070.0 - again[0]  # the source's clock was set: 10 s after the last sample by this machine's
    recorder.add(Chunk(DATA[:, 1000:2000], again, restart=True), correction)
    recorder.add_cue("movement", 1072.0, 1.0)
    assert recorder.n_times == 2200  # with 2 s in place of a gap of unknown length
    notes = recorder.annotations
    assert [round(note.onset * SFREQ) for note in notes] == [300, 950, 1400]
    assert notes[1].onset + notes[1].duration <= 12.0


def test_a_cue_in_a_long_gap_does_not_reach_into_what_follows():
    recorder = Recorder(INFO)
    recorder.add(Chunk(DATA[:, :1000], TIMES[:1000]), 0.0)
    recorder.add_cue("movement", 1030.0, 3.0)  # 20 s after the last sample; the gap is written as 2 s
    recorder.add_cue("rest", 1033.0, 100.0)
    recorder.add(Chunk(DATA[:, :1000], 1040.0 + np.arange(1000) / SFREQ, restart=True), 0.0)
    notes = recorder.annotations
    assert [note for note in notes if note.description == "movement"] == []
    assert notes[0].description == "rest"


def test_what_lies_outside_the_signal_is_cut_or_left_out():
    cues = [("rest", 1049.99, 2.0), ("movement", 1079.0, 3.0), ("rest", 1080.5, 3.0)]
    notes = record(TIMES, cues=cues).annotations
    assert notes[0] == Annotation(0.0, pytest.approx(1.99), "rest")
    assert notes[1] == Annotation(pytest.approx(29.0), pytest.approx(1.0), "movement")
    assert len(notes) == 2
    assert record(TIMES[:0], cues=cues).annotations == ()


def test_a_cue_lasts_until_the_next_at_most():
    notes = record(TIMES, cues=[("movement", 1052.0, 3.0), ("rest", 1053.0, 2.0)]).annotations
    assert [note.duration for note in notes] == pytest.approx([1.0, 2.0])


def test_a_file_that_cannot_be_written_is_refused_in_a_line(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        record(TIMES).save(tmp_path / "nowhere" / "a_raw.fif")


def test_a_few_samples_are_enough_to_place_a_time():
    assert find_sample([10.0], 10.02, SFREQ) == pytest.approx(2.0)
    assert find_sample([10.0, 10.0, 10.0], 10.05, SFREQ) == pytest.approx(6.0)  # one stamp for a block
