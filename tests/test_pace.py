from __future__ import annotations

import numpy as np
import pytest

from streamdetect.pace import Pace


def test_delay_and_load_of_the_last_ten_seconds_and_of_all():
    pace = Pace(now=100.0)
    for index in range(400):
        delay_s = None if index % 2 else (0.001 if index < 200 else 0.003)
        pace.note(done=100.0 + 0.1 * (index + 1), taken_s=0.02, delay_s=delay_s)
    delay_s, load = pace.measure(now=140.0)
    assert delay_s == pytest.approx({"median": 0.003, "p99": 0.003})
    assert load == pytest.approx(0.2, abs=0.01)
    assert pace.measure_all() == pytest.approx({"median": 0.002, "p99": 0.003})
    assert pace.measure(now=200.0) == ({"median": None, "p99": None}, 0.0)


def test_a_session_that_has_just_begun_has_no_load_beyond_one_core():
    pace = Pace(now=100.0)
    pace.note(done=100.5, taken_s=0.5, delay_s=0.5)
    assert pace.measure(now=100.01)[1] == 1.0


def test_of_a_long_session_the_latest_count():
    pace = Pace(now=0.0)
    for index in range(150_000):
        pace.note(done=0.1 * index, taken_s=0.0, delay_s=0.1 if index < 60_000 else 0.2)
    assert pace.measure_all() == pytest.approx({"median": 0.2, "p99": 0.2})
    assert len(pace._delays) == 100_000
    assert np.percentile(pace._delays, 5) == pytest.approx(0.1)
