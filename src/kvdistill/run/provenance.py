"""How a run came about: configuration, versions, commit, hardware."""

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
    """How a run is made, before it ends."""
    return RunRecord(
        config=resolved(config),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        commit=_commit(),
        seed=config.training.seed,
        hardware=hardware(),
        started=started,
        seconds=None,
        command=command,
    )


def hardware() -> str:
    """The device in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({platform.machine()}), {counted(torch.get_num_threads(), 'thread')}"


def _commit() -> str | None:
    where = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None if done.returncode == 0 else None
