"""A live session once more, from its journal and from what was recorded of its stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import Chunk
from streamdetect.decisions import Decisions
from streamdetect.detector import Detector
from streamdetect.journalled import JournalledSession, Stretch
from streamdetect.settings import to_samples
from streamdetect.sources.channels import pick_channels
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.xdf_sent import SentSamples

_BLOCK_S = 10.0  # read at once
# Behind a single missing sample LabRecorder may store the time stamp that the missing one had: after a time stamp that
# it leaves out, it expects the next one a sample late.
_EARLY_SAMPLES = (0.5, 1.5)


class SessionReplay:
    """Runs a detector over what a session saw of its stream: the same samples, from the first, with the same gaps.

    Parameters
    ----------
    sent : SentSamples
        What was recorded of the stream.
    session : JournalledSession
        The session.
    detector : Detector
        Reset before the first sample.

    Attributes
    ----------
    lacking_from_s : float
        Where the recording first lacks samples that the session saw, in s after its first sample; NaN where it has them
        all. Known once `run` has ended.
    incomparable : list of (int, float)
        First sample, and the one after the last, of each span whose decisions depend on lacking samples.

    Raises
    ------
    InputError
        The recording has another sampling rate than the model.
    ChannelError
        The recording lacks channels of the model.

    Notes
    -----
    Samples that the session lost and the recording has are left out. Where the recording lacks samples, decisions are
    comparable again from the next gap that resets filters and windows; never again with a normaliser, which survives
    gaps.
    """

    def __init__(self, sent: SentSamples, session: JournalledSession, detector: Detector) -> None:
        detector.check(sent.info)
        self.lacking_from_s = math.nan
        self.incomparable: list[tuple[int, float]] = []
        self._sent = sent
        self._session = session
        self._detector = detector
        self._picks = pick_channels(sent.info.ch_names, detector.ch_names, where=sent.info.name)
        self._stamps = sent.stamps.copy()
        self._order = np.argsort(self._stamps, kind="stable")
        self._sorted = self._stamps[self._order]

    def run(self) -> Iterator[Decisions]:
        """Yield the decisions, block by block; times in s after the session's first sample."""
        self._detector.reset()
        metadata = self._detector.model.metadata
        marker = GapMarker(self._sent.info.sfreq)
        first_time = self._session.stretches[0].time
        at, n_next, is_broken = 0, 0, False
        for number, stretch in enumerate(self._session.stretches):
            start = self._find(stretch.time, at, is_first=number == 0)
            is_fresh = stretch.restart or stretch.n_lost > metadata.health.max_gap_samples
            if start is None or (is_broken and (metadata.features.normaliser is not None or not is_fresh)):
                self._note_lacking(stretch, 0, is_broken)
                is_broken = True
                continue
            n_lost, restart = stretch.n_lost, stretch.restart
            if is_broken:
                self.incomparable[-1] = (self.incomparable[-1][0], stretch.sample)
                n_lost, restart, is_broken = stretch.sample - n_next, True, False
                marker.reset()
            limit = self._limit(number, start, stretch.n_samples)
            at, n_kept = start, 0
            while n_kept < stretch.n_samples and not is_broken:
                n = min(stretch.n_samples - n_kept, limit - at, to_samples(_BLOCK_S, self._sent.info.sfreq))
                if n == 0:
                    is_broken = True
                    break
                for chunk in marker.mark(self._sent.between(at, at + n, self._picks), self._stamps[at : at + n]):
                    if n_kept == 0:
                        chunk = replace(chunk, n_lost=n_lost, restart=restart)
                    elif chunk.n_lost or chunk.restart:  # the session saw no gap here
                        is_broken = True
                        break
                    yield self._decide(chunk, first_time)
                    n_kept += chunk.n_times
                at += n
            n_next = stretch.sample + n_kept
            if is_broken:
                at = start + n_kept
                self._note_lacking(stretch, n_kept, False)

    def _decide(self, chunk: Chunk, first_time: float) -> Decisions:
        decisions = self._detector.process(chunk)
        return replace(
            decisions,
            times=decisions.times - first_time,
            detections=tuple(replace(each, time=each.time - first_time) for each in decisions.detections),
        )

    def _places(self, time: float) -> NDArray[np.intp]:
        """Return where a time stamp is, in the order of the recording."""
        first, last = np.searchsorted(self._sorted, time, "left"), np.searchsorted(self._sorted, time, "right")
        return np.sort(self._order[first:last])

    def _find(self, time: float, at: int, *, is_first: bool) -> int | None:
        """Return the first place from ``at`` on where a sample with this time stamp is."""
        places = self._places(time)
        places = places[places >= at]
        if len(places):
            return int(places[0])
        if not is_first and at < len(self._stamps):
            early = (time - self._stamps[at]) * self._sent.info.sfreq
            if _EARLY_SAMPLES[0] < early < _EARLY_SAMPLES[1]:
                self._stamps[at] = time
                return at
        return None

    def _limit(self, number: int, start: int, n_samples: int) -> int:
        """Return where the next stretch begins, if it begins too early: there the recording lacks samples."""
        if number + 1 < len(self._session.stretches):
            places = self._places(self._session.stretches[number + 1].time)
            if len(places) and places[-1] < start + n_samples and places[-1] > start:
                return int(places[-1])
        return len(self._stamps)

    def _note_lacking(self, stretch: Stretch, n_kept: int, is_broken: bool) -> None:
        if is_broken:
            return
        self.incomparable.append((stretch.sample + n_kept, math.inf))
        if math.isnan(self.lacking_from_s):
            first = self._session.stretches[0]
            self.lacking_from_s = stretch.time - first.time + n_kept / self._sent.info.sfreq
