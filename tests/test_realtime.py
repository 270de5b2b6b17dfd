import subprocess
import sys

import pytest

from streamdetect.errors import InputError
from streamdetect.realtime import claim_realtime

CLAIM = """
import os, threading
from streamdetect.realtime import claim_realtime
done = threading.Event()
threading.Thread(target=done.wait).start()
claim_realtime()
for thread in sorted(map(int, os.listdir("/proc/self/task"))):
    is_fifo, priority = os.sched_getscheduler(thread) == os.SCHED_FIFO, os.sched_getparam(thread).sched_priority
    print(is_fifo, priority, thread == os.getpid())
done.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has SCHED_FIFO")
def test_all_threads_run_in_real_time_and_those_of_liblsl_before_the_main_thread():
    # In a process of its own: what it sets would stay.
    run = subprocess.run([sys.executable, "-c", CLAIM], capture_output=True, text=True, check=False)
    if run.returncode and "may not ask for real-time scheduling" in run.stderr:
        pytest.skip("this user may not ask for real-time scheduling")
    assert run.stdout.split("\n")[:2] == ["True 1 True", "True 2 False"], run.stderr


def test_a_user_who_may_not_is_told_what_to_do(monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr("streamdetect.realtime.sys.platform", "linux")
    monkeypatch.setattr("streamdetect.realtime.Path.iterdir", lambda path: iter([path / "1"]))
    monkeypatch.setattr("streamdetect.realtime.os.sched_setscheduler", refuse, raising=False)
    with pytest.raises(InputError, match=r"--realtime: this user may not .* rtprio"):
        claim_realtime()


def test_another_system_is_told_so(monkeypatch):
    monkeypatch.setattr("streamdetect.realtime.sys.platform", "darwin")
    with pytest.raises(InputError, match="only Linux"):
        claim_realtime()
