"""The runs of a study in their order: shared warm starts, priorities, seeds, and the share of one task."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from kvdistill.config import RunConfig
from kvdistill.config.study_file import StudyFile
from kvdistill.config.study_stages import Stage
from kvdistill.records.study import WARM, run_folder
from kvdistill.records.validation import LastLogged
from kvdistill.run.folder import COMPLETED
from kvdistill.training.checkpoint import newest_checkpoint

State = Literal["complete", "interrupted", "new"]


class Share(NamedTuple):
    """Which seeds one of several tasks takes: those at places ``place``, ``place + of``, ..."""

    place: int
    of: int


@dataclass(frozen=True)
class Job:
    """One run."""

    stage: Stage
    seed: int
    base: Path
    """The study's folder."""
    needs: "Job | None" = None
    """The run whose checkpoint it starts from."""
    teachers: "Mapping[str, Job]" = field(default_factory=dict)
    """By short name, the runs whose checkpoints are its teachers."""
    _logged: LastLogged = field(default_factory=LastLogged, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The run folder, relative to the study's."""
        return run_folder(self.stage.name, self.seed, self.stage.warm)

    @property
    def folder(self) -> Path:
        """The run folder; relative to the working directory where it is below."""
        base = Path(os.path.abspath(self.base))  # noqa: PTH100 - links in the path stay
        if self.stage.warm and (base / WARM).is_symlink():
            # Warm starts of another study, which know their folders by its name.
            base = (base / WARM).resolve().parent
        folder = base / self.name
        here = Path.cwd()
        if folder.is_relative_to(here):
            return folder.relative_to(here)
        return folder

    @property
    def state(self) -> State:
        """How far the run got: it is complete only once its last file is written."""
        if (self.folder / COMPLETED).is_file():
            return "complete"
        if (self.folder / "run.json").is_file():
            return "interrupted"
        return "new"

    @property
    def logged(self) -> LastLogged:
        """Last step and validation accuracy that the run has logged so far."""
        return self._logged.read(self.folder / "metrics.jsonl")

    @property
    def before(self) -> "tuple[Job, ...]":
        """The runs that have to be complete before this one begins."""
        if self.needs is None:
            return tuple(self.teachers.values())
        return self.needs, *self.teachers.values()

    @property
    def held_back_by(self) -> "Job | None":
        """A run before it that ended below the accuracy it requires; None where none did."""
        for job in self.before:
            required = job.stage.require_accuracy
            if required is not None and job.state == "complete" and (job.logged.accuracy or 0.0) < required:
                return job
            if found := job.held_back_by:
                return found
        return None

    @property
    def steps(self) -> int:
        """Most optimizer steps; 0 where epochs decide."""
        return max(0, self.stage.tree.get("training", {}).get("max_steps", 0))

    def config(self) -> RunConfig:
        """The configuration of the run; the runs before it have to be complete.

        Raises:
            ValueError: if one of them left no checkpoint.
        """
        start = None
        if self.needs is not None:
            start = self._checkpoint(self.needs)
        teachers = {name: self._checkpoint(job) for name, job in self.teachers.items()}
        return self.stage.config(self.folder, start, self.seed, teachers)

    def _checkpoint(self, job: "Job") -> Path:
        found = newest_checkpoint(job.folder)
        if found is None:
            raise ValueError(
                f"{job.folder} is complete, but holds no checkpoint for {self.name}: delete that folder, so "
                "that it runs again."
            )
        return found


def jobs_of(study: StudyFile, base: Path, arms: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """The runs in the order in which they are to begin.

    Arms of a lower priority number come first; among them one seed after another, so that a study that is cut
    off leaves the same seeds in all arms. A warm stage comes before the first run that needs it.

    Args:
        study: the study file.
        base: the study's folder.
        arms: names of the arms to run.
        seeds: seeds to run; an arm takes those that it has.
    """
    ordered: dict[tuple[str, int], Job] = {}

    def add(name: str, seed: int) -> Job:
        if (name, seed) in ordered:
            return ordered[name, seed]
        stage = study.stages[name]
        needs = None
        if stage.start is not None:
            needs = add(stage.start, seed)
        teachers = {short: add(arm, seed) for short, arm in stage.teacher_arms.items()}
        ordered[name, seed] = Job(stage, seed, base, needs, teachers)
        return ordered[name, seed]

    for priority in sorted({study.arms[name].priority for name in arms}):
        chosen = [name for name in arms if study.arms[name].priority == priority]
        for seed in seeds:
            for name in chosen:
                if seed in study.arms[name].seeds:
                    add(name, seed)
    return list(ordered.values())


def seeds_of(study: StudyFile, arms: Sequence[str], wanted: Sequence[int] | None) -> list[int]:
    """The seeds of a study that are to run, in its order.

    Args:
        study: the study file.
        arms: names of the arms to run.
        wanted: seeds asked for; None takes all.

    Raises:
        ValueError: if one of them is no seed of any of the arms.
    """
    every = [*study.sections.study.seeds, *(seed for name in arms for seed in study.arms[name].seeds)]
    known = list(dict.fromkeys(every))
    if wanted is None:
        return known
    if strangers := [seed for seed in wanted if seed not in known]:
        raise ValueError(
            f"--seeds: {strangers[0]} is no seed of {study.path}, which has {', '.join(map(str, known))}."
        )
    return [seed for seed in known if seed in wanted]


def share_of(text: str | None, num_seeds: int) -> Share | None:
    """The share of one task of an array, from ``--array-task`` or the environment of SLURM.

    Args:
        text: ``i/n``, counted from 0; None looks for ``SLURM_ARRAY_TASK_ID``, which names one seed.
        num_seeds: number of seeds.

    Returns:
        The share; None outside an array.

    Raises:
        ValueError: if it is no such share, or there are fewer seeds than tasks.
    """
    if text is None:
        index = os.environ.get("SLURM_ARRAY_TASK_ID")
        if index is None:
            return None
        text = f"{index}/{num_seeds}"
    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise ValueError(f"--array-task is {text}: write i/n, such as 0/8 for the first of eight tasks.")
    if int(of) > num_seeds:
        raise ValueError(
            f"--array-task is {text}, and there are {num_seeds} seeds: a task takes all runs of its seeds: "
            f"give at most {num_seeds} tasks (sbatch --array=0-{num_seeds - 1})."
        )
    return Share(int(index), int(of))
