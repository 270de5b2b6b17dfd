from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from streamdetect.decisions import Decisions
from streamdetect.settings import DecisionSettings
from streamdetect.stages.decision import DecisionStage, find_detections


@settings(max_examples=300, deadline=None)
@given(
    above=st.lists(st.booleans(), max_size=120),
    hop=st.integers(1, 20),
    dwell=st.integers(0, 100),
    refractory=st.integers(0, 300),
)
def test_detections_are_those_of_the_naive_rule(above, hop, dwell, refractory):
    samples = hop - 1 + hop * np.arange(len(above))
    indices, _ = find_detections(samples, np.array(above, dtype=bool), DecisionSettings(0.5, dwell, refractory))
    assert indices == naive.detections(samples.tolist(), above, dwell, refractory)


def decisions(probability, quality=None):
    n = len(probability)
    values = np.array(probability, dtype=np.float32)[:, None]
    quality = np.zeros(n, np.uint8) if quality is None else np.array(quality, np.uint8)
    return Decisions(("move",), np.arange(n) * 10, np.arange(n) * 0.02, quality, values, {})


def test_a_detection_is_stamped_at_the_decision_that_completes_the_dwell():
    stage = DecisionStage((DecisionSettings(0.5, 20, 0),))
    (detection,) = stage.process(decisions([0.1, 0.6, 0.7, 0.8, 0.2])).detections
    assert (detection.event, detection.sample, detection.time) == ("move", 30, 0.06)
    assert detection.probability == np.float32(0.8)


def test_an_invalid_decision_ends_the_run():
    stage = DecisionStage((DecisionSettings(0.5, 20, 0),))
    assert stage.process(decisions([0.9, 0.9, np.nan, 0.9, 0.9], [0, 0, 2, 0, 0])).detections == ()


def test_none_during_the_refractory_time_and_a_full_dwell_after_it():
    stage = DecisionStage((DecisionSettings(0.5, 10, 50),))
    found = stage.process(decisions([0.9] * 12)).detections
    assert [detection.sample for detection in found] == [10, 70]


def test_a_probability_equal_to_the_threshold_counts():
    threshold = float(np.float32(0.7))
    stage = DecisionStage((DecisionSettings(threshold, 0, 0),))
    assert len(stage.process(decisions([0.7])).detections) == 1
