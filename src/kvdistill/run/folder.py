"""The folder of a run: who may write into it, what is in it, and how an interrupted run is taken up."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from kvdistill.config import RunConfig, TeacherSection, parse, resolved
from kvdistill.records.jsonfile import by_dotted_name, write_atomic
from kvdistill.records.schema import RunRecord
from kvdistill.training.checkpoint import move_aside, newest_checkpoint, require_complete, require_steps

COMPLETED = "TRAINING_COMPLETED.txt"
"""Written last: a folder with it holds a finished run."""
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
    *("example.json", "figures", "runs", "metrics.jsonl", "training_log.txt", "run.json"),
)
"""What a run leaves in its folder and the next one deletes, in this order: cut short, it leaves an unfinished
run. Quarantine files are
not among them: they are written anew as the data are read, which is before."""
FREE = ("overwrite", "resume", "progress", "tensorboard", "num_workers", "save_total_limit", "output_dir")
"""Options of training that do not change what is learnt: a run may go on with others."""


@dataclass(frozen=True)
class RunState:
    """How a run begins."""

    folder: Path
    checkpoint: Path | None = None
    """Where it goes on from; None from the beginning."""
    finished: bool = False
    before: RunRecord | None = None
    """What the interrupted run wrote of itself."""


def inspect_run_dir(config: RunConfig, processes: int = 1) -> RunState:
    """Whether the run of so many processes may write into its folder, and where it begins. Nothing is
    changed.

    Raises:
        ValueError: in words, if the folder holds a run that must not be touched, or one made otherwise.
    """
    section, folder = config.training, Path(config.training.output_dir)
    _refuse_place(config, folder)
    begun, finished = (folder / "run.json").is_file(), (folder / COMPLETED).is_file()
    if begun and section.overwrite:
        return RunState(folder)
    checkpoint = newest_checkpoint(folder)
    if not begun:
        if checkpoint is not None or finished:
            left = COMPLETED if checkpoint is None else checkpoint.name
            raise ValueError(
                f"{folder} holds {left}, but no run.json: choose another --training.output_dir, or move it "
                "away."
            )
        return RunState(folder)
    lost = finished and checkpoint is None
    if lost or not section.resume:
        state = (
            "an unfinished run (--resume goes on with it)"
            if not finished
            else f"a finished run{' without its checkpoints' * lost}"
        )
        raise ValueError(
            f"{folder} already holds {state}: choose another --training.output_dir, or say "
            "--training.overwrite true."
        )
    before = RunRecord.read(folder / "run.json")
    _refuse_another(folder, before.config, resolved(config))
    if not finished:
        _refuse_damaged(folder, checkpoint)
    if checkpoint is not None and not finished and before.processes != processes:
        raise ValueError(
            f"{folder} was begun by {before.processes} processes, and {processes} would see other batches: "
            "go on with as many "
            f"(torchrun --nproc_per_node {before.processes}), or begin a new run from {checkpoint} "
            "(--model_name)."
        )
    return RunState(folder, checkpoint, finished, before)


def clear_run_dir(start: RunState) -> None:
    """Remove what an earlier run, or an interrupted beginning, left; other files stay as they are."""
    start.folder.mkdir(parents=True, exist_ok=True)
    patterns = (
        WRITTEN
        if start.checkpoint is None
        else (COMPLETED, ".checkpoint-ep*", "evaluation_*.json", "evaluation_*.answers.txt")
    )
    if (start.folder / "run.json").is_file():
        for old in [path for pattern in patterns for path in sorted(start.folder.glob(pattern))]:
            if old.is_dir():
                shutil.rmtree(
                    old if old.name.startswith(".") else move_aside(old)
                )  # half of a checkpoint is none
            else:
                old.unlink()


@contextmanager
def lock_run_dir(folder: Path, first: bool) -> Iterator[None]:
    """Keep other runs out of the folder; the lock goes with the run's ``first`` process, however it ends.

    Raises:
        ValueError: if another process trains there.
    """
    if not first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.lockf(
                file, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # unlike flock's, no child that outlives its parent holds it
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"Another process is training in {folder}: wait for it, stop it, or choose another "
                "output_dir."
            ) from None
        except OSError:
            pass  # a file system without locks, as some clusters have
        yield


def summary(record: RunRecord, lines: dict[str, Any]) -> str:
    """The text of TRAINING_COMPLETED.txt."""
    shown = {
        "started": record.started,
        "seconds": f"{record.seconds or 0:.1f}",
        "seed": record.seed,
        "hardware": record.hardware,
    }
    shown |= {"commit": record.commit or "unknown", "command": record.command or "called from Python"} | lines
    return "Training completed.\n\n" + "".join(f"{name + ':':28}{value}\n" for name, value in shown.items())


def mark_completed(folder: Path, text: str) -> None:
    """Say that the run is whole: the last thing that it writes."""
    write_atomic(folder / COMPLETED, text)


def _refuse_place(config: RunConfig, folder: Path) -> None:
    if config.training.resume and config.training.overwrite:
        raise ValueError(
            "training.resume goes on with the run in its folder, training.overwrite deletes it: choose one "
            "of them."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: choose another training.output_dir.")
    read = [section.name for section in config.all_teachers.values() if isinstance(section, TeacherSection)]
    for name in (config.model.name, *read):
        if name is not None and Path(name).exists() and folder.resolve() in Path(name).resolve().parents:
            raise ValueError(
                f"{name} lies in {folder}, which the run would write over: choose another "
                "--training.output_dir."
            )


def _refuse_damaged(folder: Path, newest: Path | None) -> None:
    for path in sorted(folder.glob("checkpoint-ep*")):
        if path.is_dir() and not (path / TRAINER_STATE_NAME).is_file():
            raise ValueError(
                f"{path} holds no {TRAINER_STATE_NAME}, so it is no whole checkpoint: delete it to go on "
                "without it."
            )
    if newest is not None:
        require_steps(folder)
        require_complete(newest)


def _refuse_another(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = by_dotted_name(_with_defaults(before)), by_dotted_name(now)
    free = {f"training.{name}" for name in FREE}
    other = next(
        (
            name
            for name in sorted(old.keys() | new.keys())
            if name not in free and old.get(name) != new.get(name)
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


def _with_defaults(before: dict[str, Any]) -> dict[str, Any]:
    """A run's options with the defaults of options that were added since it began."""
    try:
        return resolved(parse(before, "run.json"))
    except ValueError:  # it has an option that no longer exists
        return before
