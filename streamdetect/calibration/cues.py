"""When a cued session asks for rest and for movement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdetect.errors import InputError

REST = "rest"  # the cue between movements; every other cue asks for a movement


@dataclass(frozen=True, slots=True)
class Cue:
    """Something that the person is asked to do.

    Parameters
    ----------
    name : str
        ``rest``, or the event that is to be detected.
    onset : float
        When it is due, in s after the first cue.
    duration : float
        How long it holds, in s.
    """

    name: str
    onset: float
    duration: float

    @property
    def end(self) -> float:
        """When it ends, in s after the first cue."""
        return self.onset + self.duration


def draw_cues(
    event: str, *, n_trials: int, movement_s: float, rest_s: tuple[float, float], seed: int
) -> tuple[Cue, ...]:
    """Draw the cues of a session: rest and movement in turn, rest first and last.

    Parameters
    ----------
    event : str
        Name of the cue to move; anything but ``rest``, without ``=``.
    n_trials : int
        Number of movements, at least 1.
    movement_s : float
        Length of each in s, above 0.
    rest_s : tuple of float
        Shortest and longest rest in s; each is drawn evenly from between.
    seed : int
        The same seed gives the same cues.

    Returns
    -------
    tuple of Cue
        Each begins where the one before it ends; ``2 * n_trials + 1`` of them.

    Raises
    ------
    InputError
        The event's name or a number makes no sense.

    Notes
    -----
    Where rests have one length, the time since the start tells movement from rest as well as any brain. A random length
    takes some trials to blur that, so the first rest is longer by up to one whole trial: the clock knows nothing from
    the first movement on.

    Examples
    --------
    >>> cues = draw_cues("movement", n_trials=2, movement_s=3.0, rest_s=(2.0, 4.0), seed=0)
    >>> [cue.name for cue in cues]
    ['rest', 'movement', 'rest', 'movement', 'rest']
    """
    shortest, longest = rest_s
    if event.strip().casefold() in ("", REST) or "=" in event:
        raise InputError(
            f"--event {event!r}: expected one name for the movement, other than rest, which has a cue of its own"
        )
    if n_trials < 1:
        raise InputError(f"--trials {n_trials}: expected at least 1")
    if not movement_s > 0:
        raise InputError(f"--movement-s {movement_s:g}: expected a length above 0 s")
    if not 0 < shortest < longest < np.inf:
        raise InputError(
            f"--rest-s {shortest:g},{longest:g}: expected LOW,HIGH in s, both above 0 and HIGH above LOW; rests of one "
            "length would let the clock tell when to move"
        )
    rng = np.random.default_rng(seed)
    rests = rng.uniform(shortest, longest, n_trials + 1)
    rests[0] += rng.uniform(0.0, movement_s + (shortest + longest) / 2)
    cues, onset = [], 0.0
    for number, rest in enumerate(rests.tolist()):
        cues.append(Cue(REST, onset, rest))
        if number < n_trials:
            cues.append(Cue(event, onset + rest, movement_s))
        onset += rest + movement_s
    return tuple(cues)
