"""Events in recordings, and the label that they give to a moment.

A *point event* has no duration and is labelled 150 ms to each side of its onset; an event with a duration is labelled
from its onset to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import StreamInfo
from streamdetect.errors import EventError
from streamdetect.settings import EventSettings

MAX_DEFAULT_EVENTS = 10  # more annotations than that are rarely all events that someone wants to detect
POINT_HALF_WIDTH_S = 0.15  # Grasp-and-Lift challenge: an event is labelled ±150 ms around it
_TIME_TOLERANCE_S = 1e-9  # far below one sample, far above the rounding of a time in seconds


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something that a recording says happened.

    Parameters
    ----------
    onset : float
        Start in seconds after the recording's first sample; for a point event the event itself.
    duration : float
        Length in s; 0 for a point event.
    description : str
        The recording's own word for it, such as ``T1`` or ``HandStart``.
    """

    onset: float
    duration: float
    description: str


def select_annotations(annotations: Iterable[Annotation], event: EventSettings) -> tuple[Annotation, ...]:
    """Return the annotations that count as an event, by onset.

    Parameters
    ----------
    annotations : iterable of Annotation
        All annotations of a recording.
    event : EventSettings
        The event and the descriptions that count as it.

    Returns
    -------
    tuple of Annotation
    """
    chosen = (note for note in annotations if note.description in event.descriptions)
    return tuple(sorted(chosen, key=lambda note: note.onset))


def label_times(times: NDArray[np.float64], events: Sequence[Annotation]) -> NDArray[np.bool_]:
    """Say for each time whether an event is going on.

    Parameters
    ----------
    times : ndarray, shape (n,), float64
        Ascending times in s after the recording's first sample.
    events : sequence of Annotation
        The event's occurrences.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where |t - onset| ≤ 0.15 s for a point event, onset ≤ t < onset + duration for one with a duration.

    Examples
    --------
    >>> label_times(np.array([0.8, 0.85, 1.15, 1.2]), [Annotation(1.0, 0.0, "HandStart")])
    array([False,  True,  True, False])
    >>> label_times(np.array([0.9, 1.0, 2.9, 3.0]), [Annotation(1.0, 2.0, "T1")])
    array([False,  True,  True, False])
    """
    labels = np.zeros(len(times), dtype=bool)
    for event in events:
        if event.duration > 0:
            first = np.searchsorted(times, event.onset - _TIME_TOLERANCE_S, side="left")
            stop = np.searchsorted(times, event.onset + event.duration - _TIME_TOLERANCE_S, side="left")
        else:
            first = np.searchsorted(times, event.onset - POINT_HALF_WIDTH_S - _TIME_TOLERANCE_S, side="left")
            stop = np.searchsorted(times, event.onset + POINT_HALF_WIDTH_S + _TIME_TOLERANCE_S, side="right")
        labels[first:stop] = True
    return labels


class AnnotatedRecording(Protocol):
    """What `check_events` needs of a recording."""

    @property
    def info(self) -> StreamInfo:
        """Its name."""

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """What happened."""


def check_events(
    recordings: Sequence[AnnotatedRecording], events: Sequence[EventSettings], *, all_descriptions: bool = True
) -> None:
    """Refuse recordings without events, and events that no recording holds.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one.
    events : sequence of EventSettings
        What to detect.
    all_descriptions : bool
        Ask for every annotation that an event is made of, as where a person has just typed them; otherwise for one.

    Raises
    ------
    EventError
        A recording has no annotations, or what was asked for is in none of the recordings.
    """
    silent = [recording.info.name for recording in recordings if not recording.annotations]
    if silent:
        raise EventError(f"{', '.join(silent)}: no events: training and scoring need annotations; leave it out")
    counts = Counter(note.description for recording in recordings for note in recording.annotations)
    listed = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
    for event in events:
        absent = [description for description in event.descriptions if description not in counts]
        if absent and (all_descriptions or len(absent) == len(event.descriptions)):
            raise EventError(
                f"event {event.name}: {', '.join(absent)} is in no recording; they hold {listed}; see --event"
            )


def default_events(recordings: Sequence[AnnotatedRecording]) -> tuple[EventSettings, ...]:
    """Take every event of the recordings; of Grasp-and-Lift their union, too.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one.

    Returns
    -------
    tuple of EventSettings
        By name.

    Raises
    ------
    EventError
        They hold no event, or too many to take all.
    """
    from streamdetect.sources.ingredients import EVENT_NAMES

    names = sorted({note.description for recording in recordings for note in recording.annotations})
    if not names:
        raise EventError(
            f"{', '.join(one.info.name for one in recordings)}: no events: training and scoring need annotations"
        )
    if len(names) > MAX_DEFAULT_EVENTS:
        raise EventError(f"--event: choose from the {len(names)} events of the recordings: {', '.join(names)}")
    events = tuple(EventSettings(name, (name,)) for name in names)
    if set(names) == set(EVENT_NAMES):
        events += (EventSettings("movement", tuple(names)),)  # any of them
    return events
