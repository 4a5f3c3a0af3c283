"""``kvdistill study run``: the runs of a study file, side by side, until they are complete or time is up."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kvdistill.commands.study.lanes import Outcome, run_all
from kvdistill.commands.study.plan import Job, Share, jobs_of, seeds_of, share_of
from kvdistill.commands.study.progress import StudyProgress
from kvdistill.config.study import seed_list
from kvdistill.config.study_file import StudyFile, read_study
from kvdistill.console.extras import how_to_install, missing_packages
from kvdistill.console.wording import counted
from kvdistill.records.study import PLAN, StudyPlan


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of ``kvdistill study run``."""

    file: str
    """The study file."""
    output: str
    """The study's folder."""
    jobs: int | None = None
    """Runs side by side; None takes the file's."""
    minutes: float | None = None
    """Minutes after which no run begins; None takes the file's."""
    arms: str | None = None
    """Names or patterns of arms, with commas; None runs all."""
    seeds: str | None = None
    """Seeds such as ``0-7``; None runs all."""
    array_task: str | None = None
    """``i/n``: the share of one of several tasks."""
    dry_run: bool = False
    """Only print the runs."""


def run_study(request: Request) -> int:
    """Run a study, or what is left of it, and write its report.

    Args:
        request: what is asked for.

    Returns:
        1 where a run failed, else 0.

    Raises:
        ValueError: if the file is wrong, or a run folder holds a run with other options.
    """
    clock = time.monotonic()
    study = read_study(request.file)
    arms = study.chosen(request.arms)
    wanted = None
    if request.seeds is not None:
        wanted = _seeds(request.seeds)
    seeds = seeds_of(study, arms, wanted)
    share = share_of(request.array_task, len(seeds))
    folder = Path(request.output)
    jobs = jobs_of(study, folder, arms, _taken(seeds, share))
    if request.dry_run:
        print(table_of(jobs))
        return 0
    write_plan(study, folder)
    if share is not None:
        mine = ", ".join(map(str, _taken(seeds, share)))
        print(f"Task {share.place} of {share.of} has seed {mine}.")
    budget = study.sections.study.budget
    minutes = request.minutes or budget.minutes
    outcome = run_jobs(
        jobs,
        request.jobs or budget.jobs,
        budget.threads,
        lambda: minutes is None or time.monotonic() - clock < 60 * minutes,
    )
    print(summary_of(jobs, outcome, minutes))
    if share is None or not unfinished(jobs_of(study, folder, arms, seeds)):
        report(folder)
    else:
        print("The report is written by the task that ends last.")
    return int(bool(outcome.failed))


def run_jobs(jobs: Sequence[Job], lanes: int, threads: int, has_time: Callable[[], bool]) -> Outcome:
    """Run jobs with their progress shown.

    Args:
        jobs: in order.
        lanes: most runs at a time.
        threads: CPU threads of a run.
        has_time: called without arguments; whether another run may begin.
    """
    progress = StudyProgress(len(unfinished(jobs)))
    try:
        return run_all(jobs, lanes, threads, progress, has_time)
    finally:
        progress.close()


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """The runs that are not complete and not held back."""
    return [job for job in jobs if job.state != "complete" and job.held_back_by is None]


def held_back(jobs: Sequence[Job]) -> list[Job]:
    """The runs that do not begin, since the warm start of their seed ended too low."""
    return [job for job in jobs if job.state != "complete" and job.held_back_by is not None]


def write_plan(study: StudyFile, folder: Path) -> None:
    """Write ``plan.json``; where it is there, claims that have not changed keep their time.

    Args:
        study: the study file.
        folder: the study's folder.
    """
    plan = study.plan(datetime.now(UTC).astimezone().isoformat(timespec="seconds"))
    before = StudyPlan.find(folder / PLAN)
    if before is not None and _stated(before) == _stated(plan):
        plan = replace(plan, planned=before.planned)
    plan.write(folder / PLAN)


def _stated(plan: StudyPlan) -> tuple[object, ...]:
    """What has to be fixed before the first run: claims, measures and thresholds."""
    return plan.claims, plan.primary, plan.delta, plan.learned


def report(folder: Path) -> None:
    """Write the report, where the packages for it are installed."""
    if missing_packages("reporting"):
        print(f"No report: {how_to_install('reporting')}")
        return
    from kvdistill.reporting.studies.study_report import write_study_report  # loads matplotlib and scipy

    print(f"Report: {write_study_report(folder)}")


def table_of(jobs: Sequence[Job]) -> str:
    """The runs as text, in their order, with what each starts from and how far it is."""
    lines = [f"{'priority':>8}  {'run':<36} {'starts from':<28} {'steps':>6}  state"]
    for job in jobs:
        start = "the base's model"
        if job.needs is not None:
            start = job.needs.name
        priority = "–"
        if not job.stage.warm:
            priority = str(job.stage.priority)
        steps = str(job.steps or "–")
        state: str = job.state
        if job.held_back_by is not None:
            state += ", held back"
        lines.append(f"{priority:>8}  {job.name:<36} {start:<28} {steps:>6}  {state}")
    total = sum(job.steps for job in unfinished(jobs))
    lines.append(f"{counted(len(jobs), 'run')}, {len(unfinished(jobs))} to do, at most {total:,} steps.")
    return "\n".join(lines)


def summary_of(jobs: Sequence[Job], outcome: Outcome, minutes: float | None) -> str:
    """What came of the runs, as one or more sentences."""
    done = sum(job.state == "complete" for job in jobs)
    if done == len(jobs):
        return f"All {counted(done, 'run')} are complete."
    told = f"{done} of {counted(len(jobs), 'run')} are complete."
    starts = {start.name: start for job in held_back(jobs) if (start := job.held_back_by) is not None}
    for start in starts.values():
        told += (
            f" Seed {start.seed} is held back: {start.name} ended at validation accuracy "
            f"{start.logged.accuracy or 0.0:.3f}, and require_accuracy is {start.stage.require_accuracy:g}."
        )
    if not unfinished(jobs):
        return told
    if outcome.out_of_time:
        told += f" The {minutes:g} minutes are used up."
    if outcome.failed:
        told += f" Failed: {', '.join(job.name for job in outcome.failed)} (see console.txt in each folder)."
    return f"{told} The same command continues from here."


def _taken(seeds: Sequence[int], share: Share | None) -> list[int]:
    if share is None:
        return list(seeds)
    return list(seeds)[share.place :: share.of]


def _seeds(text: str) -> list[int]:
    try:
        return seed_list(text)
    except ValueError as error:
        raise ValueError(f"--seeds {error} (given: {text})") from None
