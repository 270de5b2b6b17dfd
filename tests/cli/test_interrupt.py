from __future__ import annotations

import signal

import pytest

from streamdetect.cli.interrupt import stop_on_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)
pytestmark = pytest.mark.usefixtures("interruptible")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_wish_that_may_be_granted_later(number):
    with stop_on_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()


@pytest.mark.parametrize("number", SIGNALS)
def test_it_interrupts_where_nothing_can_be_lost(number):
    with stop_on_signal() as stop:
        with pytest.raises(KeyboardInterrupt), stop.interrupting():
            signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt), stop.interrupting():
            pytest.fail("it began although the user had stopped it")


def test_a_second_ctrl_c_interrupts_anywhere_and_a_second_sigterm_does_not():
    with stop_on_signal():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signal():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
