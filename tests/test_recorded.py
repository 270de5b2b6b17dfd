"""A session that was journalled and recorded is decided again: with all that goes wrong in either."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import numpy as np
import pytest

from models import make_model
from streamdetect.chunk import StreamInfo
from streamdetect.decisions import join
from streamdetect.detector import Detector
from streamdetect.errors import InputError
from streamdetect.journalled import read_session
from streamdetect.monitor import monitor
from streamdetect.offline import compare_with_journal
from streamdetect.recorded import SessionReplay
from streamdetect.settings import DecisionSettings
from streamdetect.sinks.journal import Journal
from streamdetect.sources.gaps import GapMarker
from streamdetect.sources.xdf_sent import SentSamples

SFREQ = 250.0
INFO = StreamInfo(("C3", "Cz", "C4"), SFREQ, "amp")
N = 6000
START = 5e4


class Received:
    """A live source that has received these samples, in these blocks."""

    info = INFO
    unit = None
    n_repeated = 0
    time_correction = 0.25
    seconds_since_last_sample = 0.0

    def __init__(self, data, stamps, stop, cuts):
        self._blocks = list(zip(np.split(data, cuts, axis=1), np.split(stamps, cuts), strict=True))
        self._gaps = GapMarker(SFREQ)
        self._stop = stop

    def read(self, timeout_s):
        if not self._blocks:
            self._stop.set()
            return []
        return self._gaps.mark(*self._blocks.pop(0))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    decisions = (DecisionSettings(0.3, 6, 60), DecisionSettings(0.25, 3, 30))  # often
    return Detector.load(make_model(path, n_events=2, hop_samples=3, decisions=decisions))


@pytest.fixture
def live(detector, tmp_path):
    """Return a function that runs a session on what was received, and returns its journal."""

    def run(data, stamps, seed=0):
        path = tmp_path / "live.jsonl"
        stop = threading.Event()
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(stamps), len(stamps) // 7))
        with closing(Journal(path)) as journal:
            monitor(Received(data, stamps, stop, cuts), detector, journal=journal, stop=stop)
        return path

    return run


def make_stream(n=N):
    """Return samples in volts and their regular time stamps."""
    return np.random.default_rng(1).standard_normal((3, n)) * 2e-5, START + np.arange(n) / SFREQ


def record(data, stamps, order=(0, 1, 2)):
    """Return a recording of these samples, its channels in another order."""
    info = StreamInfo(tuple(INFO.ch_names[row] for row in order), SFREQ, "amp")
    data = data[list(order)]

    def between(start, stop, picks):
        assert 0 <= start < stop <= data.shape[1]
        return data[picks, start:stop]

    return SentSamples(info, stamps, between)


def compare(detector, sent, path):
    session = read_session(path)
    assert session.was_on(sent.stamps)
    replay = SessionReplay(sent, session, detector)
    decisions = join([*replay.run(), detector.flush()])
    return replay, compare_with_journal(decisions, path, replay.incomparable)


def assert_equal(found):
    replay, comparison = found
    assert (comparison.n_different, comparison.first) == (0, "")
    assert comparison.n_compared == comparison.n_decisions > 500
    assert replay.incomparable == []
    assert np.isnan(replay.lacking_from_s)


def test_it_starts_at_the_sessions_first_sample_and_ends_with_its_last(detector, live):
    data, stamps = make_stream()
    journal = live(data[:, 700:5000], stamps[700:5000])
    assert_equal(compare(detector, record(data, stamps, order=(2, 0, 1)), journal))


def test_gaps_restarts_and_repeated_samples_are_met_again(detector, live):
    data, stamps = make_stream()
    lost = np.r_[1000:1001, 1500:1520, 2000:3000, 3600:3601]
    order = np.delete(np.arange(N), lost)
    order = np.insert(order, 4000, order[3800:4000])
    stamps[5000:] -= 30.0
    assert_equal(compare(detector, record(data[:, order], stamps[order]), live(data[:, order], stamps[order])))


def test_what_the_session_lost_and_the_recording_has_is_left_out(detector, live):
    data, stamps = make_stream()
    seen = np.delete(np.arange(N), np.r_[1000:1007, 2500:4000])
    assert_equal(compare(detector, record(data, stamps), live(data[:, seen], stamps[seen])))


def test_a_time_stamp_that_labrecorder_took_for_the_next_is_known_again(detector, live):
    """After a deduced time stamp it expects the next sample one sample late: of a single lost one it sees nothing."""
    data, stamps = make_stream()
    seen = np.delete(np.arange(N), 3001)
    stored = stamps[seen]
    stored[3001] = stored[3000] + 1 / SFREQ
    assert_equal(compare(detector, record(data[:, seen], stored), live(data[:, seen], stamps[seen])))


def test_jittered_time_stamps_of_a_driver_that_stamps_blocks(detector, live):
    data, stamps = make_stream()
    stamps += np.repeat(np.random.default_rng(2).uniform(0, 0.03, N // 8), 8)
    stamps[3000:] += 0.7
    seen = np.delete(np.arange(N), np.r_[4000:4100])
    assert_equal(compare(detector, record(data, stamps), live(data[:, seen], stamps[seen])))


@pytest.mark.parametrize("lacking", [(1500, 1800), (2300, 2500), (2499, 2501), (2500, 2900), (2500, 3700)])
def test_what_the_recording_lacks_is_told_and_what_depends_on_it_left_out(detector, live, lacking):
    """The session has a gap of 2 s before sample 2500, and one before 4500: there it begins anew."""
    data, stamps = make_stream()
    stamps[2500:] += 2.0
    stamps[4500:] += 2.0
    kept = np.delete(np.arange(N), np.r_[slice(*lacking)])
    journal = live(data, stamps)
    replay, comparison = compare(detector, record(data[:, kept], stamps[kept]), journal)
    assert comparison.n_different == 0
    assert replay.lacking_from_s == pytest.approx(stamps[lacking[0]] - START, abs=0.01)
    first = lacking[0] + 500 * (lacking[0] >= 2500)
    stop = 3000 if lacking[1] <= 2500 else 5500
    assert replay.incomparable == [(first, stop)]
    samples = read_session(journal).decisions.samples
    assert comparison.n_decisions - comparison.n_compared == ((samples >= first) & (samples < stop)).sum() > 20


def test_a_recording_that_ended_before_the_session(detector, live):
    data, stamps = make_stream()
    replay, comparison = compare(detector, record(data[:, :4000], stamps[:4000]), live(data, stamps))
    assert comparison.n_different == 0
    assert replay.incomparable == [(4000, np.inf)]
    assert comparison.n_compared == pytest.approx(4000 / 3, abs=2)


def test_a_difference_is_seen(detector, live):
    data, stamps = make_stream()
    journal = live(data, stamps)
    other = data.copy()
    other[1, 3000] += 1e-3
    _, comparison = compare(detector, record(other, stamps), journal)
    assert comparison.n_different > 1
    assert comparison.first.startswith(("sample 3000", "sample 3001", "sample 3002"))


def test_another_recording_is_told_apart(live):
    data, stamps = make_stream()
    assert not read_session(live(data, stamps)).was_on(stamps + 1e-4)


def test_a_journal_cut_short_anywhere_is_compared_up_to_its_last_whole_record(detector, live, tmp_path):
    data, stamps = make_stream(3000)
    stamps[2000:] += 1.0
    whole = live(data, stamps).read_bytes()
    cut = tmp_path / "cut.jsonl"
    ends = [place for place in range(len(whole)) if whole[place : place + 1] == b"\n"]
    rng = np.random.default_rng(3)
    places = [*rng.integers(ends[5], len(whole), 12), *(ends[k] + 1 for k in rng.integers(5, len(ends), 6))]
    detections = [whole.index(b'{"type":"detection"', place) for place in (0, len(whole) // 2)]
    for stop in (*places, *detections):  # the latter: after a decision, before the detection that it completes
        cut.write_bytes(whole[:stop])
        replay, comparison = compare(detector, record(data, stamps), cut)
        assert (comparison.n_different, replay.incomparable) == (0, []), (stop, comparison.first)
        assert comparison.n_compared == comparison.n_decisions


def test_records_that_a_full_disk_swallowed_are_no_difference(detector, live, tmp_path):
    data, stamps = make_stream()
    stamps[3000:] += 1.0
    records = [json.loads(line) for line in live(data, stamps).read_text().splitlines()]
    holed = tmp_path / "holed.jsonl"
    gone = [each for each in records if each["type"] in ("decision", "detection") and 2900 < each["sample"] < 4000]
    late = [each for each in records if each["type"] == "reset"]
    assert len(late) == 1
    kept = []
    for each in records:
        if each in gone or each in late:
            continue
        if each.get("sample", 0) >= 4000 and late:  # as the journal writes it once there is room again
            kept += [*late, {"type": "lost", "n_records": len(gone)}]
            late = []
        kept.append(each)
    holed.write_text("".join(json.dumps(each) + "\n" for each in kept))
    _, comparison = compare(detector, record(data, stamps), holed)
    assert comparison.n_different == 0
    assert comparison.n_compared == comparison.n_decisions < comparison.n_replayed
    ((first, last),) = read_session(holed).holes
    assert first <= gone[0]["sample"] < gone[-1]["sample"] <= last


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"type":"session","events":["a"]}\n')
    with pytest.raises(InputError, match="no decisions"):
        read_session(path)
    path.write_text('{"type":"decision","sample":1}\n')
    with pytest.raises(InputError, match="not one of a streamdetect journal"):
        read_session(path)
