"""Exit codes: errors that a user can act on, and signals, become one sentence on stderr and a code."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator

from kvdistill.console.messages import explain_os_error, printable
from kvdistill.console.signals import Interrupted, signals_raised

MEMORY = (
    "lower --training.batch_size (and raise gradient_accumulation_steps), or set "
    "--training.gradient_checkpointing true"
)
"""The advice after an out-of-memory error."""
CPU_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")
"""Texts of the RuntimeErrors of torch's CPU allocators."""
PEER_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
    "NCCL",
    "gloo",
)
"""Texts of the RuntimeErrors of collectives when another process has ended."""


def exit_code(program: str, work: Callable[[], int | None], resume: str = "") -> int:
    """Run a command and turn what ended it into an exit code.

    Args:
        program: the name in front of an error message.
        work: the command; errors that only a programmer can act on keep their traceback.
        resume: the sentence that tells the user how to resume an interrupted command.

    Returns:
        The code of ``work``; 2 for an error that the user can correct, 1 where another process of the run
        has ended, 128 + n for signal n.
    """

    def leave(signum: int) -> None:
        code = _interrupted(program, signum, Interrupted(signum), resume)
        sys.stderr.flush()
        os._exit(code)

    with signals_raised(while_importing=leave):
        try:
            return work() or 0
        except (Exception, KeyboardInterrupt) as error:
            signum = _signal_of(error)
            if signum is not None:
                return _left(_interrupted(program, signum, error, resume))
            code, sentence = _explained(error)
            if sentence is None:
                raise
            print(printable(f"{program}: {sentence}"), file=sys.stderr)
            return _left(code)


def _left(code: int) -> int:
    """Return the code, or exit at once where a process group is open.

    Threads of the group may abort the interpreter's normal shutdown, which would change the code.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _interrupted(program: str, signum: int, error: BaseException, resume: str) -> int:
    """Print the message and return 128 + signal; of several processes only the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        cause = _signal_name(signum)
        if isinstance(error, Interrupted) and str(error):
            cause += f"; {error}"
        print(f"{program}: interrupted by {cause}. {resume}".rstrip(), file=sys.stderr)
    return 128 + signum


def _signal_name(signum: int) -> str:
    if signum == signal.SIGINT:
        return "Ctrl-C"
    return signal.Signals(signum).name


def _signal_of(error: BaseException) -> int | None:
    """The signal behind an error, also where an interrupted import turned it into an ImportError."""
    for link in _chain(error):
        if isinstance(link, Interrupted):
            return link.signum
        if isinstance(link, KeyboardInterrupt):
            return signal.SIGINT
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained(error: BaseException) -> tuple[int, str | None]:
    """Exit code and sentence; no sentence for an error that only a programmer can act on."""
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_out_of_memory(error)):
        return 2, f"out of memory: {MEMORY}. {_first_line(text)}".rstrip()
    if is_peer_gone(error):
        return (
            1,
            "another process of this run has ended, so this one stops too. What it printed tells why. "
            f"({_first_line(text)})",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 2, _disk_full(error)
    if isinstance(error, OSError):
        return 2, explain_os_error(error)
    if isinstance(error, ValueError | FloatingPointError):
        return 2, text
    return 1, None


def _disk_full(error: OSError) -> str:
    where = ""
    if error.filename is not None:
        where = f" for {error.filename}"
    return (
        f"there is no room on the disk{where}. Free some, then run the same command (a training run "
        "resumes with --resume)."
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU torch raises its own class; on a CPU only the message tells."""
    return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in CPU_MEMORY)


def is_peer_gone(error: BaseException) -> bool:
    """Whether a collective failed since another process of the run has ended."""
    is_collective = isinstance(error, RuntimeError) and any(words in str(error) for words in PEER_GONE)
    return is_collective and _is_distributed()


def _is_distributed() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
