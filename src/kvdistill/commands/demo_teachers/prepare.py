"""Train the student's warm start and both teachers in parallel processes; complete ones are used again."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from kvdistill.commands.demo.recipe import Stage
from kvdistill.commands.demo_teachers.recipe import FAMILIES
from kvdistill.config import resolved
from kvdistill.records.jsonfile import read_json, write_atomic
from kvdistill.training.checkpoint import newest_checkpoint

COMPLETE = "complete.json"
"""Written after the last stage of a model: where its checkpoint is, and what the training took."""


def prepare(folder: Path, seed: int, share: float = 1.0, jobs: int = 2) -> dict[str, Path]:
    """Train every model that is not complete yet, each in a process of one thread.

    Args:
        folder: Folder of the demo; each model gets a folder in it, named by a hash of its configuration.
        seed: Seed of data, weights and order.
        share: Share (0 to 1) of each stage's steps.
        jobs: Most processes at once.

    Returns:
        The checkpoint of each model by its name: ``student`` and the teachers.

    Raises:
        ValueError: if a training process stops before its model is complete; names its log.
    """
    waiting = [name for name in FAMILIES if checkpoint_of(folder, name, seed, share) is None]
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                running[name] = _start(folder, name, seed, share)
            time.sleep(0.5)
            for name, child in list(running.items()):
                if child.poll() is None:
                    continue
                del running[name]
                if child.returncode:
                    log = model_folder(folder, name, seed, share) / "log.txt"
                    raise ValueError(f"Training of {name} stopped: see {log}.")
    finally:
        # Some are left only after an error or an interrupt.
        for child in running.values():
            child.terminate()
            child.wait()
    return {name: _require(checkpoint_of(folder, name, seed, share), name) for name in FAMILIES}


def model_folder(folder: Path, name: str, seed: int, share: float) -> Path:
    """The folder of one model: its name and a hash of the configurations of all its stages.

    Args:
        folder: Folder of the demo.
        name: ``student`` or a teacher.
        seed: Seed of data, weights and order.
        share: Share (0 to 1) of each stage's steps.

    Returns:
        A path in ``folder``; it need not exist.
    """
    configs = [resolved(stage.config(Path(), None, seed)) for stage in FAMILIES[name](share)]
    text = json.dumps(configs, sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def checkpoint_of(folder: Path, name: str, seed: int, share: float) -> Path | None:
    """The last checkpoint of a complete model.

    Args:
        folder: Folder of the demo.
        name: ``student`` or a teacher.
        seed: Seed of data, weights and order.
        share: Share (0 to 1) of each stage's steps.

    Returns:
        Its folder; None where training has not ended.
    """
    record = model_folder(folder, name, seed, share) / COMPLETE
    if not record.is_file():
        return None
    checkpoint = record.parent / read_json(record)["checkpoint"]
    if not checkpoint.is_dir():
        return None
    return checkpoint


def train_stages(folder: Path, stages: Iterable[Stage], seed: int) -> Path:
    """Train the stages of one model one after another, each from the checkpoint of the one before.

    Args:
        folder: Folder of the model; each stage gets a run folder in it, by its name.
        stages: At least one.
        seed: Seed of data, weights and order.

    Returns:
        The last checkpoint.
    """
    from kvdistill.run.train import train

    start: Path | None = None
    clock, cpu = time.monotonic(), time.process_time()
    for stage in stages:
        config = stage.config(folder, start, seed)
        quiet = config.training.model_copy(update={"progress": False})
        start = newest_checkpoint(train(config.model_copy(update={"training": quiet})).folder)
    checkpoint = _require(start, folder.name)
    record = {
        "checkpoint": str(checkpoint.relative_to(folder)),
        "minutes": (time.monotonic() - clock) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
    }
    write_atomic(folder / COMPLETE, json.dumps(record, indent=2))
    return checkpoint


def _start(folder: Path, name: str, seed: int, share: float) -> "subprocess.Popen[bytes]":
    """Start the training of one model in a process of its own, which writes to log.txt in its folder."""
    own = model_folder(folder, name, seed, share)
    own.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    words = [sys.executable, "-m", __name__, str(folder), name, str(seed), str(share)]
    with (own / "log.txt").open("w") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _require(checkpoint: Path | None, name: str) -> Path:
    if checkpoint is None:
        raise ValueError(f"Training of {name} left no checkpoint.")
    return checkpoint


def main(folder: str, name: str, seed: str, share: str) -> None:
    """Train one model; what the processes of ``prepare`` run."""
    import torch

    torch.set_num_threads(1)
    own = model_folder(Path(folder), name, int(seed), float(share))
    train_stages(own, FAMILIES[name](float(share)), int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
