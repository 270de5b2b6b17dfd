from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from streamdetect.calibration.cues import REST, draw_cues
from streamdetect.errors import InputError

OPTIONS = {"n_trials": 30, "movement_s": 3.0, "rest_s": (2.0, 4.0)}


def test_rest_and_movement_take_turns_without_a_gap():
    cues = draw_cues("grasp", seed=3, **OPTIONS)
    assert [cue.name for cue in cues] == [REST, "grasp"] * 30 + [REST]
    assert cues[0].onset == 0.0
    assert [cue.onset for cue in cues[1:]] == pytest.approx([cue.end for cue in cues[:-1]])
    assert {cue.duration for cue in cues if cue.name == "grasp"} == {3.0}
    rests = np.array([cue.duration for cue in cues if cue.name == REST])
    assert ((rests[1:] >= 2.0) & (rests[1:] <= 4.0)).all()
    assert rests[1:].std() == pytest.approx(2.0 / np.sqrt(12), rel=0.3)  # of an even distribution
    assert 2.0 <= rests[0] <= 4.0 + 6.0


def test_a_seed_makes_the_schedule():
    assert draw_cues("a", seed=1, **OPTIONS) == draw_cues("a", seed=1, **OPTIONS)
    assert draw_cues("a", seed=1, **OPTIONS) != draw_cues("a", seed=2, **OPTIONS)


def test_the_clock_tells_nothing():
    times = np.arange(0.0, 170.0, 0.1)
    moving = np.zeros((200, len(times)), dtype=bool)
    for seed, row in enumerate(moving):
        for cue in draw_cues("m", seed=seed, **OPTIONS):
            if cue.name == "m":
                row[(times >= cue.onset) & (times < cue.end)] = True
    learnt = moving[:100].mean(axis=0)  # the best that the time since the start can know
    aucs = [roc_auc_score(row, learnt) for row in moving[100:]]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("event", "changes", "named"),
    [
        ("rest", {}, "--event 'rest'"),
        (" ", {}, "--event ' '"),
        ("m=T1", {}, "--event 'm=T1'"),
        ("m", {"n_trials": 0}, "--trials 0"),
        ("m", {"movement_s": 0.0}, "--movement-s 0"),
        ("m", {"movement_s": float("nan")}, "--movement-s nan"),
        ("m", {"rest_s": (3.0, 3.0)}, "--rest-s 3,3"),
        ("m", {"rest_s": (4.0, 2.0)}, "--rest-s 4,2"),
        ("m", {"rest_s": (0.0, 2.0)}, "--rest-s 0,2"),
        ("m", {"rest_s": (1.0, float("inf"))}, "--rest-s 1,inf"),
    ],
)
def test_what_makes_no_session_is_refused(event, changes, named):
    with pytest.raises(InputError, match=named):
        draw_cues(event, seed=0, **{**OPTIONS, **changes})
