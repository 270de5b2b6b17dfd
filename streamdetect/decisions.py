"""What a detector says: a decision each hop, a detection now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Quality


@dataclass(frozen=True, slots=True)
class Detection:
    """An event was detected: its threshold was held for the dwell time.

    Parameters
    ----------
    event : str
        Name of the event.
    sample : int
        Index of the decision's last sample since the start of the stream.
    time : float
        Time of that sample in s, in the source's clock.
    probability : float
        Probability of the decision that completed the dwell.
    """

    event: str
    sample: int
    time: float
    probability: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, stamped at its window's last sample.

    Parameters
    ----------
    sample, time
        As for `Detection`.
    valid : bool
        False where the signal it looks back on cannot be trusted.
    reason : str
        Why not; empty for a valid decision.
    probability : dict of str to float
        Probability an event, 0 to 1; NaN where invalid.
    detected : tuple of str
        Events that this decision detects: it completes their dwell time. Mostly empty.
    """

    sample: int
    time: float
    valid: bool
    reason: str
    probability: dict[str, float]
    detected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Consecutive decisions as arrays, and the detections among them.

    Parameters
    ----------
    event_names : tuple of str
        Names of the events, in the order of the columns.
    samples : ndarray of int64, shape (n,)
        Index of each decision's last sample since the start of the stream, lost samples counted.
    times : ndarray of float64, shape (n,)
        Time of that sample in s, in the source's clock.
    quality : ndarray of uint8, shape (n,)
        A `Quality` each; 0 is valid.
    probability : ndarray of float32, shape (n, n_events)
        Probability of each event; NaN where invalid.
    members : dict of str to ndarray of float32, shape (n, n_events)
        The same of each member of the vote: ``lda``, ``rf``, ``lr``.
    detections : tuple of Detection
        In the order of time.
    """

    event_names: tuple[str, ...]
    samples: NDArray[np.int64]
    times: NDArray[np.float64]
    quality: NDArray[np.uint8]
    probability: NDArray[np.float32]
    members: dict[str, NDArray[np.float32]]
    detections: tuple[Detection, ...] = ()

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether each decision can be trusted, shape (n,)."""
        return self.quality == Quality.GOOD

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Decision]:
        detected: dict[int, tuple[str, ...]] = {}
        for one in self.detections:
            detected[one.sample] = (*detected.get(one.sample, ()), one.event)
        for sample, time, quality, row in zip(
            self.samples.tolist(), self.times.tolist(), self.quality.tolist(), self.probability.tolist(), strict=True
        ):
            yield Decision(
                sample=sample,
                time=time,
                valid=quality == 0,
                reason=Quality(quality).reason,
                probability=dict(zip(self.event_names, row, strict=True)),
                detected=detected.get(sample, ()),
            )


def join(blocks: Sequence[Decisions]) -> Decisions:
    """Join consecutive blocks of decisions of one detector.

    Parameters
    ----------
    blocks : sequence of Decisions
        At least one, in the order of time.

    Returns
    -------
    Decisions
    """
    first = blocks[0]
    return Decisions(
        event_names=first.event_names,
        samples=np.concatenate([block.samples for block in blocks]),
        times=np.concatenate([block.times for block in blocks]),
        quality=np.concatenate([block.quality for block in blocks]),
        probability=np.concatenate([block.probability for block in blocks]),
        members={name: np.concatenate([block.members[name] for block in blocks]) for name in first.members},
        detections=tuple(detection for block in blocks for detection in block.detections),
    )
