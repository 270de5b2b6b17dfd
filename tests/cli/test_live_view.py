from __future__ import annotations

import io
import logging
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from streamdetect.cli.live_view import format_statuses, render
from streamdetect.cli.status_line import PLAIN_INTERVAL_S, StatusLine
from streamdetect.decisions import Detection
from streamdetect.status import EventStatus, Status

GOOD = Status(
    state="running",
    name="hands",
    stream="BrainAmp",
    source_id="",
    time=1.0,
    seconds=3723.4,
    sfreq=500.0,
    effective_sfreq=499.98,
    jitter_s=0.0012,
    n_samples=1000,
    n_lost=0,
    n_repeated=0,
    n_gaps=0,
    n_restarts=0,
    n_clock_jumps=0,
    seconds_since_last_sample=0.01,
    delay_s={"median": 0.00123, "p99": 0.004},
    load=0.034,
    n_decisions=500,
    n_invalid=3,
    reason="",
    events={"HandStart": EventStatus(0.5, 0.62, 12), "LiftOff": EventStatus(0.3, 0.1, 1)},
    detections=((Detection("HandStart", 5, 1.0, 0.9), 12.34), (Detection("LiftOff", 3, 1.0, 0.9), 15.0)),
    channels=(SimpleNamespace(name="Fz", reasons=(), repaired=False),),
    warnings=(),
)


def change(**fields):
    values = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    return Status(**(values | fields))


BAD_CHANNEL = SimpleNamespace(name="Cz", reasons=("flat", "line-noise"), repaired=True)
INVALID = change(
    reason="warm-up", events={"HandStart": EventStatus(0.5, math.nan, 0)}, detections=(), delay_s={"median": None}
)
WAITING = change(state="waiting", seconds_since_last_sample=5.2)
TROUBLED = change(
    n_lost=37, n_gaps=2, channels=(BAD_CHANNEL,), warnings=("journal: disk full", "timing: rate 480.00 Hz")
)


def draw(*statuses, width=100):
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(render(statuses))
    return console.file.getvalue()


def line_of(text, start):
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line


def test_a_session_is_drawn_in_full():
    text = draw(GOOD)
    assert text.startswith("● running  hands on BrainAmp  1:02:03  500 Hz (measured 499.98)")
    hand = line_of(text, "HandStart")
    assert (hand.count("█"), hand.count("░"), hand.count("│")) == (18, 11, 1)
    assert hand.index("│") - hand.index("█") == 15
    assert "0.62  threshold 0.50  12 detections" in hand
    assert "1 detection " in line_of(text, "LiftOff")
    assert "last: HandStart 12.3 s ago   LiftOff 15.0 s ago" in text
    assert "● ok  0 samples lost, 0 gaps, 0 clock jumps, jitter 1.2 ms" in line_of(text, "signal")
    assert line_of(text, "channels").split() == ["channels", "●", "ok"]
    assert "lag 1.2 ms, load 3 % of a core, 500 decisions, 3 invalid" in line_of(text, "speed")
    assert "warning" not in text


def test_trouble_is_named():
    text = draw(TROUBLED)
    assert "● timing  37 samples lost, 2 gaps" in line_of(text, "signal")
    assert "● 1 bad   Cz flat+line-noise (repaired)" in line_of(text, "channels")
    assert "warning: journal: disk full" in text
    assert "37 lost" in line_of(draw(change(n_lost=37, n_gaps=2)), "signal")
    assert draw(WAITING).startswith("● waiting 5 s")
    assert "● none" in line_of(draw(WAITING), "signal")


def test_an_invalid_decision_has_a_reason_and_no_bar():
    text = draw(INVALID)
    assert "█" not in line_of(text, "HandStart")
    assert "no decision: warm-up" in text
    assert "lag –" in text


def test_a_picture_fits_a_terminal_of_80_columns():
    for statuses in ((GOOD,), (TROUBLED,), (GOOD, WAITING, INVALID)):
        assert max(map(len, draw(*statuses, width=80).splitlines())) <= 80


def test_several_sessions_are_a_table_with_those_in_trouble_first():
    many = [change(name=f"s{index}") for index in range(30)]
    many[25] = change(name="s25", state="waiting", seconds_since_last_sample=3.0)
    many[27] = change(name="s27", warnings=("recorder: gone",))
    lines = draw(*many).splitlines()
    assert lines[0].split() == ["session", "stream", "state", "event", "found", "signal", "channels", "lag", "load"]
    assert [line.split()[0] for line in lines[1:4]] == ["s25", "s27", "s0"]
    assert "HandStart 0.62" in lines[3]
    assert "… and 10 more" in lines
    assert "s27: recorder: gone" in lines
    assert lines[-1] == "30 streams, 1 waiting, load 102 % of a core"


def test_plain_lines():
    assert format_statuses([GOOD]) == (
        "3723 s  500.0 Hz  HandStart 0.62  LiftOff 0.10  last HandStart 12.3 s ago  lag 1.2 ms  load 3 %"
    )
    assert format_statuses([INVALID]) == "3723 s  500.0 Hz  no decision: warm-up  lag –  load 3 %"
    assert format_statuses(
        [change(warnings=("journal: disk full",), state="waiting", seconds_since_last_sample=5.2)]
    ) == ("3723 s  no sample for 5 s, waiting  journal: disk full")
    assert "37 lost  Cz flat+line-noise (repaired)" in format_statuses([TROUBLED])
    assert format_statuses([GOOD, change(name="feet", state="ended")]).splitlines()[1] == "feet: 3723 s  ended"


def make_line(is_terminal):
    now = [0.0]
    console = Console(file=io.StringIO(), width=60, force_terminal=is_terminal, color_system=None)
    return StatusLine(console, clock=lambda: now[0]), console.file, now


def test_a_pipe_gets_a_line_now_and_then_and_no_picture():
    line, file, now = make_line(is_terminal=False)
    with line:
        for second in range(11):
            now[0] = float(second)
            line.show(lambda: f"at {now[0]:g}", lambda: pytest.fail("a picture in a pipe"))
    assert file.getvalue().splitlines() == ["at 0", f"at {PLAIN_INTERVAL_S:g}", f"at {2 * PLAIN_INTERVAL_S:g}"]


def test_a_terminal_gets_the_picture_and_warnings_go_above_it(capsys):
    line, file, _ = make_line(is_terminal=True)
    handler = logging.StreamHandler()
    before = handler.stream
    logging.getLogger().addHandler(handler)
    try:
        with line:
            line.show(lambda: pytest.fail("text on a terminal"), lambda: "a picture")
            logging.getLogger("streamdetect").warning("disk full")
        assert handler.stream is before
    finally:
        logging.getLogger().removeHandler(handler)
    assert "a picture" in file.getvalue()
    assert "disk full" in file.getvalue()
    assert "disk full" not in capsys.readouterr().err
