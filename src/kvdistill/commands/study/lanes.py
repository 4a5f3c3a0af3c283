"""Runs side by side, each in a process of its own: begun in order, followed, and ended at a signal."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from kvdistill.commands.study.plan import Job
from kvdistill.commands.study.process import Process, start
from kvdistill.config import resolved
from kvdistill.records.jsonfile import write_atomic
from kvdistill.run.folder import inspect_run_dir

CONSOLE = "console.txt"
"""What a run prints, in its folder."""
PATIENCE = 100.0
"""Seconds that a run has to write a checkpoint after a signal."""
_POLL = 0.2
End = Literal["complete", "failed"]


@runtime_checkable
class Watcher(Protocol):
    """Is told what happens to runs."""

    def begins(self, job: Job) -> None:
        """A run has begun."""
        ...

    def runs(self, job: Job) -> None:
        """A run is in progress; called several times a second."""
        ...

    def ends(self, job: Job, end: End, seconds: float) -> None:
        """A run has ended."""
        ...


@dataclass
class Running:
    """A run in progress."""

    job: Job
    process: Process
    began: float
    """By ``time.time``, in seconds."""


@dataclass
class Outcome:
    """What came of the runs."""

    failed: list[Job] = field(default_factory=list)
    left: list[Job] = field(default_factory=list)
    """Not begun: the time was used up, or the run that they start from failed or ended too low."""
    out_of_time: bool = False


def run_all(
    jobs: Sequence[Job], lanes: int, threads: int, watch: Watcher, has_time: Callable[[], bool]
) -> Outcome:
    """Run jobs in their order, up to ``lanes`` side by side; complete ones are skipped.

    Args:
        jobs: each behind the job that it needs.
        lanes: most runs at a time.
        threads: CPU threads of a run.
        watch: is told of beginnings and ends.
        has_time: whether another run may begin.

    Returns:
        Which runs failed, and which were not begun.

    Raises:
        ValueError: if a run could not begin at all, or a folder holds a run with other options.
    """
    waiting = [job for job in jobs if not _is_complete(job)]
    running: list[Running] = []
    outcome = Outcome()
    try:
        while True:
            outcome.out_of_time = not has_time()
            while len(running) < lanes and not outcome.out_of_time:
                ready = _ready(waiting, running)
                if ready is None:
                    break
                waiting.remove(ready)
                running.append(_begin(ready, threads))
                watch.begins(ready)
            if not running:
                break
            time.sleep(_POLL)
            running = _follow(running, watch, outcome)
    finally:
        _end(running)
    outcome.left = waiting
    return outcome


def _ready(waiting: Sequence[Job], running: Sequence[Running]) -> Job | None:
    """The first job whose start and teachers are there and good enough; those that need a process still
    ending wait.
    """
    busy = [each.job for each in running]
    return next(
        (job for job in waiting if _can_begin(job, busy) and job.held_back_by is None),
        None,
    )


def _can_begin(job: Job, busy: Sequence[Job]) -> bool:
    return all(before not in busy and before.state == "complete" for before in job.before)


def _is_complete(job: Job) -> bool:
    """Whether a run is complete, with the very options that the study gives it."""
    if job.state != "complete":
        return False
    if _can_begin(job, ()):
        inspect_run_dir(job.config())
    return True


def _begin(job: Job, threads: int) -> Running:
    config = job.config()
    path = job.folder / "config.json"
    write_atomic(path, json.dumps(resolved(config), indent=2) + "\n")
    began = time.time()
    process = start(["train", "--config", str(path)], job.folder / CONSOLE, threads)
    return Running(job, process, began)


def _follow(running: Sequence[Running], watch: Watcher, outcome: Outcome) -> list[Running]:
    """Take note of runs that have ended; returns the others."""
    left = []
    for each in running:
        code = each.process.poll()
        if code is None:
            watch.runs(each.job)
            left.append(each)
            continue
        end: End = "failed"
        if code == 0 and each.job.state == "complete":
            end = "complete"
        watch.ends(each.job, end, time.time() - each.began)
        if end == "failed":
            outcome.failed.append(each.job)
            _require_begun(each)
    return left


def _require_begun(ended: Running) -> None:
    """Refuse to try other runs after one that failed before its run.json: its settings are at fault."""
    record, console = ended.job.folder / "run.json", ended.job.folder / CONSOLE
    if not record.is_file() or record.stat().st_mtime < ended.began - 1:
        raise ValueError(
            f"{ended.job.name} could not begin, so no further run is tried. {console} ends with: "
            f"{last_line(console)}"
        )


def last_line(path: Path) -> str:
    """The last line of a text file that is not empty; an empty text where there is none."""
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _end(running: Sequence[Running]) -> None:
    """End runs with a checkpoint each; those that take longer than ``PATIENCE`` are killed."""
    for each in running:
        each.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for each in running:
        if each.process.wait(max(0.1, deadline - time.monotonic())) is None:
            each.process.kill()
            each.process.wait(PATIENCE)
