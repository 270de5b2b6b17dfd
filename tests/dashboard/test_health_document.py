from __future__ import annotations

import json

import pytest

from fake_lab import make_health
from streamdetect.dashboard.health_document import parse_health
from streamdetect.errors import InputError


def test_what_a_monitor_sends_is_understood():
    document = make_health()
    health = parse_health(json.dumps(document, allow_nan=False))
    assert health.model_dump() == document
    assert list(health.bad_channels) == ["Fz"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"state": "asleep"}, "state"),
        ({"n_lost": 1.5}, "n_lost"),
        ({"delay_ms": {"median": 1.0}}, "delay_ms.p99"),
    ],
)
def test_what_is_not_understood_is_refused_by_the_name_of_its_field(change, field):
    with pytest.raises(InputError, match=f"^health document: {field}: .*one version$"):
        parse_health(json.dumps(make_health() | change))


def test_a_field_of_a_later_version_is_passed_over():
    assert parse_health(json.dumps(make_health() | {"surprise": 1})) == parse_health(json.dumps(make_health()))


def test_what_is_no_json_is_refused():
    with pytest.raises(InputError, match="health document: "):
        parse_health("{")
