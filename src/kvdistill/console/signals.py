"""Termination signals: raised as an exception, or deferred until a training step is complete."""

import os
import signal
import time
from collections.abc import Callable, Iterator
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
def signals_raised(while_importing: Callable[[int], object] | None = None) -> Iterator[None]:
    """Raise ``Interrupted`` at the first signal of ``ENDING`` or Ctrl-C inside the block.

    Signals with a handler of their own, or ignored ones (nohup), are left as they are.

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
    """The handler: raises, and ignores further signals during the clean-up, except a later Ctrl-C."""

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
