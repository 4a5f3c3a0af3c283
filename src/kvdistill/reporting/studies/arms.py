"""``study.json``: all numbers of a study, computed from its run folders and its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np

from kvdistill.records.jsonfile import JsonFile
from kvdistill.records.schema import Curve
from kvdistill.records.study import PLAN, ArmPlan, StudyPlan
from kvdistill.reporting.proportions import fisher
from kvdistill.reporting.stats import area, spread_interval
from kvdistill.reporting.studies.arm_runs import ArmRun, WarmRun, options_by_arm, read_runs, read_warm_runs
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.judged import JudgedClaim
from kvdistill.reporting.studies.planned_claims import judge_planned
from kvdistill.reporting.survival import CensoredTime, log_rank, time_to


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm over its seeds."""

    plan: ArmPlan
    method: str
    """What it trains, by its configuration; empty before a run counts."""
    unfinished: list[int]
    """Seeds whose run was begun and is not complete."""
    measures: dict[str, Estimate]
    """Where measured: ``accuracy`` and ``nats`` on the test set, ``area`` of the validation curve,
    ``steps_to_90`` (the last step of runs that never reached the goal), ``passes``, ``minutes``, and
    ``difference``, the primary measure minus the baseline's over common seeds.
    """
    spread: float | None = None
    """Standard deviation of the accuracy over seeds, with the ends of its 95 % interval."""
    spread_low: float | None = None
    spread_high: float | None = None
    learned: list[int]
    """Seeds whose test accuracy reached the plan's ``learned``."""
    times: dict[int, CensoredTime]
    """Steps until the validation accuracy reached it, by seed."""
    p_time: float | None = None
    """Log-rank test of these times against the baseline's."""
    p_learned: float | None = None
    """Fisher's exact test of the share of seeds that learned against the baseline's."""
    by_depth: dict[int, float]
    """Mean accuracy by depth of the question."""
    curves: dict[int, Curve]
    """Validation accuracy by seed."""

    @property
    def seeds(self) -> list[int]:
        """Seeds with a complete and evaluated run."""
        if "accuracy" not in self.measures:
            return []
        return list(self.measures["accuracy"].by_seed)


@dataclass(frozen=True, kw_only=True)
class StudyNumbers(JsonFile):
    """``study.json``."""

    made_by: ClassVar[str] = "kvdistill study report"

    plan: StudyPlan
    rows: dict[str, ArmRow]
    claims: list[JudgedClaim]
    warm: list[WarmRun]
    options: dict[str, dict[str, str]]
    """Options in which an arm differs from the baseline, as JSON, by arm."""
    first_started: str | None
    """When the first run of an arm began; None before one did."""
    chance: float | None
    """Accuracy of always giving the most frequent answer, mean over runs."""
    warnings: list[str]
    notes: list[str]
    """What does not count and why, one sentence each."""
    commits: list[str]
    hardware: list[str]
    commands: dict[str, str]
    """The command of each arm's first run."""

    @property
    def hours(self) -> float:
        """Hours that all runs took together, warm starts included."""
        minutes = [value for row in self.rows.values() for value in by_seed(row, "minutes").values()]
        return (sum(minutes) + sum(run.minutes for run in self.warm)) / 60


def by_seed(row: ArmRow, measure: str) -> Mapping[int, float]:
    """Values of a measure by seed; empty where it was not measured."""
    if measure not in row.measures:
        return {}
    return row.measures[measure].by_seed


def study_numbers(folder: Path) -> StudyNumbers:
    """Compute the numbers and verdicts of a study.

    Args:
        folder: the study's folder, with ``plan.json`` and run folders.

    Raises:
        FileNotFoundError: if there is no plan in it.
    """
    plan = StudyPlan.read(folder / PLAN)
    runs, notes = read_runs(folder, plan)
    warm = read_warm_runs(folder, plan)
    counting = [run for run in runs if run.counts]
    values = {name: _values([run for run in counting if run.arm == name], plan.learned) for name in plan.arms}
    options, unlike = options_by_arm(counting, plan.baseline)
    chances = [run.chance for run in counting if run.chance is not None]
    chance = None
    if chances:
        chance = float(np.mean(chances))
    first_started = min((run.record.started for run in runs), default=None)
    rows = {name: _row(name, plan, [run for run in runs if run.arm == name], values) for name in plan.arms}
    base = rows.get(plan.baseline or "")
    return StudyNumbers(
        plan=plan,
        rows={name: _tested(row, base) for name, row in rows.items()},
        claims=judge_planned(plan, counting, values, _held_back(plan, warm)),
        warm=warm,
        options=options,
        first_started=first_started,
        chance=chance,
        warnings=[*_late_claims(plan, first_started), *_poor_starts(plan, warm), *unlike],
        notes=notes,
        commits=list(dict.fromkeys(run.record.commit or "not from a repository" for run in counting)),
        hardware=list(dict.fromkeys(run.record.hardware for run in counting)),
        commands={run.arm: run.record.command or "not recorded" for run in reversed(counting)},
    )


def _values(runs: Sequence[ArmRun], learned: float) -> dict[str, dict[int, float]]:
    """Values of one arm's runs: measure -> seed -> value."""
    table: dict[str, dict[int, float]] = {}
    for run in runs:
        found: dict[str, float | None] = {
            "accuracy": run.accuracy,
            "nats": run.nats,
            "passes": run.passes,
            "minutes": run.minutes,
        }
        if run.curve is not None:
            found["area"] = area(run.curve)
            found["steps_to_90"] = float(time_to(learned, run.curve).steps)
        for name, value in found.items():
            if value is not None:
                table.setdefault(name, {})[run.record.seed] = value
    return table


def _row(
    name: str, plan: StudyPlan, runs: Sequence[ArmRun], values: Mapping[str, Mapping[str, dict[int, float]]]
) -> ArmRow:
    counting = [run for run in runs if run.counts]
    own = dict(values[name])
    if plan.baseline is not None and plan.baseline != name:
        base = values[plan.baseline].get(plan.primary, {})
        mine = own.get(plan.primary, {})
        own["difference"] = {seed: mine[seed] - base[seed] for seed in mine if seed in base}
    estimates = {key: Estimate.of(found) for key, found in own.items()}
    accuracy = list(own.get("accuracy", {}).values())
    spread: dict[str, float] = {}
    if len(accuracy) > 1:
        interval = spread_interval(accuracy)
        spread = {
            "spread": float(np.std(accuracy, ddof=1)),
            "spread_low": interval.low,
            "spread_high": interval.high,
        }
    return ArmRow(
        plan=plan.arms[name],
        method=next((run.method for run in counting), ""),
        unfinished=sorted(run.record.seed for run in runs if not run.counts),
        measures={key: estimate for key, estimate in estimates.items() if estimate is not None},
        learned=[run.record.seed for run in counting if (run.accuracy or 0.0) >= plan.learned],
        times={
            run.record.seed: time_to(plan.learned, run.curve) for run in counting if run.curve is not None
        },
        by_depth=_by_depth(counting),
        curves={run.record.seed: run.curve for run in counting if run.curve is not None},
        **spread,
    )


def _tested(row: ArmRow, base: ArmRow | None) -> ArmRow:
    """The row with its tests against the baseline."""
    if base is None or base is row or not (row.seeds and base.seeds):
        return row
    return replace(
        row,
        p_time=time_test(row, base),
        p_learned=fisher((len(row.learned), len(row.seeds)), (len(base.learned), len(base.seeds))),
    )


def time_test(first: ArmRow, second: ArmRow) -> float | None:
    """P-value of the log-rank test on the time to learn of two arms.

    Returns:
        The p-value; None where an arm has no curve, or no run of either learned.
    """
    if not (first.times and second.times):
        return None
    return log_rank(list(first.times.values()), list(second.times.values()))


def _by_depth(runs: Sequence[ArmRun]) -> dict[int, float]:
    """Mean over seeds of the accuracy at each depth."""
    depths = sorted({depth for run in runs for depth in run.by_depth})
    return {
        depth: float(np.mean([run.by_depth[depth] for run in runs if depth in run.by_depth]))
        for depth in depths
    }


def _late_claims(plan: StudyPlan, first_started: str | None) -> list[str]:
    """A warning where claims were written or changed after the first run had begun."""
    if not plan.claims or first_started is None:
        return []
    if datetime.fromisoformat(plan.planned) <= datetime.fromisoformat(first_started):
        return []
    return [
        f"The claims were written at {plan.planned}, after the first run had begun at {first_started}: "
        "their verdicts describe these seeds and do not confirm."
    ]


def _held_back(plan: StudyPlan, warm: Sequence[WarmRun]) -> set[int]:
    """Seeds of which a warm start ended too low: runs that start from it never begin."""
    goals = {stage.name: stage.require_accuracy or 0.0 for stage in plan.warm}
    return {run.seed for run in warm if (run.accuracy or 0.0) < goals[run.stage]}


def _poor_starts(plan: StudyPlan, warm: Sequence[WarmRun]) -> list[str]:
    """A note for each warm stage that ended below the accuracy that it has to reach, with its seeds."""
    said = []
    for stage in plan.warm:
        goal = stage.require_accuracy
        if goal is None:
            continue
        poor = [run for run in warm if run.stage == stage.name and (run.accuracy or 0.0) < goal]
        if poor:
            seeds = seeds_in_words([run.seed for run in poor])
            said.append(
                f"The warm start {stage.name} of seed {seeds} ended below accuracy {goal:g}: "
                "that seed is held back."
            )
    return said
