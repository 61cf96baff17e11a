"""Which signals end a command that trains, and which do not."""

from __future__ import annotations

import signal

import pytest

from gankit.cli.interrupts import stop_on_signal


class Work:
    """Count how often it is stopped."""

    stops = 0

    def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_terminal_that_closes_ends_work_once_and_aborts_nothing(first):
    work = Work()
    before = signal.getsignal(signal.SIGHUP)
    with stop_on_signal(work, is_quiet=True) as received:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert received == [first]
    assert work.stops == 1
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGINT, "Ctrl-C again to abort"),
        (signal.SIGTERM, "the signal again to abort"),
        (signal.SIGHUP, "Ctrl-C or SIGTERM aborts"),
    ],
)
def test_the_message_names_what_aborts(number, says, capsys):
    with stop_on_signal(Work()):
        signal.raise_signal(number)
    assert capsys.readouterr().err == f"\nstopping after this step; {says}\n"


def test_after_a_terminal_has_closed_another_signal_aborts():
    with stop_on_signal(Work(), is_quiet=True):
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_under_nohup_a_terminal_may_close():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal(Work(), is_quiet=True) as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
