from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from streamdetect.errors import InputError
from streamdetect.sources.fault_plan import (
    ClockJump,
    Drift,
    Duplicates,
    FaultPlan,
    Flat,
    Gap,
    LineNoise,
    Muscle,
    NotANumber,
    Railed,
    Restart,
    Steps,
    end_of,
    plan_to_toml,
    read_plan,
)
from streamdetect.sources.random_faults import random_plan

CH_NAMES = ("C3", "Cz", "C4", "Pz")
ALL_KINDS = FaultPlan(
    seed=12,
    faults=(
        Gap(onset=1.0, duration=2.0),
        Duplicates(onset=4.0, duration=0.5),
        ClockJump(onset=5.0, jump_s=-3600.0),
        Restart(onset=6.0, duration=1.5, source_id="new", ch_names=("C4", "µ\"'\n[Cz]")),
        Drift(onset=0.0, duration=60.0, ppm=-80.0),
        NotANumber(onset=8.0, duration=1e-5, channels=("C3",)),
        Flat(onset=8.0, duration=1.0),
        Railed(onset=8.0, duration=1.0, level_uv=-500.0),
        LineNoise(onset=8.0, duration=1.0, amplitude_uv=30.0, frequency=60.0),
        Muscle(onset=8.0, duration=1.0, amplitude_uv=30.0),
        Steps(onset=8.0, duration=1.0, amplitude_uv=300.0, interval_s=0.25),
    ),
)


def read(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return read_plan(path)


def test_a_plan_survives_its_file(tmp_path):
    assert read(tmp_path, plan_to_toml(ALL_KINDS)) == ALL_KINDS
    assert read(tmp_path, "") == FaultPlan()


def test_the_example_in_the_manual_is_a_plan_and_its_table_has_every_kind(tmp_path):
    manual = (Path(__file__).parents[2] / "docs" / "FAULTS.md").read_text(encoding="utf-8")
    plan = read(tmp_path, manual.split("```toml\n")[1].split("```")[0])
    assert [fault.kind for fault in plan.faults] == ["gap", "line-noise"]
    rows = [line.split("|") for line in manual.splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] == [fault.kind for fault in ALL_KINDS.faults]
    for row, fault in zip(rows, ALL_KINDS.faults, strict=True):
        for field in set(type(fault).model_fields) - {"kind", "onset", "duration"}:
            assert f"`{field}`" in row[3], (fault.kind, field)


def test_integers_are_numbers_too(tmp_path):
    plan = read(tmp_path, 'faults = [{kind = "gap", onset = 1, duration = 2}]')
    assert plan.faults == (Gap(onset=1.0, duration=2.0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = -1", "seed: Input should be greater than or equal to 0, found -1"),
        ("speed = 2", "speed: Extra inputs are not permitted"),
        ("seed = ", "is not valid TOML"),
        ("faults = 3", "faults: Input should be a valid tuple, found 3"),
        ('[[faults]]\nonset = 1.0\nkind = "fire"', "fault 1: Input tag 'fire' found using 'kind' does not match"),
        ("[[faults]]\nonset = 1.0", "fault 1: Unable to extract tag using discriminator 'kind'"),
        ('[[faults]]\nonset = 1.0\nkind = "gap"', "fault 1 gap duration: Field required"),
        ('[[faults]]\nonset = 1.0\nduration = 0\nkind = "gap"', "fault 1 gap duration: .* greater than 0, found 0"),
        ('[[faults]]\nonset = nan\nduration = 1\nkind = "gap"', "fault 1 gap onset: .* found nan"),
        ('[[faults]]\nonset = 1\nduration = 1\nkind = "gap"\nchannels = ["C3"]', "fault 1 gap channels: Extra inputs"),
        ('[[faults]]\nonset = 1\nduration = 1\nkind = "flat"\nchannels = "C3"', "fault 1 flat channels: .* found 'C3'"),
        (
            plan_to_toml(ALL_KINDS).replace("onset = 4.0", "onset = 2.5"),
            "duplicates at 2.5 s begins before gap at 1 s is over; expected it at 3 s or later",
        ),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line_that_says_where(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "plan.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_plan(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not valid TOML"):
        read_plan(tmp_path / "plan.toml")


def test_random_plans_are_valid_repeatable_and_hold_every_kind():
    plans = [random_plan(seed, 60.0, CH_NAMES) for seed in range(300)]
    assert plans == [random_plan(seed, 60.0, CH_NAMES) for seed in range(300)]
    for plan in plans:
        assert FaultPlan.model_validate(tomllib.loads(plan_to_toml(plan))) == plan
        assert plan.faults
        assert all(fault.onset >= 5.0 and end_of(fault) <= 45.0 for fault in plan.faults)
    assert {fault.kind for plan in plans for fault in plan.faults} == {fault.kind for fault in ALL_KINDS.faults}


def test_a_random_plan_needs_half_a_minute():
    assert random_plan(0, 30.0, ("C3",)).seed == 0
    with pytest.raises(InputError, match="expected 30 s or more"):
        random_plan(0, 29.9, CH_NAMES)
