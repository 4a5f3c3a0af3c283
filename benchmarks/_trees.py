"""A checkout of the project, and what is run with its code."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


class RunError(Exception):
    """A command ended with an error."""


@dataclass(frozen=True)
class Tree:
    """A checkout, and the folder that its processes work in."""

    code: Path
    work: Path

    def run(self, *words: str) -> str:
        """Run Python with the tree's package and return what it printed.

        Raises:
            RunError: if it ends with an error; with the last line of its output.
        """
        with self._start(words, subprocess.PIPE) as process:
            output, errors = process.communicate()
        if process.returncode:
            last = (errors.strip() or output.strip() or "no output").splitlines()[-1]
            raise RunError(f"{' '.join(words[:3])} ended with {process.returncode}: {last}")
        return output

    def train(self, output: str, flags: Sequence[str]) -> None:
        """Train into a folder inside ``work``."""
        self.run(*self._training(output, flags))

    def train_until_killed(self, output: str, flags: Sequence[str], checkpoints: int = 1) -> None:
        """Train, and kill the process with SIGKILL once there are so many checkpoints.

        Raises:
            RunError: if it ends before.
        """
        words = self._training(output, flags)
        with self._start(words, subprocess.DEVNULL) as process:
            try:
                while len(list((self.work / output).glob("checkpoint-*/trainer_state.json"))) < checkpoints:
                    if process.poll() is not None:
                        raise RunError(f"{' '.join(words[:3])} ended before it was killed")
                    time.sleep(0.01)
            finally:
                process.kill()
        if (self.work / output / "TRAINING_COMPLETED.txt").exists():
            raise RunError(f"{output} was complete before it was killed")

    def package(self) -> Path:
        """Where the package comes from that the tree's processes import."""
        return Path(self.run("-c", "import kvdistill; print(kvdistill.__file__)").strip())

    def _training(self, output: str, flags: Sequence[str]) -> list[str]:
        script = str(self.code / "experiments" / "train_with_kv.py")
        return [script, *flags, "--output_dir", output]

    def _start(self, words: Sequence[str], output: int) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(self.code / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", *words]
        return subprocess.Popen(
            command, cwd=self.work, env=environment, stdout=output, stderr=output, text=True
        )


def together(*calls: Callable[[], Result]) -> list[Result]:
    """The results of calls that run side by side."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
