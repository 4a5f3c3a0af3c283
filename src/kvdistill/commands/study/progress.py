"""Progress of a study: a line for each run that begins or ends, and a bar or a line for those in between."""

import sys
import time
from dataclasses import dataclass, field

from tqdm import tqdm

from kvdistill.commands.study.lanes import CONSOLE, End, last_line
from kvdistill.commands.study.plan import Job
from kvdistill.console.progress import EVERY, Bar, on_terminal
from kvdistill.records.schema import EvaluationRecord

_LOOK = 2.0
"""Seconds between two looks at a run's metrics."""


@dataclass
class StudyProgress:
    """Prints what happens to runs, to standard output."""

    total: int
    """Runs to be made."""
    begun: int = 0
    running: dict[str, Job] = field(default_factory=dict)
    _bars: dict[str, Bar] = field(default_factory=dict)
    _looked: float = 0.0
    _said: float = field(default_factory=time.monotonic)

    def begins(self, job: Job) -> None:
        """Announce a run, which may be one that is resumed."""
        self.begun += 1
        verb = "begins"
        if job.state == "interrupted":
            verb = "resumes"
        self._say(f"[{self.begun}/{self.total}] {job.name} {verb}")
        self.running[job.name] = job
        if on_terminal():
            place = next(place for place in range(len(self.running)) if self._free(place))
            bar = Bar(total=job.steps or None, desc=job.name, unit="step", position=place, leave=False)
            self._bars[job.name] = bar

    def runs(self, job: Job) -> None:
        """Show how far the runs are: every two seconds on a terminal, once a minute in a log."""
        now = time.monotonic()
        if self._bars and now - self._looked >= _LOOK:
            self._looked = now
            for name, bar in self._bars.items():
                bar.n, note = progress_of(self.running[name])
                bar.set_postfix_str(note)
        elif not self._bars and now - self._said >= EVERY:
            parts = []
            for name, each in self.running.items():
                step, note = progress_of(each)
                parts.append(f"{name} {step}/{each.steps or '?'} {note}".rstrip())
            self._say(f"steps: {', '.join(parts)}")

    def ends(self, job: Job, end: End, seconds: float) -> None:
        """Say what came of a run."""
        del self.running[job.name]
        if job.name in self._bars:
            self._bars.pop(job.name).close()
        told = f"{job.name} is complete: {outcome_of(job)}"
        if end == "failed":
            told = f"{job.name} FAILED: {last_line(job.folder / CONSOLE)}"
        self._say(f"{told} ({seconds / 60:.1f} min)")

    def close(self) -> None:
        """Remove the bars."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def _free(self, place: int) -> bool:
        return all(abs(bar.pos) != place for bar in self._bars.values())

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def progress_of(job: Job) -> tuple[int, str]:
    """The last logged step of a run, and its last validation accuracy as text."""
    logged = job.logged
    note = ""
    if logged.accuracy is not None:
        note = f"(validation {logged.accuracy:.2f})"
    return logged.step, note


def outcome_of(job: Job) -> str:
    """The accuracy of a complete run, on the test set or else on the validation set."""
    task = job.stage.tree.get("training", {}).get("task", "latent")
    record = EvaluationRecord.find(job.folder / f"evaluation_test_{task}.json")
    if record is not None:
        return f"accuracy {100 * record.accuracy:.1f} %"
    step, note = progress_of(job)
    return f"step {step} {note}".rstrip()
