from __future__ import annotations

import numpy as np
import pytest

from models import make_model
from streamdetect.bench.latency import _match, measure_latency
from streamdetect.errors import StreamError


def test_each_decision_is_timed_from_the_push_that_completed_it():
    pushed = np.array([[10.0, 1.0], [10.02, 1.02], [10.04, 1.04]])
    seen = np.array([[10.001, 1.0], [10.023, 1.015], [10.024, 1.0201], [10.05, 1.04]])
    assert _match(pushed, seen, 0.001, 0.5) == pytest.approx([1.0, 3.0, 4.0, 10.0])
    assert _match(pushed, seen, 0.001, 1.03) == pytest.approx([10.0])
    with pytest.raises(StreamError):
        _match(pushed, seen, 0.001, 9.0)


@pytest.mark.usefixtures("lsl")
def test_a_measurement_takes_a_whole_session(tmp_path):
    figures = measure_latency(make_model(tmp_path / "tiny.onnx"), seconds=1.0, settle_s=0.1)
    assert figures["n"] == pytest.approx(50, abs=3)
    assert 0.0 < figures["transport_median_ms"] < figures["median_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["median_ms"] < 200.0
