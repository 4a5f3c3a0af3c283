"""The run folder: what a run writes, the lock on it, and the checks before a run starts or resumes."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from kvdistill.config import FREE, RunConfig, live_of, resolved, with_defaults
from kvdistill.records.jsonfile import by_dotted_name, write_atomic
from kvdistill.records.schema import RunRecord
from kvdistill.training.checkpoint import move_aside, newest_checkpoint, require_complete, require_steps

COMPLETED = "TRAINING_COMPLETED.txt"
"""Written last: it marks the run as finished."""
WRITTEN = (
    *(
        COMPLETED,
        ".checkpoint-ep*",
        "checkpoint-ep*",
        "evaluation_*.json",
        "evaluation_*.answers.txt",
        "report.html",
        "report.md",
    ),
    *(
        "calibration.json",
        "prototypes.safetensors",
        "routing.json",
        "starting_student.safetensors",
        "example.json",
        "figures",
        "runs",
        "metrics.jsonl",
        "training_log.txt",
        "run.json",
    ),
)
"""What a run writes and the next run from step 0 deletes, in this order, so that an interrupted deletion
leaves an unfinished run. Quarantine files are not in the list: they are rewritten when the data are read,
which is before the deletion.
"""


@dataclass(frozen=True)
class RunState:
    """Where a run starts: at step 0 or at a checkpoint, or not at all because it is finished."""

    folder: Path
    checkpoint: Path | None = None
    """Checkpoint to resume from; None starts at step 0."""
    finished: bool = False
    before: RunRecord | None = None
    """The run.json of the run that is resumed."""


def inspect_run_dir(config: RunConfig, processes: int = 1) -> RunState:
    """Check whether a run may write into its folder, and find where it starts. Changes nothing.

    Args:
        config: the run's configuration.
        processes: number of processes (world size).

    Returns:
        The folder with the checkpoint to resume from, if any.

    Raises:
        ValueError: if the folder holds a run that must not be touched, or one with other options.
    """
    section, folder = config.training, Path(config.training.output_dir)
    _refuse_place(config, folder)
    begun, finished = (folder / "run.json").is_file(), (folder / COMPLETED).is_file()
    if begun and section.overwrite:
        return RunState(folder)
    checkpoint = newest_checkpoint(folder)
    # Files of a run without its run.json: whose they are is unknown, so nothing is overwritten.
    if not begun:
        if checkpoint is not None or finished:
            left = checkpoint or folder / COMPLETED
            raise ValueError(
                f"{folder} holds {left.name}, but no run.json: choose another --training.output_dir, or move "
                "it away."
            )
        return RunState(folder)
    lost = finished and checkpoint is None
    if lost or not section.resume:
        raise _occupied(folder, finished, lost)
    before = RunRecord.read(folder / "run.json")
    _refuse_another(folder, before.config, resolved(config))
    if not finished:
        _refuse_damaged(folder, checkpoint)
    # Each process reads its share of a batch, so another world size would see other batches.
    if checkpoint is not None and not finished and before.processes != processes:
        raise ValueError(
            f"{folder} was begun by {before.processes} processes, and {processes} would see other batches: "
            "go on with as many "
            f"(torchrun --nproc_per_node {before.processes}), or begin a new run from {checkpoint} "
            "(--model_name)."
        )
    return RunState(folder, checkpoint, finished, before)


def clear_run_dir(start: RunState) -> None:
    """Remove the files of an earlier run, or of an interrupted start; all other files are kept.

    Args:
        start: with a checkpoint to resume from, only TRAINING_COMPLETED.txt, evaluations and half-written
            checkpoints are removed.
    """
    start.folder.mkdir(parents=True, exist_ok=True)
    patterns = WRITTEN
    if start.checkpoint is not None:
        patterns = (COMPLETED, ".checkpoint-ep*", "evaluation_*.json", "evaluation_*.answers.txt")
    if (start.folder / "run.json").is_file():
        for old in [path for pattern in patterns for path in sorted(start.folder.glob(pattern))]:
            if not old.is_dir():
                old.unlink()
            elif old.name.startswith("."):
                shutil.rmtree(old)
            else:
                # Renamed before it is deleted: an interrupted deletion must not leave half a checkpoint.
                shutil.rmtree(move_aside(old))


@contextmanager
def lock_run_dir(folder: Path, first: bool) -> Iterator[None]:
    """Lock the run folder against other runs; the lock ends with the process that holds it.

    Args:
        folder: the run folder.
        first: whether this is rank 0, which holds the lock; other ranks do nothing.

    Raises:
        ValueError: if another process trains there.
    """
    if not first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            # Unlike flock's, this lock is not inherited by a child that outlives its parent.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"Another process is training in {folder}: wait for it, stop it, or choose another "
                "output_dir."
            ) from None
        except OSError:
            pass  # a file system without locks, as on some clusters
        yield


def summary(record: RunRecord, lines: dict[str, Any]) -> str:
    """The text of TRAINING_COMPLETED.txt.

    Args:
        record: the run's record, with its duration.
        lines: further lines by name.
    """
    shown = {
        "started": record.started,
        "seconds": f"{record.seconds or 0:.1f}",
        "seed": record.seed,
        "hardware": record.hardware,
    }
    shown |= {"commit": record.commit or "unknown", "command": record.command or "called from Python"} | lines
    return "Training completed.\n\n" + "".join(f"{name + ':':28}{value}\n" for name, value in shown.items())


def mark_completed(folder: Path, text: str) -> None:
    """Write TRAINING_COMPLETED.txt, the last file of a run, which marks it as finished."""
    write_atomic(folder / COMPLETED, text)


def _refuse_place(config: RunConfig, folder: Path) -> None:
    if config.training.resume and config.training.overwrite:
        raise ValueError(
            "training.resume continues the run in its folder, training.overwrite deletes it: choose one "
            "of them."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: choose another training.output_dir.")
    read = [section.name for section in live_of(config.all_teachers).values()]
    for name in (config.model.name, *read):
        if name is not None and Path(name).exists() and folder.resolve() in Path(name).resolve().parents:
            raise ValueError(
                f"{name} is in {folder}, which the run would write over: choose another "
                "--training.output_dir."
            )


def _occupied(folder: Path, finished: bool, lost: bool) -> ValueError:
    """The error for a folder with a run that is not to be resumed, or has lost its checkpoints."""
    state = "a finished run"
    if lost:
        state = "a finished run without its checkpoints"
    elif not finished:
        state = "an unfinished run (--resume continues it)"
    return ValueError(
        f"{folder} already holds {state}: choose another --training.output_dir, or say "
        "--training.overwrite true."
    )


def _refuse_damaged(folder: Path, newest: Path | None) -> None:
    for path in sorted(folder.glob("checkpoint-ep*")):
        if path.is_dir() and not (path / TRAINER_STATE_NAME).is_file():
            raise ValueError(
                f"{path} holds no {TRAINER_STATE_NAME}, so it is no complete checkpoint: delete it to go on "
                "without it."
            )
    if newest is not None:
        require_steps(folder)
        require_complete(newest)


def _refuse_another(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = by_dotted_name(with_defaults(before)), by_dotted_name(now)
    other = next(
        (
            name
            for name in sorted(old.keys() | new.keys())
            if name not in FREE and old.get(name) != new.get(name)
        ),
        None,
    )
    if other is not None:
        words = f"--config '{folder / 'run.json'}' --training.resume true --training.overwrite false"
        raise ValueError(
            f"{folder} holds another run: its {other} is {json.dumps(old.get(other))}, now it is "
            f"{json.dumps(new.get(other))}. Go on with "
            f"the options that it was started with ({words}), or choose another output_dir."
        )
