"""``kvdistill study pilot``: can a candidate task tell methods apart, before a study is run on it?

CoT, direct answers, E1 and ``step_end`` are run on a few seeds. The candidate is accepted if there is
something to distill (CoT is right, direct answers are not), E1 is neither at the floor nor at the ceiling,
and either the spread over seeds is small or the time to learn differs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kvdistill.commands.study.plan import jobs_of
from kvdistill.commands.study.run import held_back, run_jobs, summary_of, unfinished, write_plan
from kvdistill.config.study import PilotSection
from kvdistill.config.study_file import StudyFile, read_study
from kvdistill.console.wording import number
from kvdistill.records.pilot import Criterion, PilotRecord
from kvdistill.reporting.studies.arms import StudyNumbers, by_seed, time_test
from kvdistill.reporting.studies.study_report import write_study_report

ROLES = ("cot", "direct", "E1", "step_end")
"""The arms of a pilot, by name or experiment."""
NAME = "pilot.json"


def run_pilot(file: str, output: str, lanes: int | None) -> int:
    """Run a pilot and print whether the candidate is accepted.

    Args:
        file: a study file with the arms of ``ROLES``.
        output: the pilot's folder.
        lanes: runs side by side; None takes the file's.

    Returns:
        0 where the candidate is accepted, else 1.

    Raises:
        ValueError: if the file is wrong or lacks one of the arms.
    """
    study = read_study(file)
    arms = {role: study.arm(role) for role in ROLES}
    section = study.sections.pilot
    seeds = list(study.sections.study.seeds)[: section.seeds]
    folder = Path(output)
    jobs = jobs_of(study, folder, list(arms.values()), seeds)
    write_plan(study, folder)
    budget = study.sections.study.budget
    outcome = run_jobs(jobs, lanes or budget.jobs, budget.threads, lambda: True)
    if unfinished(jobs):
        print(summary_of(jobs, outcome, None))
        return 1
    report = write_study_report(folder)
    poor = {job.seed for job in held_back(jobs)}
    if poor:
        print(summary_of(jobs, outcome, None))
    record = judged(study, StudyNumbers.read(folder / "study.json"), arms, seeds, len(seeds) - len(poor))
    record.write(folder / NAME)
    print(table_of(record))
    print(f"Report: {report}")
    return int(not record.accepted)


def judged(
    study: StudyFile, numbers: StudyNumbers, arms: Mapping[str, str], seeds: list[int], warmed_up: int
) -> PilotRecord:
    """Hold a pilot's numbers against its criteria.

    Args:
        study: the study file.
        numbers: the numbers of its runs.
        arms: the arm of each of ``ROLES``.
        seeds: the pilot's seeds.
        warmed_up: how many of them have a warm start that arms may start from.
    """
    section, primary = study.sections.pilot, study.sections.study.primary

    def values(role: str, measure: str) -> dict[int, float]:
        found = by_seed(numbers.rows[arms[role]], measure)
        return {seed: found[seed] for seed in seeds if seed in found}

    criteria = [
        Criterion(name="seeds that warm up", value=float(warmed_up), low=float(len(seeds))),
        _mean("CoT, accuracy", values("cot", "accuracy"), low=section.cot_at_least),
        _mean("direct, accuracy", values("direct", "accuracy"), high=section.direct_at_most),
        _mean(f"E1, {primary}", values("E1", primary), *section.e1_between),
        *_tells_apart(section, primary, values("E1", primary), values("step_end", primary), numbers, arms),
    ]
    minutes = [value for role in ROLES for value in values(role, "minutes").values()]
    mean_minutes = None
    if minutes:
        mean_minutes = float(np.mean(minutes))
    limit = section.minutes_at_most
    criteria.append(
        Criterion(name="minutes a run", value=mean_minutes, high=limit, required=limit is not None)
    )
    reasons = _reasons(criteria)
    return PilotRecord(
        candidate=study.sections.study.name,
        file=str(study.path),
        primary=primary,
        seeds=seeds,
        accepted=not reasons,
        reasons=reasons,
        criteria=criteria,
    )


SPREAD, TIME = "largest SD over seeds", "time to learn, p"
"""Names of the two criteria of which one has to be met."""


def _tells_apart(
    section: PilotSection,
    primary: str,
    e1: dict[int, float],
    step_end: dict[int, float],
    numbers: StudyNumbers,
    arms: Mapping[str, str],
) -> list[Criterion]:
    """The spread over seeds, and in its place the test of time to learn."""
    spreads = [float(np.std(list(found.values()), ddof=1)) for found in (e1, step_end) if len(found) > 1]
    rows = [numbers.rows[arms[role]] for role in ("E1", "step_end")]
    return [
        _mean(f"step_end, {primary}", step_end, required=False),
        Criterion(name=SPREAD, value=max(spreads, default=None), high=section.sd_at_most, required=False),
        Criterion(
            name=TIME,
            value=time_test(rows[0], rows[1]),
            high=section.p_at_most,
            required=False,
        ),
    ]


def _mean(
    name: str,
    values: dict[int, float],
    low: float | None = None,
    high: float | None = None,
    required: bool = True,
) -> Criterion:
    mean = None
    if values:
        mean = float(np.mean(list(values.values())))
    return Criterion(name=name, value=mean, by_seed=values, low=low, high=high, required=required)


def _reasons(criteria: list[Criterion]) -> list[str]:
    """Why a candidate is rejected; empty where it is accepted."""
    reasons = [
        f"{each.name} is {number(each.value)}, not {each.bounds}"
        for each in criteria
        if each.required and not each.met
    ]
    either = [each for each in criteria if each.name in (SPREAD, TIME)]
    if not any(each.met for each in either):
        told = " and ".join(f"{each.name} is {number(each.value)}, not {each.bounds}" for each in either)
        reasons.append(f"seeds do not tell E1 and step_end apart: {told}")
    return reasons


def table_of(record: PilotRecord) -> str:
    """A pilot's criteria as text, and what follows from them."""
    lines = [f"Pilot of {record.candidate}, seeds {', '.join(map(str, record.seeds))}"]
    for each in record.criteria:
        verdict = "–"
        if each.low is not None or each.high is not None:
            verdict = {True: "met", False: "NOT met"}[each.met]
        seeds = " ".join(number(value) for value in each.by_seed.values())
        lines.append(
            f"  {each.name:<24} {number(each.value):>8}  {each.bounds:<16} {verdict:<8} {seeds}".rstrip()
        )
    if record.accepted:
        lines.append("ACCEPTED")
    lines += [f"REJECTED: {reason}." for reason in record.reasons]
    return "\n".join(lines)
