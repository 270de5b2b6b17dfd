from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from streamdetect.errors import RecordingError
from streamdetect.sources.montage import GRASP_AND_LIFT_CHANNELS

EVENTS = ("HandStart", "FirstDigitTouch", "BothStartLoadPhase", "LiftOff", "Replace", "BothReleased")


def _load():
    path = Path(__file__).parents[2] / "tools" / "evaluate_gal_windows.py"
    spec = importlib.util.spec_from_file_location("evaluate_gal_windows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _load()


@pytest.fixture
def subject_file(tmp_path):
    """Eight series of 8 trials; HandStart alone moves the signal; two events overlap by 50 frames."""
    rng = np.random.default_rng(0)
    frames, eeg, labels, series = [], [], [], []
    for number in range(1, 9):
        onset = 1000
        for _ in range(8):
            starts = onset + np.array([0, 1000, 1100, 1500, 2500, 3000])
            present = np.unique(np.concatenate([np.arange(start, start + 150) for start in starts]))
            hot = (present[:, None] >= starts) & (present[:, None] < starts + 150)
            signal = rng.normal(0, 20, (len(present), 32))
            signal[hot[:, 0], 12] += 30
            frames.append(present)
            eeg.append(signal)
            labels.append(hot)
            series.append(np.full(len(present), number))
            onset += int(rng.integers(4000, 6000))
    path = tmp_path / "subj99.npz"
    np.savez(
        path,
        frame=np.concatenate(frames),
        eeg=np.concatenate(eeg).round().astype(np.int16),
        labels=np.concatenate(labels),
        series=np.concatenate(series),
        channels=np.array(GRASP_AND_LIFT_CHANNELS),
        events=np.array(EVENTS),
        sfreq=500,
    )
    return path


def test_each_occurrence_is_a_window_of_its_own(subject_file):
    subject = tool.read_subject(subject_file)
    windows = tool.cut_windows(subject, subject.signal)
    assert windows.signal.shape == (8 * 8 * 6, 32, 150)
    assert np.bincount(windows.event).tolist() == [64] * 6
    np.testing.assert_array_equal(windows.signal[0], subject.signal[:, :150])
    assert windows.start_s[0] == 2.0


def test_features_see_nothing_before_the_window(subject_file):
    subject = tool.read_subject(subject_file)
    first = np.flatnonzero(subject.labels[:, 2])[0]  # 100 frames into a run
    changed = subject.signal.copy()
    changed[:, :first] += 1.0
    cut = [tool.cut_windows(subject, signal) for signal in (subject.signal, changed)]
    index = np.flatnonzero(cut[0].event == 2)[0]
    one = [tool.Windows(*(field[[index]] for field in windows)) for windows in cut]
    rows = [tool.compute_features(subject, windows, "mrcp+wide") for windows in one]
    np.testing.assert_array_equal(*rows)
    assert rows[0].shape == (1, 32 * (8 + 3))


def test_scores_are_written_by_subject_and_event(subject_file, tmp_path, capsys):
    tool.main([str(subject_file), "--features", "lowpass", "--json", str(tmp_path / "f.json")])
    found = json.loads((tmp_path / "f.json").read_text())
    (scores,) = found["subjects"].values()
    assert list(found["mean"]) == [*EVENTS, "all"]
    assert found["mean"]["HandStart"] == scores["HandStart"] > 0.9
    assert abs(scores["LiftOff"] - 0.5) < 0.25  # 16 windows against 80, and nothing to find
    assert scores["all"] == pytest.approx(np.mean([scores[name] for name in EVENTS]))
    assert set(scores["members"]) == {"lda", "rf", "lr"}
    assert abs(scores["controls"]["phase_randomised"] - 0.5) < 0.15
    assert "HandStart" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "other.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"other\.npz: expected a \.npz file with frame, eeg") as caught:
        tool.main([str(path)])
    assert "\n" not in str(caught.value)
