"""Checkpoint folders of a run: naming, atomic writing, integrity checks, search, deletion of old ones."""

import json
import operator
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from kvdistill.console.exits import is_peer_gone
from kvdistill.models.checkpoint_integrity import first_line, share
from kvdistill.records.jsonfile import read_json
from kvdistill.records.manifest import CONTENTS, Manifest, problem

EXTRA_STATE_FILE = "carried.safetensors"
"""File with training state other than student, optimizer and random numbers (running means, say)."""


@contextmanager
def atomic_checkpoint(partial: Path, final: Path, mine: bool) -> Iterator[None]:
    """Remove a partial checkpoint where writing it fails, and name the one to resume from.

    Args:
        partial: Folder that is written to.
        final: Folder that it will be renamed to.
        mine: Whether this process created ``partial``.

    Raises:
        OSError: if the disk is full or cannot be written; the message names the checkpoint that is left.
    """
    try:
        yield
    except Exception as error:  # a full disk is a RuntimeError of torch.save, a bare Exception of tokenizers
        if mine:
            shutil.rmtree(partial, ignore_errors=True)
        if is_peer_gone(error):  # it failed to wait for the others; the disk is not the cause
            raise
        newest = newest_checkpoint(final.parent)
        left = "there is no earlier one"
        if newest is not None:
            left = f"{newest} is complete"
        raise OSError(
            f"{final} could not be written ({error}); {left}. Free space on its disk "
            "(training.save_total_limit keeps fewer "
            "checkpoints), then run the same command with --resume."
        ) from error


def save_extra_state(folder: Path, tensors: Mapping[str, Tensor], place: Mapping[str, Any] | None) -> None:
    """Write tensors by name, and the position of a data stream.

    Args:
        folder: The checkpoint.
        tensors: Any shapes and devices.
        place: ``StreamState`` as a dictionary; None without a stream.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, folder / EXTRA_STATE_FILE, metadata={"place": json.dumps(place)})
    share(folder)


def load_extra_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read what ``save_extra_state`` has written.

    Args:
        folder: The checkpoint.

    Returns:
        Tensors by name, on the CPU, and the position of the data stream (None without a stream).

    Raises:
        ValueError: if the checkpoint was written without it.
    """
    if not (folder / EXTRA_STATE_FILE).is_file():
        raise ValueError(
            f"{folder} holds no {EXTRA_STATE_FILE}, so training cannot go on from it: it serves as "
            "model.name of a new run."
        )
    with readable(folder, EXTRA_STATE_FILE), safe_open(folder / EXTRA_STATE_FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["place"])


def checkpoint_name(epoch: float, step: int) -> str:
    """``checkpoint-epN`` at the end of epoch N, ``checkpoint-epN-stepS`` inside epoch N."""
    if epoch >= 1 and epoch == int(epoch):
        return f"checkpoint-ep{int(epoch)}"
    return f"checkpoint-ep{int(epoch) + 1}-step{step}"


@contextmanager
def readable(folder: Path, *names: str) -> Iterator[None]:
    """Convert any error while files of a checkpoint are loaded into one that names the file and the remedy.

    Args:
        folder: The checkpoint.
        names: The files that are read inside the block.

    Raises:
        ValueError: naming the file, or both where it is not known which one it is.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        files = " or ".join(str(folder / name) for name in _unreadable(folder, names) or names)
        reason = ""
        if not isinstance(error, UnpicklingError):
            reason = f" ({type(error).__name__}: {first_line(error)})"
        raise ValueError(
            f"{files} is damaged, or holds more than plain tensors and numbers, and nothing else is ever "
            f"loaded{reason}. {_remedy(folder)}"
        ) from error


def _unreadable(folder: Path, names: tuple[str, ...]) -> list[str]:
    """First of several files written by ``torch.save`` that cannot be read, as a list of at most one."""
    if len(names) == 1:
        return []
    found: list[str] = []
    for name in names:
        try:
            torch.load(folder / name, map_location="meta", weights_only=True)
        except Exception:
            found.append(name)
    return found[:1]


def read_state(folder: Path) -> TrainerState:
    """Read a checkpoint's ``trainer_state.json`` and check the values that a resume uses.

    Raises:
        ValueError: naming the file, if a value is missing or of the wrong type.
    """
    with readable(folder, TRAINER_STATE_NAME):
        state = TrainerState(**read_json(folder / TRAINER_STATE_NAME))
        for name, kinds in (("global_step", (int,)), ("max_steps", (int,)), ("epoch", (int, float))):
            if type(getattr(state, name)) not in kinds:
                raise TypeError(f"{name} is {getattr(state, name)!r}")
        for row in state.log_history:
            int(row["step"])
    return state


def write_manifest(folder: Path, name: str | None = None) -> None:
    """Write the manifest (sizes and hashes) of the files in a folder, for ``require_complete``.

    Args:
        folder: The checkpoint, possibly under a temporary name.
        name: Its final name; by default the current one.
    """
    Manifest.of(folder, name or folder.name, _step(folder / TRAINER_STATE_NAME)).write(folder / CONTENTS)


def require_complete(folder: Path) -> None:
    """Refuse to resume from a checkpoint with missing or changed files, or under another name.

    Raises:
        ValueError: naming the file.
    """
    remedy = _remedy(folder)
    manifest = Manifest.load(folder, remedy)
    manifest.require(folder, remedy, training=True)
    state = read_state(folder)
    if manifest.global_step is not None and manifest.global_step != state.global_step:
        raise ValueError(
            f"{folder / CONTENTS} was written at step {manifest.global_step}, the checkpoint at step "
            f"{state.global_step}. {remedy}"
        )
    if manifest.checkpoint is not None and manifest.checkpoint != folder.name:
        raise ValueError(
            f"{folder} is a copy of {manifest.checkpoint}, or was renamed: give it that name again, or "
            "delete it."
        )


def require_steps(folder: Path) -> None:
    """Refuse a run with a changed ``trainer_state.json``: its newest checkpoint cannot be determined.

    Args:
        folder: Folder of the run.

    Raises:
        ValueError: naming the file.
    """
    for checkpoint in checkpoints(folder):
        remedy = _remedy(checkpoint)
        if (checkpoint / CONTENTS).exists():
            entry = Manifest.load(checkpoint, remedy).files.get(TRAINER_STATE_NAME)
            if entry is not None and (found := problem(checkpoint / TRAINER_STATE_NAME, entry)) is not None:
                raise ValueError(f"{checkpoint / TRAINER_STATE_NAME} {found}. {remedy}")


def _remedy(folder: Path) -> str:
    return (
        f"Put it back, or delete {folder}: training then resumes from the checkpoint before it, or from "
        "the start."
    )


def publish(partial: Path, final: Path) -> None:
    """Sync a written folder to disk, then rename it; a folder that has the name already is deleted last.

    Args:
        partial: The complete checkpoint under its temporary name.
        final: Its final path.
    """
    with ThreadPoolExecutor() as pool:
        written = [pool.submit(_to_disk, path) for path in partial.rglob("*")]
        write_manifest(partial, final.name)  # hashes are computed while the disk writes
        for file in written:
            file.result()
    _to_disk(partial / CONTENTS)
    _to_disk(partial)
    # Content before name: a checkpoint that can be found after a power failure is complete.
    older = move_aside(final)
    partial.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path | str) -> list[Path]:
    """Checkpoints of a run by the steps in their state files, fewest first.

    Partially written or deleted ones have names that begin with a dot, and are not found.
    """
    steps = {path.parent: _step(path) for path in Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")}
    return sorted(steps, key=lambda path: steps[path])


def _step(state: Path) -> int:
    try:
        return operator.index(read_json(state)["global_step"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{state} is damaged. Delete {state.parent} to go on without that checkpoint."
        ) from None


def newest_checkpoint(folder: Path | str) -> Path | None:
    """Checkpoint with the most steps; None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def keep_newest(folder: Path, limit: int | None) -> None:
    """Delete all but the ``limit`` checkpoints with the most steps; None keeps all."""
    if limit is None:
        return
    for old in checkpoints(folder)[:-limit]:
        shutil.rmtree(move_aside(old))


def move_aside(folder: Path) -> Path:
    """Rename a checkpoint to a hidden name before it is deleted, so that no partial one is ever found.

    Args:
        folder: The checkpoint, which need not exist.

    Returns:
        The hidden path.
    """
    hidden = folder.with_name(f".{folder.name}.older")
    if hidden.exists():
        shutil.rmtree(hidden)
    if folder.exists():
        folder.rename(hidden)
    return hidden


def _to_disk(path: Path) -> None:
    """fsync a file or a folder (the names in it)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
