from __future__ import annotations

import csv

import numpy as np
import pytest

from streamdetect.chunk import Quality
from streamdetect.decisions import Decisions
from streamdetect.errors import InputError
from streamdetect.sinks.decisions_csv import DecisionsFile


def make_decisions(n=1000, n_events=2, *, invalid=()):
    rng = np.random.default_rng(0)
    quality = np.zeros(n, dtype=np.uint8)
    quality[list(invalid)] = Quality.WARM_UP
    probability = rng.random((n, n_events)).astype(np.float32)
    probability[list(invalid)] = np.nan
    names = ("Hand,Start", *(f"event{index}" for index in range(1, n_events)))
    return Decisions(names, np.arange(n) * 10, 1234.567 + np.arange(n) * 0.02, quality, probability, {})


def test_rows_read_back_bit_for_bit(tmp_path):
    decisions = make_decisions(invalid=[0, 1, 500])
    with DecisionsFile(tmp_path / "d.csv", decisions.event_names) as file:
        file.write(decisions)
    with (tmp_path / "d.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert list(rows[0]) == ["time", "valid", "reason", "p_Hand,Start", "p_event1", "sample"]
    assert [float(row["time"]) for row in rows] == decisions.times.tolist()
    assert [int(row["sample"]) for row in rows] == decisions.samples.tolist()
    assert [row["valid"] for row in rows] == ["true" if valid else "false" for valid in decisions.valid]
    assert {row["reason"] for row in rows if row["valid"] == "false"} == {"warm-up"}
    assert {row["reason"] for row in rows if row["valid"] == "true"} == {""}
    read = np.array([[float(row[f"p_{name}"] or "nan") for name in decisions.event_names] for row in rows])
    assert np.array_equal(read.astype(np.float32), decisions.probability, equal_nan=True)


def test_blocks_of_any_size_give_the_same_file(tmp_path):
    whole = make_decisions(20, invalid=[3])
    with DecisionsFile(tmp_path / "whole.csv", whole.event_names) as file:
        file.write(whole)
    with DecisionsFile(tmp_path / "parts.csv", whole.event_names) as file:
        for start, stop in [(0, 0), (0, 1), (1, 4), (4, 20)]:
            part = slice(start, stop)
            file.write(
                Decisions(
                    whole.event_names,
                    *(whole.samples[part], whole.times[part], whole.quality[part], whole.probability[part]),
                    members={},
                )
            )
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("older")
    file = DecisionsFile(path, ["a"])
    file.write(make_decisions(5, 1))
    assert path.read_text() == "older"
    file.close()
    file.close()
    assert len(path.read_text().splitlines()) == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.csv"]


def write_and_fail(path, error):
    with DecisionsFile(path, ["a"]) as file:
        file.write(make_decisions(5, 1))
        raise error


def test_an_interruption_leaves_what_was_written_in_the_partial_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "d.csv", KeyboardInterrupt)
    assert not (tmp_path / "d.csv").exists()
    assert len((tmp_path / "d.csv.partial").read_text().splitlines()) == 6


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / "d.csv", ZeroDivisionError)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        DecisionsFile(tmp_path / "none" / "d.csv", ["a"])
    with pytest.raises(InputError, match="folder"):
        DecisionsFile(tmp_path, ["a"])
