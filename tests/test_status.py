"""What other programs rely on: the health document, and what docs/LIVE.md says of it."""

from __future__ import annotations

import re

import pytest

from conftest import CHECKOUT
from streamdetect.status import EventStatus, Status, health_document

GUIDE = (CHECKOUT / "docs" / "LIVE.md").read_text(encoding="utf-8")


@pytest.fixture
def document():
    status = Status(
        state="running",
        name="hands",
        stream="amp",
        source_id="amp-7",
        time=float("inf"),
        seconds=1.0,
        sfreq=500.0,
        effective_sfreq=float("nan"),
        jitter_s=None,
        n_samples=500,
        n_lost=0,
        n_repeated=0,
        n_gaps=0,
        n_restarts=0,
        n_clock_jumps=0,
        seconds_since_last_sample=0.0,
        delay_s={"median": None, "p99": None},
        load=0.0,
        n_decisions=0,
        n_invalid=0,
        reason="",
        events={"HandStart": EventStatus(0.5, 0.1, 0)},
        detections=(),
        channels=(),
        warnings=(),
    )
    return health_document(status)


def test_what_is_no_number_is_null(document):
    assert (document["time"], document["effective_sfreq"], document["jitter_ms"]) == (None, None, None)


def test_the_guide_explains_every_field_and_no_other(document):
    table = GUIDE.split("## The health document")[1].split("\n## ")[0]
    explained = [name for line in table.splitlines() if line.startswith("| `") for name in fields_of(line)]
    assert sorted(explained) == sorted(document)
    assert f"| `schema_version` | {document['schema_version']} |" in table


def fields_of(line):
    return re.findall(r"`(\w+)`", line.split(" | ")[0])


def test_the_guides_python_can_be_run():
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "docs/LIVE.md", "exec")
