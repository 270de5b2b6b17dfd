from __future__ import annotations

import numpy as np
import pytest

from recordings import recording_of
from streamdetect.cli.evaluate import choose_events
from streamdetect.events import Annotation
from streamdetect.sources.ingredients import EVENT_NAMES


def recording_with(folder, names):
    notes = [Annotation(float(onset), 0.0, name) for onset, name in enumerate(names)]
    return recording_of(folder, "one", np.zeros((4, 1000)), notes)


def test_grasp_and_lift_gets_the_union_of_its_events_too(tmp_path):
    events = choose_events(None, [recording_with(tmp_path, EVENT_NAMES)])
    assert [event.name for event in events] == [*sorted(EVENT_NAMES), "movement"]
    assert set(events[-1].descriptions) == set(EVENT_NAMES)


@pytest.mark.parametrize("names", [EVENT_NAMES[:5], ("T0", "T1", "T2")])
def test_other_recordings_get_their_events_and_no_more(tmp_path, names):
    events = choose_events(None, [recording_with(tmp_path, names)])
    assert [event.name for event in events] == sorted(names)
