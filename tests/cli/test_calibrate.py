"""A cued session as a person runs it, over real LSL, and training from what LabRecorder keeps of one."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
import time

import mne
import numpy as np
import pylsl
import pytest

from streamdetect.calibration.cues import draw_cues
from streamdetect.calibration.subject import SimulatedSubject
from streamdetect.detector import Detector
from streamdetect.events import Annotation
from streamdetect.sources.lsl import LSLSource
from streamdetect.sources.lsl_streams import resolve_stream
from streamdetect.sources.recording import give_duration, read_recording

pytestmark = pytest.mark.usefixtures("lsl")

# A process started in the background of a shell inherits that Ctrl-C is ignored; in a terminal it is not.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from streamdetect.cli.main import run
run()
"""
SHORT = ("--trials", "12", "--movement-s", "1", "--rest-s", "0.8,1.4", "--countdown", "2", "--jobs", "1")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process, number=signal.SIGTERM):
    process.send_signal(number)
    process.communicate(timeout=60)


def open_markers(name):
    inlet = pylsl.StreamInlet(resolve_stream(name, 60.0).handle)
    inlet.open_stream(10.0)
    return inlet


def hear(inlet, wanted, timeout_s=60.0):
    """Wait for a cue."""
    deadline = time.monotonic() + timeout_s
    while wanted not in [text for (text,) in inlet.pull_chunk(0.2, min_samples=1)[0]]:
        assert time.monotonic() < deadline, f"no cue {wanted}"


def test_a_simulated_subject_is_calibrated_from_start_to_a_working_model(tmp_path):
    subject = start("simulate-subject", "--name", "cal-e2e", "--minutes", "3", "--answer", "hand-cues")
    session = start(
        *("calibrate", "--stream", "cal-e2e", "--out", tmp_path / "hand.onnx", "--features", "bands", "--seed", "3"),
        *(*SHORT, "--report", tmp_path / "report.html", "--json", tmp_path / "figures.json"),
    )
    markers, chunks = [], []
    with LSLSource("cal-e2e", timeout_s=60.0) as source:
        inlet = open_markers("hand-cues")
        while session.poll() is None:
            chunks += source.read(0.1)
            texts, stamps = inlet.pull_chunk(0.0)
            markers += [(text, stamp) for (text,), stamp in zip(texts, stamps, strict=True)]
        correction = source.time_correction
    out, err = session.communicate(timeout=60)
    end(subject)
    assert session.returncode == 0, err

    cues = draw_cues("movement", n_trials=12, movement_s=1.0, rest_s=(0.8, 1.4), seed=3)
    assert [text for text, _ in markers] == [cue.name for cue in cues]
    late = np.diff([stamp for _, stamp in markers]) - np.diff([cue.onset for cue in cues])
    assert np.abs(late).max() < 0.5  # however busy the machine; a cue's label is where it was shown

    # The test received the same samples beside the session, each with its time.
    recording = read_recording(tmp_path / "hand-calibration_raw.fif")
    data = np.concatenate([chunk.data for chunk in recording.chunks()], axis=1)
    received = np.concatenate([chunk.data for chunk in chunks], axis=1)
    times = np.concatenate([chunk.times for chunk in chunks]) + correction
    (first,) = np.flatnonzero((received == data[:, :1]).all(axis=0))
    np.testing.assert_array_equal(received[:, first : first + recording.n_times], data)
    pushed = (np.array([stamp for _, stamp in markers]) - times[first]) * recording.info.sfreq
    notes = recording.annotations
    assert [note.description for note in notes] == [cue.name for cue in cues]
    assert [note.onset * recording.info.sfreq for note in notes] == pytest.approx(pushed, abs=1.0)
    assert [note.duration for note in notes[1::2]] == pytest.approx(np.ones(12), abs=0.5)

    # The subject is the one of this seed, and moved when it heard the cues and not before.
    deaf = SimulatedSubject("deaf", lambda: (), minutes=3.0)
    still = np.concatenate([chunk.data for chunk in deaf.chunks()], axis=1)
    still = (still * 1e6).astype(np.float32).astype(np.float64) * 1e-6
    (begin,) = np.flatnonzero((still == data[:, :1]).all(axis=0))
    change = np.abs(data - still[:, begin : begin + recording.n_times]).max(axis=0)
    first_cue = int(pushed[0])
    assert change[:first_cue].max() == 0.0
    assert change[first_cue : first_cue + 500].max() > 3e-6
    assert change[int(pushed[1]) :].mean() > 3e-6

    detector = Detector.load(str(tmp_path / "hand.onnx"))
    assert detector.event_names == ("movement",)
    decisions = [detector.process(chunk) for chunk in recording.chunks(picks=detector.ch_names)]
    assert sum(int(np.count_nonzero(block.valid)) for block in decisions) > 1000
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["calibration"]["n_cues"] == 25
    assert figures["calibration"]["n_lost"] == 0
    assert {one["verdict"] for one in figures["calibration"]["signal_check"]} == {"good"}
    confusion = figures["events"]["movement"]["confusion"]
    moved_s = sum(note.duration for note in recording.annotations if note.description == "movement")
    assert 0.02 * (confusion["tp"] + confusion["fn"]) == pytest.approx(moved_s, rel=0.1)  # a decision every 20 ms
    assert "Signal check" in out
    assert "held-out" in out
    assert (tmp_path / "report.html").exists()


@pytest.fixture
def flat_stream(tmp_path):
    """A live stream on which C3 is dead."""
    data = np.random.default_rng(0).standard_normal((3, 250 * 90)) * 1e-5
    data[1] = 0.0
    raw = mne.io.RawArray(data, mne.create_info(["Cz", "C3", "C4"], 250.0, "eeg"), verbose="error")
    raw.save(tmp_path / "flat_raw.fif", verbose="error")
    player = start("play", tmp_path / "flat_raw.fif", "--name", "cal-flat", "--wait", "60")
    yield "cal-flat"
    end(player)


def test_a_dead_channel_stops_it_until_it_is_left_out_and_ctrl_c_keeps_the_recording(flat_stream, tmp_path):
    refused = start("calibrate", "--stream", flat_stream, "--out", tmp_path / "a.onnx")
    out, err = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "bad: flat" in out
    last = err.splitlines()[-1]
    assert last.startswith("streamdetect: signal check: 1 of 3 channels is bad: C3 (flat); ")
    assert "--exclude C3" in last
    assert not list(tmp_path.glob("a*"))

    session = start("calibrate", "--stream", flat_stream, "--out", tmp_path / "b.onnx", "--exclude", "C3", *SHORT)
    hear(open_markers("b-cues"), "movement")
    session.send_signal(signal.SIGINT)
    _, err = session.communicate(timeout=60)
    assert session.returncode == 130, err
    path = tmp_path / "b-calibration_raw.fif"
    assert f"streamdetect train {path} --event movement --exclude C3 --features auto --out {tmp_path / 'b.onnx'}" in err
    recording = read_recording(path)
    assert recording.info.ch_names == ("Cz", "C3", "C4")  # nothing is thrown away
    assert recording.annotations[0].description == "rest"
    assert not (tmp_path / "b.onnx").exists()

    again = start("calibrate", "--stream", flat_stream, "--out", tmp_path / "b.onnx")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 2
    assert "holds an earlier session" in err


def test_a_bad_signal_may_be_gone_on_with(flat_stream, tmp_path):
    session = start("calibrate", "--stream", flat_stream, "--out", tmp_path / "c.onnx", "--ignore-signal-check", *SHORT)
    hear(open_markers("c-cues"), "rest")
    session.send_signal(signal.SIGINT)
    _, err = session.communicate(timeout=60)
    assert session.returncode == 130
    assert "1 of 3 channels is bad: C3 (flat); going on all the same" in err


def test_a_lost_stream_ends_it_with_what_there_is(tmp_path):
    info = pylsl.StreamInfo("cal-lost", "EEG", 2, 250.0, "float32", "")  # without a source id nothing can be waited for
    lost = threading.Event()

    def stream():
        outlet, sent, begun = pylsl.StreamOutlet(info), 0, pylsl.local_clock()
        rng = np.random.default_rng(0)
        while not lost.wait(0.02):
            n = int((pylsl.local_clock() - begun) * 250)
            if n > sent:
                stamps = (begun + np.arange(sent, n) / 250).tolist()
                outlet.push_chunk(rng.normal(0, 10, (n - sent, 2)).astype(np.float32), stamps)
                sent = n

    sender = threading.Thread(target=stream)
    sender.start()
    try:
        session = start("calibrate", "--stream", "cal-lost", "--out", tmp_path / "d.onnx", "--event", "grasp", *SHORT)
        hear(open_markers("d-cues"), "grasp")
    finally:
        lost.set()
        sender.join(10.0)
    _, err = session.communicate(timeout=60)
    assert session.returncode == 2, err
    path = tmp_path / "d-calibration_raw.fif"
    last = err.splitlines()[-1]
    assert last.startswith("streamdetect: stream 'cal-lost'")
    assert f"streamdetect train {path} --event grasp --features auto --out {tmp_path / 'd.onnx'}" in last
    assert read_recording(path).annotations


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rest-s", "3"), "--rest-s 3: expected LOW,HIGH"),
        (("--rest-s", "3,3"), "--rest-s 3,3"),
        (("--rest-s", "2,x"), "--rest-s 2,x"),
        (("--event", "rest"), "--event 'rest'"),
        (("--trials", "2"), "--trials"),
        (("--out", "m.txt"), "--out m.txt"),
    ],
)
def test_what_makes_no_session_is_refused_before_a_stream_is_looked_for(refused, tmp_path, arguments, named):
    assert named in refused("calibrate", "--out", tmp_path / "m.onnx", *arguments)


def test_without_a_stream_it_says_so(command, tmp_path):
    ended = command("calibrate", "--stream", "cal-nobody", "--timeout", "0.1", "--out", tmp_path / "m.onnx")
    assert ended.code == 2
    assert "no LSL stream matches 'cal-nobody'" in ended.err.splitlines()[-1]


def xdf_chunk(tag, content):
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def xdf_stream(number, header, rows, stamps):
    """Return the chunks of a stream as LabRecorder writes them; rows are the bytes of each sample."""
    ident = struct.pack("<I", number)
    samples = b"".join(b"\x08" + struct.pack("<d", stamp) + row for row, stamp in zip(rows, stamps, strict=True))
    body = ident + b"\x04" + struct.pack("<I", len(stamps)) + samples
    offset = struct.pack("<dd", stamps[0], 0.0)
    return xdf_chunk(2, ident + f'<?xml version="1.0"?><info>{header}</info>'.encode()) + b"".join(
        (xdf_chunk(3, body), xdf_chunk(4, ident + offset))
    )


@pytest.fixture
def labrecorder_file(tmp_path):
    """An XDF file of an EEG stream and our cues: C3 and Cz lose amplitude while a movement is asked for."""
    pytest.importorskip("pyxdf", reason="the extra xdf is not installed")
    cues = draw_cues("movement", n_trials=12, movement_s=2.5, rest_s=(2.0, 3.0), seed=0)
    sfreq, begun = 100.0, 7000.0
    stamps = begun + np.arange(int((cues[-1].end + 3.0) * sfreq)) / sfreq
    microvolts = np.random.default_rng(0).normal(0, 10, (len(stamps), 3)).astype("<f4")
    for cue in cues[1::2]:
        microvolts[(stamps >= begun + 1.0 + cue.onset) & (stamps < begun + 1.0 + cue.end), :2] *= 0.4
    named = "<channel><label>{}</label><unit>microvolts</unit><type>EEG</type></channel>"
    names = "".join(named.format(name) for name in ("C3", "Cz", "Pz"))
    eeg = (
        "<name>amp</name><type>EEG</type><channel_count>3</channel_count><nominal_srate>100</nominal_srate>"
        f"<channel_format>float32</channel_format><desc><channels>{names}</channels></desc>"
    )
    markers = (
        "<name>hand-cues</name><type>Markers</type><channel_count>1</channel_count><nominal_srate>0</nominal_srate>"
        "<channel_format>string</channel_format><desc/>"
    )
    words = [b"\x01" + bytes([len(cue.name)]) + cue.name.encode() for cue in cues]
    path = tmp_path / "session.xdf"
    path.write_bytes(
        b"XDF:"
        + xdf_chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>')
        + xdf_stream(1, eeg, [row.tobytes() for row in microvolts], stamps)
        + xdf_stream(2, markers, words, [begun + 1.0 + cue.onset for cue in cues])
    )
    return path


def test_what_labrecorder_made_of_a_session_trains_too(labrecorder_file, command, tmp_path):
    texts = [note.description for note in read_recording(labrecorder_file).annotations]
    assert texts == ["rest", "movement"] * 12 + ["rest"]
    share, auc = {}, {}
    for name, options in (("moment", ()), ("held", ("--event-duration", "2.5"))):
        out, figures = tmp_path / f"{name}.onnx", tmp_path / f"{name}.json"
        common = ("--event", "movement", "--jobs", "1", "--json", figures)
        ended = command("train", labrecorder_file, "--out", out, *common, *options)
        assert ended.code == 0, ended.err
        (trained_on,) = Detector.load(str(out)).model.metadata.training.recordings
        share[name] = trained_on.n_positive["movement"] / trained_on.n_windows
        auc[name] = json.loads(figures.read_text())["events"]["movement"]["auc"]
    seconds = read_recording(labrecorder_file).n_times / 100.0
    assert share["held"] == pytest.approx(12 * 2.5 / seconds, rel=0.15)
    assert share["moment"] == pytest.approx(12 * 0.3 / seconds, rel=0.3)
    assert auc["held"] > 0.75


def test_a_duration_is_given_only_where_there_is_none(labrecorder_file):
    recording = read_recording(labrecorder_file)
    assert give_duration(recording, None) is recording
    given = give_duration(recording, 1.5)
    assert {note.duration for note in given.annotations[:-1]} == {1.5}
    assert all(note.duration == 9.0 for note in give_duration(give_duration(recording, 9.0), 2.0).annotations[:5])
    end_s = recording.n_times / recording.info.sfreq
    late = Annotation(end_s - 0.5, 0.0, "movement")
    kept = give_duration(type(recording)(**{**vars(recording), "annotations": (late,)}), 3.0)
    assert kept.annotations == (Annotation(late.onset, 0.5, "movement"),)
