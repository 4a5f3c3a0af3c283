"""Signals that raise, and signals that are kept."""

import os
import signal
import time

import pytest

from kvdistill.console.signals import ENDING, Interrupted, signals_kept, signals_raised


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(0.01)


@pytest.mark.parametrize("signum", [*ENDING, signal.SIGINT])
def test_a_signal_raises_once_and_handlers_come_back(signum: int) -> None:
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGINT)}
    with pytest.raises(Interrupted) as raised, signals_raised():
        try:
            send(signum)
        finally:
            send(signum)  # the same signal through another way, while the first one is on its way out
    assert raised.value.signum == signum
    assert isinstance(raised.value, KeyboardInterrupt)
    assert raised.value.__context__ is None, "the second one did not raise"
    assert {number: signal.getsignal(number) for number in before} == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raised():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_is_kept_until_the_block_ends() -> None:
    done = []
    with signals_raised():
        with pytest.raises(Interrupted) as raised, signals_kept() as kept:
            send(signal.SIGUSR1)
            assert kept.signum == signal.SIGUSR1
            done.append("the step")
        assert (raised.value.signum, done) == (signal.SIGUSR1, ["the step"])
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


def test_an_error_in_the_block_is_not_hidden_by_the_signal() -> None:
    with signals_raised(), pytest.raises(ValueError, match="wrong"), signals_kept():
        send(signal.SIGTERM)
        raise ValueError("wrong")


def test_ctrl_c_is_not_kept() -> None:
    with signals_raised(), pytest.raises(Interrupted), signals_kept():
        send(signal.SIGINT)


def test_a_program_with_its_own_handler_keeps_it() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("own"))
    try:
        with signals_kept() as kept:
            send(signal.SIGTERM)
        assert (seen, kept.signum) == (["own"], 0)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_leaves_the_first_signal_to_its_parent() -> None:
    with signals_raised(), signals_kept():
        child = os.fork()
        if child == 0:
            try:
                send(signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
