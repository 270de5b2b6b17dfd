"""Cues for a person to follow: large text and a bell on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.align import Align
from rich.console import Console
from rich.control import Control
from rich.text import Text

from streamdetect.calibration.cues import REST, Cue

# Three dots wide and five high, a row an octal digit: capitals and digits are enough for the name of an event.
_LETTERS = {
    **{"A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644", "G": "34553"},
    **{"H": "55755", "I": "72227", "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "65555"},
    **{"O": "25552", "P": "65644", "Q": "25531", "R": "65655", "S": "34216", "T": "72222", "U": "55557"},
    **{"V": "55552", "W": "55775", "X": "55255", "Y": "55222", "Z": "71247", "-": "00700", "_": "00007", " ": "00000"},
    **{"0": "75557", "1": "26227", "2": "61247", "3": "61216", "4": "55711", "5": "74616", "6": "34752"},
    **{"7": "71222", "8": "25252", "9": "25316"},
}
_N_ROWS, _N_COLUMNS = 5, 3
_DOT = "██"  # about as wide as high


def big_text(word: str, width: int) -> list[str]:
    r"""Draw a word in letters five lines high.

    Parameters
    ----------
    word : str
        The word; small letters are drawn as capitals.
    width : int
        Characters that fit in a line.

    Returns
    -------
    list of str
        The lines; the word alone where it does not fit, or has letters that are not known here.

    Examples
    --------
    >>> print("\n".join(big_text("hi", 20)))
    ██  ██  ██████
    ██  ██    ██
    ██████    ██
    ██  ██    ██
    ██  ██  ██████
    """
    letters = [_LETTERS.get(letter) for letter in word.upper()]
    if None in letters or len(letters) * (_N_COLUMNS + 1) * len(_DOT) - len(_DOT) > width:
        return [word.upper()]
    rows = []
    for row in range(_N_ROWS):
        dots = "0".join(f"{int(letter[row], 8):0{_N_COLUMNS}b}" for letter in letters if letter is not None)
        rows.append("".join(_DOT if dot == "1" else " " * len(_DOT) for dot in dots).rstrip())
    return rows


class CueScreen:
    """Shows instructions, a countdown and cues on standard error; a context manager.

    Parameters
    ----------
    n_trials : int
        Movements in the session.
    sound : bool
        Ring the terminal's bell.
    console : rich.console.Console or None
        Where to show them; None for standard error.
    clock : callable
        Local clock in s, for the times in plain lines.

    Notes
    -----
    Rest and movement ring alike and fill the screen alike: a sound or a flash evokes a potential, which must not tell
    them apart. Where it is no terminal, no bell rings.
    """

    def __init__(
        self,
        n_trials: int,
        *,
        sound: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._n_trials = n_trials
        self._sound = sound
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._clock = clock
        self._started = clock()
        self._shown_s = math.inf
        self._screen = self._console.screen(hide_cursor=True)

    def __enter__(self) -> CueScreen:
        self._started = self._clock()
        if self._console.is_terminal:
            self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._screen.__exit__(kind, error, trace)

    def count_down(self, instructions: str, remaining_s: float) -> None:
        """Show the instructions and the seconds that are left; once a second, in plain lines once."""
        seconds = math.ceil(remaining_s)
        if seconds >= self._shown_s:
            return
        is_first = math.isinf(self._shown_s)
        self._shown_s = seconds
        if self._console.is_terminal:
            self._fill([*instructions.splitlines(), "", *self._draw(str(seconds))], "default")
        elif is_first:
            self._console.print(f"{instructions}\nThe first cue comes in {seconds} s.", markup=False)

    def show(self, cue: Cue, trial: int) -> None:
        """Show a cue.

        Parameters
        ----------
        cue : Cue
            What to do.
        trial : int
            Movements so far, this one included.
        """
        progress = f"{trial} of {self._n_trials}"
        if self._console.is_terminal:
            style = "white on blue" if cue.name == REST else "white on dark_green"
            if self._sound:
                self._console.bell()
            self._fill([*self._draw(cue.name), "", progress], style)
        else:
            self._console.print(f"{self._clock() - self._started:7.1f} s  {cue.name}  ({progress})", markup=False)

    def _draw(self, word: str) -> list[str]:
        lines = big_text(word, self._console.width)
        return [line.ljust(max(map(len, lines))) for line in lines]

    def _fill(self, lines: list[str], style: str) -> None:
        width = max(map(len, lines))
        block = Text("\n".join(line.center(width) for line in lines))
        self._console.control(Control.home())
        self._screen.update(Align.center(block, vertical="middle", height=self._console.height), style=style)
