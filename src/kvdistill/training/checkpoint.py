"""A run's checkpoints as folders: how they are named, written whole or not at all, found, and thinned out."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME

CARRIED = "carried.safetensors"
"""What training carries from step to step beside the student, the optimiser and the random numbers."""


@contextmanager
def whole_or_not(partial: Path, final: Path, mine: bool) -> Iterator[None]:
    """Where writing a checkpoint fails, remove what was written and say what is left to go on from.

    Raises:
        OSError: in words, if the disk is full or cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        if mine:
            shutil.rmtree(partial, ignore_errors=True)
        newest = newest_checkpoint(final.parent)
        left = "there is no earlier one" if newest is None else f"{newest} is whole"
        raise OSError(
            f"{final} could not be written ({error}); {left}. Free space on its disk (training.save_total_limit keeps fewer "
            "checkpoints), then run the same command with --resume."
        ) from error


def save_carried(folder: Path, tensors: Mapping[str, Tensor], place: Mapping[str, Any] | None) -> None:
    """Keep tensors by name, and where a stream stands."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, folder / CARRIED, metadata={"place": json.dumps(place)})


def load_carried(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """What ``save_carried`` kept.

    Raises:
        ValueError: if the checkpoint was written without it.
    """
    if not (folder / CARRIED).is_file():
        raise ValueError(f"{folder} holds no {CARRIED}, so training cannot go on from it: it serves as model.name of a new run.")
    with safe_open(folder / CARRIED, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["place"])  # noqa: SIM118


def checkpoint_name(epoch: float, step: int) -> str:
    """``checkpoint-epN`` at the end of epoch N, ``checkpoint-epN-stepS`` inside epoch N."""
    if epoch >= 1 and epoch == int(epoch):
        return f"checkpoint-ep{int(epoch)}"
    return f"checkpoint-ep{int(epoch) + 1}-step{step}"


def publish(partial: Path, final: Path) -> None:
    """Bring a written folder to its disk, then to its name; an older one of that name goes last."""
    for path in (*partial.rglob("*"), partial):
        _to_disk(path)
    older = _hidden(final)
    partial.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path | str) -> list[Path]:
    """The checkpoints of a run, fewest steps first, by their state files; half-written and half-deleted ones have other names."""
    states = Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")
    steps = {path.parent: json.loads(path.read_text(encoding="utf-8"))["global_step"] for path in states}
    return sorted(steps, key=lambda path: steps[path])


def newest_checkpoint(folder: Path | str) -> Path | None:
    """The checkpoint with the most steps, None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def keep_newest(folder: Path, limit: int | None) -> None:
    """Delete all but the ``limit`` checkpoints with the most steps; None keeps all."""
    for old in [] if limit is None else checkpoints(folder)[:-limit]:
        shutil.rmtree(_hidden(old))


def _hidden(folder: Path) -> Path:
    """Take a checkpoint, where there is one, out of sight before it is deleted, so that no half of it is ever found."""
    hidden = folder.with_name(f".{folder.name}.older")
    shutil.rmtree(hidden, ignore_errors=True)
    if folder.exists():
        folder.rename(hidden)
    return hidden


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
