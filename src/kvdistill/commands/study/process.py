"""A run in a process of its own, begun without the seconds that importing torch and transformers takes.

Where no accelerator is at hand, runs are forks of a server process that has imported everything once. A
process that has used CUDA cannot be forked, so with an accelerator each run is a new interpreter.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol, runtime_checkable

PRELOADED = ("kvdistill.cli", "kvdistill.commands.evaluate", "kvdistill.run.train")
"""What the server imports."""


@runtime_checkable
class Process(Protocol):
    """What is needed of a process."""

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        ...

    def wait(self, timeout: float) -> int | None:
        """Wait for its end, at most ``timeout`` seconds; None if it still runs."""
        ...

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


def start(arguments: Sequence[str], console: Path, threads: int) -> Process:
    """Begin ``kvdistill ARGUMENTS`` in a session of its own, so that Ctrl-C reaches this program alone.

    Args:
        arguments: the command line behind ``kvdistill``.
        console: the file that its output is appended to.
        threads: its CPU threads.

    Returns:
        The process.
    """
    variables = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if _can_fork():
        return _Forked(arguments, console, variables)
    return _Spawned(arguments, console, variables)


def _can_fork() -> bool:
    import torch

    return sys.platform == "linux" and not torch.accelerator.is_available()


class _Forked:
    """A fork of the server."""

    def __init__(self, arguments: Sequence[str], console: Path, variables: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        environment = os.environ | variables
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(list(arguments), str(console.absolute()), environment, str(Path.cwd()))
        )
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class _Spawned:
    """A new interpreter."""

    def __init__(self, arguments: Sequence[str], console: Path, variables: dict[str, str]) -> None:
        with console.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kvdistill", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | variables,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run(arguments: list[str], console: str, environment: dict[str, str], folder: str) -> None:
    """The fork's work: the same as a new interpreter's, in the caller's folder and environment."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with Path(os.devnull).open("rb") as nothing, Path(console).open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    import torch

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv = ["kvdistill", *arguments]
    runpy.run_module("kvdistill", run_name="__main__")
