"""Termination signals: raised as an exception, or deferred until a training step is complete."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals of schedulers and closing terminals. Ctrl-C (SIGINT) is never deferred: it stops at once."""
REPEATED = 3.0
"""Seconds in which a second Ctrl-C counts as the first: the terminal and torchrun both deliver it."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the program; as a KeyboardInterrupt it passes ``except Exception``."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def signals_raised() -> Iterator[None]:
    """Raise ``Interrupted`` at the first signal of ``ENDING`` or Ctrl-C inside the block.

    Signals with a handler of their own, or ignored ones (nohup), are left as they are.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {signum: signal.getsignal(signum) for signum in (*ENDING, signal.SIGINT)}
    before = {signum: handler for signum, handler in before.items() if handler in defaults}
    for signum in before:
        signal.signal(signum, _raise)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _raise(signum: int, frame: FrameType | None) -> None:
    """Raise, and ignore further signals during the clean-up, except a later Ctrl-C."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raised = time.monotonic()

    def again(signum: int, frame: FrameType | None) -> None:
        if time.monotonic() - raised > REPEATED:
            raise Interrupted(signum)

    signal.signal(signal.SIGINT, again)
    raise Interrupted(signum)


@dataclass
class Kept:
    """The last deferred signal."""

    signum: int = 0
    """0 where none came."""
    process: int = field(default_factory=os.getpid)
    """Id of the process that defers signals; its forked workers do not."""

    def keep(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: remember the signal.

        A forked data-loader worker ignores the first signal, since its parent ends it; the second ends it.
        """
        if os.getpid() == self.process:
            self.signum = signum
        else:
            signal.signal(signum, signal.SIG_DFL)


@contextmanager
def signals_kept() -> Iterator[Kept]:
    """Defer signals of ``ENDING`` inside the block, so that training can save a checkpoint first.

    Only signals that ``signals_raised`` handles are deferred.

    Yields:
        The last deferred signal, to be polled.

    Raises:
        Interrupted: at the end of the block, if a signal came and there was no error.
    """
    kept = Kept()
    mine = [signum for signum in ENDING if signal.getsignal(signum) is _raise]
    for signum in mine:
        signal.signal(signum, kept.keep)
    try:
        yield kept
    finally:
        for signum in mine:
            signal.signal(signum, _raise)
    if kept.signum:
        raise Interrupted(kept.signum)
