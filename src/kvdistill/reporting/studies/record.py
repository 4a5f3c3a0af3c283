"""``EXPERIMENT_REPORT.json``: all numbers of the experiment report, computed from the runs of each study."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from kvdistill.records.jsonfile import JsonFile
from kvdistill.records.schema import Curve
from kvdistill.reporting.stats import (
    area,
    less_spread,
    roughness,
    spread_interval,
    steps_to,
)
from kvdistill.reporting.studies.claims import judge_claims
from kvdistill.reporting.studies.comparability import CLAIMED, differences
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.experiment_names import EXPERIMENTS
from kvdistill.reporting.studies.experiments import Run, Study, seeds_in_words
from kvdistill.reporting.studies.judged import JudgedClaim, Measure, Values
from kvdistill.reporting.studies.learning import CURVE_POINTS, Learning, by_depth, learning, learning_goal

SPREAD_SEEDS = 20
"""Fewest common seeds for a test of the spread over seeds."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment over its seeds."""

    experiment: str
    what: str
    """Its description."""
    unfinished: list[int]
    """Seeds whose run is not finished, or finished without an evaluation."""
    measures: dict[str, Estimate]
    """Where measured: ``accuracy`` and ``nats`` on the test set, ``difference_to_e1`` and
    ``nats_difference_to_e1`` over common seeds, ``passes``,
    ``area``, ``roughness``, ``steps_to_90``, and the last ``ce_student``, ``ce_teacher``, ``codi``, ``kv``,
    ``kv_weight`` and ``kv_lower_bound``.
    """
    spread: float | None = None
    """Standard deviation of the accuracy over seeds, with the ends of its 95 % interval."""
    spread_low: float | None = None
    spread_high: float | None = None
    curves: dict[int, Curve]
    """Validation accuracy by seed."""

    @property
    def seeds(self) -> list[int]:
        """The seeds with a finished and evaluated run."""
        if not self.measures:
            return []
        return list(self.measures["accuracy"].by_seed)


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One run with its provenance."""

    folder: str
    experiment: str
    seed: int
    state: str
    started: str
    seconds: float | None
    commit: str | None
    hardware: str
    versions: dict[str, str]
    command: str | None


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """The numbers of one study."""

    name: str
    rows: list[Row]
    claims: list[JudgedClaim]
    less_spread: dict[str, float]
    """P-value of "E4 varies less over seeds than this experiment"; empty below 20 common seeds."""
    unlike: bool
    """Whether runs that claims depend on differ in options that should be equal."""
    warnings: list[str]
    """One sentence each: chains of thought no better than direct answers, or options or code that differ."""
    notes: list[str]
    """What does not count and why, one sentence each."""
    runs: list[RunLine]
    chance: float | None = None
    """Share of the most frequent answer of the test set, averaged over runs; None where no run recorded it.
    """
    goal: float | None = None
    """Accuracy (0 to 1) from which a run counts as having learned; None in files of older versions."""
    learning: list[Learning] | None = None
    """How often and how soon the runs of each experiment reach the goal."""
    by_depth: dict[str, dict[int, Estimate]] | None = None
    """Accuracy over seeds by experiment and depth; None where no depth was recorded."""

    @property
    def caveat(self) -> str:
        """What is added to a verdict that rests on unlike runs."""
        if self.unlike:
            return ", resting on unlike runs"
        return ""

    def row(self, experiment: str) -> Row:
        """The row of one of ``EXPERIMENTS``; it exists even if nothing ran."""
        return next(row for row in self.rows if row.experiment == experiment)


@dataclass(frozen=True, kw_only=True)
class ExperimentReport(JsonFile):
    """``EXPERIMENT_REPORT.json``."""

    made_by: ClassVar[str] = "python scripts/analyze_results.py"

    delta: float
    """The smallest difference of accuracy that matters, as a share."""
    studies: list[StudyRecord]
    others: list[str]
    """Folders of runs that belong to no study."""


def summarise(study: Study, delta: float) -> StudyRecord:
    """Compute the rows and verdicts of a study.

    Args:
        study: its runs.
        delta: smallest difference of accuracy that matters, as a share.

    Raises:
        ValueError: if ``delta`` is not above 0.
    """
    counting = study.counting
    names = [*EXPERIMENTS, *sorted({run.experiment for run in study.runs} - EXPERIMENTS.keys())]
    measured = {name: _measured([run for run in counting if run.experiment == name]) for name in names}
    claimed = [run for run in counting if run.experiment in CLAIMED]
    goal = learning_goal(counting)
    return StudyRecord(
        name=study.name,
        rows=[_row(name, study.runs, measured) for name in names],
        claims=judge_claims(measured, deltas(claimed, delta)),
        less_spread=_less_spread(measured),
        unlike=bool(differences(claimed)),
        warnings=_nothing_to_distil(measured, delta) + differences(counting) + _states_of_code(counting),
        notes=study.notes,
        runs=[_line(run) for run in study.runs],
        chance=_mean_chance(counting),
        goal=goal,
        learning=learning(counting, names, goal),
        by_depth=by_depth(counting, names),
    )


def _mean_chance(runs: Sequence[Run]) -> float | None:
    chances = [run.chance for run in runs if run.chance is not None]
    if not chances:
        return None
    return float(np.mean(chances))


def deltas(runs: Sequence[Run], delta: float) -> dict[Measure, float]:
    """The smallest difference that matters, by measure.

    It is ``delta`` for accuracy, area and roughness, whose unit is accuracy, and the median evaluation
    interval for steps, since a curve resolves nothing finer.

    Source: ours.
    """
    gaps = [gap for run in runs if run.curve is not None for gap in np.diff(run.curve.steps)]
    steps = float(np.median(gaps or [1.0]))
    return {"accuracy": delta, "area": delta, "roughness": delta, "steps_to_90": steps}


def steps_to_90(curve: Curve) -> int:
    """First step at which a run reaches 90 % of its own last accuracy; all its steps if it ends at 0.

    Source: ours.
    """
    if curve.accuracy[-1] <= 0:
        return curve.steps[-1]
    step = steps_to(0.9, curve)
    assert step is not None  # the last evaluation reaches it at the latest
    return step


def _measured(runs: Sequence[Run]) -> dict[str, dict[int, float]]:
    """Values of one experiment's runs: measure -> seed -> value."""
    table: dict[str, dict[int, float]] = {}
    for run in sorted(runs, key=lambda run: run.record.seed):
        values: dict[str, float | None] = {"accuracy": run.accuracy, "passes": run.passes} | run.last
        if run.evaluation is not None:
            values["nats"] = run.evaluation.nats
        if run.curve is not None and len(run.curve.steps) >= CURVE_POINTS:
            values |= {
                "area": area(run.curve),
                "roughness": roughness(run.curve),
                "steps_to_90": float(steps_to_90(run.curve)),
            }
        for name, value in values.items():
            if value is not None:
                table.setdefault(name, {})[run.record.seed] = value
    return table


def _row(name: str, runs: Sequence[Run], measured: Values) -> Row:
    own = [run for run in runs if run.experiment == name]
    accuracy = measured[name].get("accuracy", {})
    values = dict(measured[name])
    if name != "E1":
        values["difference_to_e1"] = _minus_e1(measured, name, "accuracy")
        values["nats_difference_to_e1"] = _minus_e1(measured, name, "nats")
    estimates = {key: Estimate.of(by_seed) for key, by_seed in values.items()}
    counting = {run.record.seed for run in own if run.state == "counts"}
    row = Row(
        experiment=name,
        what=EXPERIMENTS.get(name, "in no claim"),
        unfinished=sorted({run.record.seed for run in own} - counting),
        measures={key: estimate for key, estimate in estimates.items() if estimate is not None},
        curves={run.record.seed: run.curve for run in own if run.state == "counts" and run.curve is not None},
    )
    if len(accuracy) < 2:
        return row
    shares = list(accuracy.values())
    interval = spread_interval(shares)
    spread = float(np.std(shares, ddof=1))
    return replace(row, spread=spread, spread_low=interval.low, spread_high=interval.high)


def _minus_e1(measured: Values, name: str, measure: str) -> dict[int, float]:
    """Differences of an experiment to E1, by common seed."""
    own, base = measured[name].get(measure, {}), measured["E1"].get(measure, {})
    return {seed: own[seed] - base[seed] for seed in own if seed in base}


def _nothing_to_distil(measured: Values, delta: float) -> list[str]:
    """A warning where the chain of thought, which is distilled, is no better than direct answers."""
    cot, direct = (measured[name].get("accuracy", {}) for name in ("CoT", "direct"))
    seeds = [seed for seed in sorted(cot.keys() & direct.keys()) if cot[seed] - direct[seed] < delta]
    if not seeds:
        return []
    said, guessed = (100 * float(np.mean([values[seed] for seed in seeds])) for values in (cot, direct))
    return [
        f"In seed {seeds_in_words(seeds)} the chain of thought answers {said:.1f} % right and a "
        f"direct answer {guessed:.1f} %: "
        "there is nothing to distil, and the comparisons say nothing about the methods. Train the CoT "
        "reference longer (WARM_STEPS, "
        "EPOCHS) or choose another model."
    ]


def _states_of_code(runs: Sequence[Run]) -> list[str]:
    by_state: dict[str, list[str]] = {}
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(run.record.versions.items()))
        by_state.setdefault(f"{run.record.commit or 'no commit'} ({versions})", []).append(run.folder)
    if len(by_state) < 2:
        return []
    told = "; ".join(f"{state} made {', '.join(folders)}" for state, folders in by_state.items())
    return [f"Not all runs were made by the same code: {told}."]


def _less_spread(measured: Values) -> dict[str, float]:
    found = {}
    for other in ("E2", "E3"):
        first, second = (measured[name].get("accuracy", {}) for name in ("E4", other))
        seeds = sorted(first.keys() & second.keys())
        if len(seeds) >= SPREAD_SEEDS:
            found[other] = less_spread([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    return found


def _line(run: Run) -> RunLine:
    record = run.record
    return RunLine(
        folder=run.folder,
        experiment=run.experiment,
        seed=record.seed,
        state=run.state,
        started=record.started,
        seconds=record.seconds,
        commit=record.commit,
        hardware=record.hardware,
        versions=record.versions,
        command=record.command,
    )
