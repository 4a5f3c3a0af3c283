"""Signals that end a program: raised as an exception, or kept until a training step is complete."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""What schedulers and closing terminals send. Ctrl-C is SIGINT, which is never kept: it stops at once."""
REPEATED = 3.0
"""Seconds in which a second Ctrl-C is taken for the first one, which a terminal and torchrun both deliver."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the program. As with Ctrl-C, code that handles errors lets it pass."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def signals_raised() -> Iterator[None]:
    """Inside the block, a signal of ``ENDING`` or Ctrl-C raises ``Interrupted``, once; ignored signals
    (nohup) stay ignored.
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
    """Raise, and from then on let nothing disturb the way out but another Ctrl-C."""
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
    """The last signal that came while signals were kept; 0 where none came."""

    signum: int = 0
    process: int = field(default_factory=os.getpid)

    def keep(self, signum: int, frame: FrameType | None) -> None:
        """Remember the signal. A worker of a loader leaves the first one to its parent, which ends its
        workers.
        """
        if os.getpid() == self.process:
            self.signum = signum
        else:
            signal.signal(signum, signal.SIG_DFL)


@contextmanager
def signals_kept() -> Iterator[Kept]:
    """Inside ``signals_raised``: signals of ``ENDING`` are kept for whoever can stop in good order.
    Elsewhere: no change.

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
