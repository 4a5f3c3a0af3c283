"""Provenance of a run: configuration, package versions, git commit, hardware."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from kvdistill.config import RunConfig, resolved
from kvdistill.console.wording import counted
from kvdistill.records.schema import RunRecord

PACKAGES = ("kvdistill", "torch", "transformers", "peft", "accelerate", "tokenizers")


def record_of(config: RunConfig, started: str, command: str | None) -> RunRecord:
    """The record of a run that has just started; its duration is filled in at the end.

    Args:
        config: the run's configuration.
        started: ISO 8601 time.
        command: the command line as typed; None where called from Python.
    """
    return RunRecord(
        config=resolved(config),
        # torch names its build too: 2.13.0+cpu, 2.13.0+cu130.
        versions={name: version(name) for name in PACKAGES}
        | {"torch": torch.__version__, "python": platform.python_version()},
        commit=_commit(),
        seed=config.training.seed,
        hardware=hardware(),
        started=started,
        seconds=None,
        command=command,
    )


def hardware() -> str:
    """The device as text: number and name of the GPUs, or the CPU with its threads."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({platform.machine()}), {counted(torch.get_num_threads(), 'thread')}"


def _commit() -> str | None:
    where = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None
    return done.stdout.strip() or None
