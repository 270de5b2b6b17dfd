from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from streamdetect.calibration.cues import Cue
from streamdetect.cli.cue_screen import CueScreen, big_text

MOVE, REST = Cue("movement", 0.0, 3.0), Cue("rest", 3.0, 2.0)


def show(*, terminal, sound=True, size=(80, 24)):
    """Run through a countdown and two cues, and return what was written."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=terminal, width=size[0], height=size[1], soft_wrap=True, _environ={"TERM": "xterm"}
    )
    now = [100.0]
    with CueScreen(7, sound=sound, console=console, clock=lambda: now[0]) as screen:
        for remaining_s in (2.0, 1.99, 1.4, 0.9, 0.1):
            screen.count_down("Sit still.", remaining_s)
        now[0] += 2.5
        screen.show(REST, 0)
        screen.show(MOVE, 1)
    return written.getvalue()


def frames(written):
    """Split what was written to a terminal into screens, without its colours."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in written.split("\x1b[H")[2:]]


def test_in_a_pipe_each_cue_is_a_plain_line():
    assert show(terminal=False).splitlines() == [
        "Sit still.",
        "The first cue comes in 2 s.",
        "    2.5 s  rest  (0 of 7)",
        "    2.5 s  movement  (1 of 7)",
    ]


def test_on_a_terminal_cues_fill_the_screen_which_comes_back_afterwards():
    written = show(terminal=True)
    assert written.startswith("\x1b[?1049h")
    assert written.count("\x1b[?1049l") == written.count("\x1b[?25h") == 1
    two, one, rest, move = frames(written)
    for frame in (two, one, rest, move):
        assert frame.count("\n") == 23  # more would scroll
        assert {len(line) for line in frame.rstrip("\a").split("\n")} == {80}
    for line in big_text("movement", 80):
        assert line in move
    for line in big_text("rest", 80):
        assert line in rest
    assert "Sit still." in two
    assert "1 of 7" in move


def test_rest_and_movement_ring_alike():
    written = show(terminal=True)
    _, rest, move = written.rsplit("\a", 2)
    assert written.count("\a") == 2
    assert big_text("rest", 80)[0] in rest
    assert big_text("movement", 80)[0] in move
    assert "\a" not in show(terminal=True, sound=False)
    assert "\a" not in show(terminal=False)


def test_rest_and_movement_have_colours_of_their_own():
    rest, move = show(terminal=True, sound=False).split("\x1b[H")[-2:]
    background = re.compile(r"\x1b\[37;(4[0-7]|48;5;\d+)m")
    assert background.search(rest).group(1) != background.search(move).group(1)


@pytest.mark.parametrize("word", ["a-name-too-long-for-the-line", "größe"])
def test_what_cannot_be_drawn_is_written(word):
    assert big_text(word, 40) == [word.upper()]


def test_letters_differ_from_each_other():
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ "
    drawn = {tuple(big_text(letter, 20)) for letter in letters}
    assert len(drawn) >= len(letters) - 1  # O and 0 may be alike
