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
CONTENTS = "contents.json"
"""The checkpoint's files with their sizes in bytes: what it takes to be whole."""
FREE = (CONTENTS, "config.json")
"""Not among them: ``base`` in the latter may be edited."""


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


def seal(folder: Path) -> None:
    """Write down what the folder holds, for ``require_whole``."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in FREE]
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    (folder / CONTENTS).write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def require_whole(folder: Path) -> None:
    """Refuse to go on from a checkpoint of which a file is missing or cut: the run would not be the one that was begun.

    Raises:
        ValueError: naming the file.
    """
    delete = f"Put it back, or delete {folder}: training then goes on from the checkpoint before it, or begins anew."
    try:
        sizes = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder / CONTENTS} cannot be read ({error}), so nobody knows whether the checkpoint is whole. {delete}"
        ) from error
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing. {delete}")
        if path.stat().st_size != size:
            raise ValueError(f"{path} is damaged: it has {path.stat().st_size} bytes, and {size} were written. {delete}")


def publish(partial: Path, final: Path) -> None:
    """Bring a written folder to its disk, then to its name; an older one of that name goes last."""
    seal(partial)
    for path in (*partial.rglob("*"), partial):
        _to_disk(path)
    older = hide(final)
    partial.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path | str) -> list[Path]:
    """The checkpoints of a run, fewest steps first, by their state files; half-written and half-deleted ones have other names."""
    steps = {path.parent: _step(path) for path in Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")}
    return sorted(steps, key=lambda path: steps[path])


def _step(state: Path) -> int:
    try:
        return json.loads(state.read_text(encoding="utf-8"))["global_step"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{state} is damaged. Delete {state.parent} to go on without that checkpoint.") from None


def newest_checkpoint(folder: Path | str) -> Path | None:
    """The checkpoint with the most steps, None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def keep_newest(folder: Path, limit: int | None) -> None:
    """Delete all but the ``limit`` checkpoints with the most steps; None keeps all."""
    for old in [] if limit is None else checkpoints(folder)[:-limit]:
        shutil.rmtree(hide(old))


def hide(folder: Path) -> Path:
    """Take a checkpoint, where there is one, out of sight before it is deleted, so that no half of it is ever found."""
    hidden = folder.with_name(f".{folder.name}.older")
    if hidden.exists():
        shutil.rmtree(hidden)
    if folder.exists():
        folder.rename(hidden)
    return hidden


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
