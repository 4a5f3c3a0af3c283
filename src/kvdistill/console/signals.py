"""Signals that end a program: raised as an exception, or kept until a training step is complete."""

import os
import signal
import time
from collections.abc import Callable, Iterator
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
def signals_raised(while_importing: Callable[[int], object] | None = None) -> Iterator[None]:
    """Inside the block, a signal of ``ENDING`` or Ctrl-C raises ``Interrupted``, once; ignored signals
    (nohup) stay ignored.

    Args:
        while_importing: called with the signal while a module is being imported, where an exception may pass
            through code in C++ and abort the process; it ends the process itself.
    """
    raising = _Raise(while_importing)
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {signum: signal.getsignal(signum) for signum in (*ENDING, signal.SIGINT)}
    before = {signum: handler for signum, handler in before.items() if handler in defaults}
    for signum in before:
        signal.signal(signum, raising)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@dataclass(frozen=True)
class _Raise:
    """The handler: raises, and from then on lets nothing disturb the exit but another Ctrl-C."""

    while_importing: Callable[[int], object] | None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        if self.while_importing is not None and is_importing(frame):
            self.while_importing(signum)
        raised = time.monotonic()

        def again(signum: int, frame: FrameType | None) -> None:
            if time.monotonic() - raised > REPEATED:
                raise Interrupted(signum)

        signal.signal(signal.SIGINT, again)
        raise Interrupted(signum)


def is_importing(frame: FrameType | None) -> bool:
    """Whether a frame, or one that called it, is importing a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


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
    mine = {signum: handler for signum in ENDING if isinstance(handler := signal.getsignal(signum), _Raise)}
    for signum in mine:
        signal.signal(signum, kept.keep)
    try:
        yield kept
    finally:
        for signum, handler in mine.items():
            signal.signal(signum, handler)
    if kept.signum:
        raise Interrupted(kept.signum)
