from __future__ import annotations

import contextlib
import math
import resource
from dataclasses import replace

import numpy as np
import pytest

from streamdetect.chunk import Quality, StreamInfo
from streamdetect.decisions import Decisions, Detection
from streamdetect.errors import InputError
from streamdetect.sinks.journal import Journal, read_journal

INFO = StreamInfo(("C3", "Cz"), 500.0, "amp")


def make_decisions():
    probability = np.array([[0.1, 1 / 3], [np.nan, np.nan], [np.float32(1e-7), 1.0]], dtype=np.float32)
    return Decisions(
        event_names=("HandStart", "LiftOff"),
        samples=np.array([9, 19, 29]),
        times=1e5 + np.array([9, 19, 29]) / 500.0,
        quality=np.array([Quality.GOOD, Quality.LOST, Quality.GOOD], dtype=np.uint8),
        probability=probability,
        members={},
        detections=(Detection("LiftOff", 9, float(1e5 + 9 / 500), float(probability[0, 1])),),
    )


def write_all(journal):
    journal.session(
        model={"name": "tiny", "sha256": "0" * 64},
        stream=INFO,
        event_names=("HandStart", "LiftOff"),
        thresholds=(0.5, 0.25),
        started="2026-01-01T00:00:00.000+00:00",
    )
    journal.start(sample=0, time=1e5)
    journal.clock(time=1e5, time_correction=-1.5e-5)
    journal.write(make_decisions())
    journal.reset(sample=700, time=1e5 + 1.4, n_lost=670, restart=False)
    journal.end(reason="stopped", n_samples=30, delay_s={"median": None})


def test_what_was_written_is_read_back_bit_for_bit(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    write_all(journal)
    journal.close()
    records = list(read_journal(tmp_path / "a.jsonl"))
    assert [record["type"] for record in records] == [
        *("session", "start", "clock", "decision", "detection", "decision", "decision", "reset", "end")
    ]
    session = records[0]
    assert session["schema_version"] == 1
    assert session["ch_names"] == ["C3", "Cz"]
    assert session["thresholds"] == [0.5, 0.25]
    assert session["model"]["sha256"] == "0" * 64
    written = make_decisions()
    decisions = [record for record in records if record["type"] == "decision"]
    assert [record["time"] for record in decisions] == written.times.tolist()
    assert [record["sample"] for record in decisions] == [9, 19, 29]
    assert [record["valid"] for record in decisions] == [True, False, True]
    assert [record["reason"] for record in decisions] == ["", "lost", ""]
    read = np.array([[record["p_HandStart"], record["p_LiftOff"]] for record in decisions], dtype=float)
    assert np.array_equal(read.astype(np.float32), written.probability, equal_nan=True)
    assert records[4] == {
        **{"type": "detection", "event": "LiftOff", "sample": 9},
        **{"time": written.times[0], "probability": float(np.float32(1 / 3))},
    }
    assert records[-1] == {"type": "end", "reason": "stopped", "n_samples": 30, "delay_s": {"median": None}}


def test_each_write_is_on_the_disk_at_once(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.start(sample=0, time=1.0)
    assert len(list(read_journal(tmp_path / "a.jsonl"))) == 1
    journal.write(make_decisions())
    assert len(list(read_journal(tmp_path / "a.jsonl"))) == 5
    journal.close()


def test_a_truncated_last_line_is_left_out_wherever_it_was_cut(tmp_path):
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    write_all(journal)
    journal.close()
    whole = path.read_bytes()
    start_of_last = whole.rindex(b"\n", 0, -1) + 1
    for stop in range(start_of_last, len(whole) - 1):
        path.write_bytes(whole[:stop])
        assert len(list(read_journal(path))) == 8
    path.write_bytes(whole[:-1])  # only the end of the line is missing
    assert len(list(read_journal(path))) == 9


@pytest.mark.parametrize("line", [b"{broken}\n", b"[]\n", b'{"no": "type"}\n', b"1\n"])
def test_a_broken_line_in_the_middle_is_refused(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"type":"start"}\n' + line + b'{"type":"end"}\n')
    with pytest.raises(InputError, match="line 2"):
        list(read_journal(path))


def test_a_journal_is_not_overwritten_unless_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"type":"start"}\n')
    with pytest.raises(InputError, match="exists"):
        Journal(path)
    journal = Journal(path, overwrite=True)
    assert path.read_text() == '{"type":"start"}\n'  # not before there is something to write
    journal.end(reason="idle")
    journal.close()
    assert [record["type"] for record in read_journal(path)] == ["end"]


def test_a_journal_without_records_leaves_no_file(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.close()
    journal.close()
    assert not (tmp_path / "a.jsonl").exists()


def test_no_folder_and_no_file_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "none" / "a.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_journal(tmp_path / "none.jsonl"))


def test_numbers_that_json_does_not_know_never_get_in(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.start(sample=0, time=math.nan)
    with pytest.raises(ValueError, match="sample 9: its time is not a number"):
        journal.write(replace(make_decisions(), times=np.array([math.nan, 1.0, 2.0])))
    journal.close()
    assert not (tmp_path / "a.jsonl").exists()


def test_events_may_be_called_anything(tmp_path):
    names = ('100 % "grip"', "Ä\\%s")
    journal = Journal(tmp_path / "a.jsonl")
    journal.write(replace(make_decisions(), event_names=names, detections=()))
    journal.close()
    first, second, _ = read_journal(tmp_path / "a.jsonl")
    assert list(first) == ["type", "sample", "time", "valid", "reason", *(f"p_{name}" for name in names)]
    assert [second[f"p_{name}"] for name in names] == [None, None]


@contextlib.contextmanager
def disk_of(n_bytes):
    """Let no file of this process grow beyond a size, as if the disk were full; Python ignores the signal for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [0, 1, 40, 500])
def test_a_full_disk_is_survived_counted_and_told(tmp_path, room):
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    write_all(journal)
    whole = list(read_journal(path))
    assert journal.warning == ""
    with disk_of(path.stat().st_size + room):
        for _ in range(7):
            journal.write(make_decisions())
        journal.reset(sample=900, time=1e5 + 2, n_lost=100, restart=False)
        journal.channel(sample=901, time=1e5 + 2.1, name="Cz", reasons=("flat",), repaired=True)
        journal.clock(time=1e5 + 2, time_correction=0.0)
        during = list(read_journal(path))
        assert path.read_bytes().endswith(b"\n")
        assert during[: len(whole)] == whole
        n_fitting = len(during) - len(whole)
        assert n_fitting % 4 == 0  # a write is whole or not there
        n_lost = 7 * 4 + 1 - n_fitting
        assert journal.warning == f"{path}: disk full, {n_lost} records lost"
    journal.write(make_decisions())
    journal.end(reason="stopped")
    journal.close()
    after = list(read_journal(path))[len(during) :]
    assert [record["type"] for record in after] == [
        *("reset", "channel", "lost", "decision", "detection", "decision", "decision", "end")
    ]
    assert after[2] == {"type": "lost", "n_records": n_lost}
    assert journal.warning == f"{path}: {n_lost} records lost while it could not be written"


def test_a_disk_that_stays_full_ends_nothing_and_takes_no_more_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    with disk_of(300):
        write_all(journal)
        for sample in range(2000):
            journal.reset(sample=sample, time=1e5, n_lost=0, restart=True)
        assert len(journal._waiting) == 1000
        journal.end(reason="stopped")
        journal.close()
    assert [record["type"] for record in read_journal(path)] in ([], ["session"])
    assert "disk full" in journal.warning


def test_a_device_that_takes_nothing():
    journal = Journal("/dev/full", overwrite=True)
    write_all(journal)
    journal.close()
    assert "records lost" in journal.warning
