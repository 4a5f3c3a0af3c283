"""How often and how soon the runs of an experiment learn, and their accuracy by depth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvdistill.reporting.proportions import exact_interval, fisher
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.experiments import Run
from kvdistill.reporting.survival import CensoredTime, log_rank, median_time, time_to

FRACTION = 0.9
"""Share of the chain of thought's accuracy from which a run counts as having learned."""
CURVE_POINTS = 3
"""Fewest evaluations of a curve for area, roughness and steps to a goal."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The runs of one experiment, by whether and when they reach the goal."""

    experiment: str
    num: int
    """Runs that count."""
    learned: int
    """Runs whose test accuracy is at the goal."""
    low: float
    """Lower end of the exact 95 % interval of their share."""
    high: float
    p_learned: float | None
    """Fisher's exact test of their share against E1's, two-sided; None for E1, or where E1 did not run."""
    num_timed: int
    """Runs with a validation curve."""
    num_reached: int
    """Runs whose validation accuracy reached the goal at some evaluation."""
    steps: float | None
    """Kaplan-Meier median of the steps to the goal; None where fewer than half of the runs reached it."""
    p_steps: float | None
    """Log-rank test of the steps to the goal against E1's, two-sided; None where it cannot be made."""


def learning_goal(runs: Sequence[Run]) -> float:
    """Accuracy from which a run counts as having learned.

    It is fixed by the reference that is distilled, not by the runs compared: 90 % of the mean test accuracy
    of the chain of thought, or 90 % where no run of it counts.

    Args:
        runs: the runs of a study that count.

    Source: ours.
    """
    reference = [run.accuracy for run in runs if run.experiment == "CoT" and run.accuracy is not None]
    if not reference:
        return FRACTION
    return FRACTION * float(np.mean(reference))


def learning(runs: Sequence[Run], names: Sequence[str], goal: float) -> list[Learning]:
    """How often and how soon each experiment reaches the goal, each beside E1.

    Args:
        runs: the runs of a study that count.
        names: experiments in the order of the report; those without a run, and the chain of thought, which
            sets the goal, are left out.
        goal: accuracy, 0 to 1.
    """
    base = [run for run in runs if run.experiment == "E1"]
    found = []
    for name in names:
        own = [run for run in runs if run.experiment == name]
        if own and name != "CoT":
            found.append(_learning(name, own, base, goal))
    return found


def _learning(name: str, own: Sequence[Run], base: Sequence[Run], goal: float) -> Learning:
    learned, times = _learned(own, goal), _times(own, goal)
    interval = exact_interval(learned, len(own))
    p_learned, p_steps, steps = None, None, None
    if name != "E1" and base:
        p_learned = fisher((learned, len(own)), (_learned(base, goal), len(base)))
        others = _times(base, goal)
        if times and others:
            p_steps = log_rank(times, others)
    if times:
        steps = median_time(times)
    return Learning(
        experiment=name,
        num=len(own),
        learned=learned,
        low=interval.low,
        high=interval.high,
        p_learned=p_learned,
        num_timed=len(times),
        num_reached=sum(time.reached for time in times),
        steps=steps,
        p_steps=p_steps,
    )


def _learned(runs: Sequence[Run], goal: float) -> int:
    return sum(run.accuracy is not None and run.accuracy >= goal - 1e-12 for run in runs)


def _times(runs: Sequence[Run], goal: float) -> list[CensoredTime]:
    curves = [run.curve for run in runs if run.curve is not None]
    return [time_to(goal, curve) for curve in curves if len(curve.steps) >= CURVE_POINTS]


def by_depth(runs: Sequence[Run], names: Sequence[str]) -> dict[str, dict[int, Estimate]] | None:
    """Test accuracy over seeds by experiment and depth.

    Args:
        runs: the runs of a study that count.
        names: experiments in the order of the report.

    Returns:
        Estimates by experiment, depths in ascending order; None where no evaluation knows depths.
    """
    table: dict[str, dict[int, Estimate]] = {}
    for name in names:
        values: dict[int, dict[int, float]] = {}
        for run in runs:
            if run.experiment != name or run.evaluation is None or run.evaluation.by_depth is None:
                continue
            for depth, count in run.evaluation.by_depth.items():
                values.setdefault(depth, {})[run.record.seed] = count.accuracy
        estimates = {depth: Estimate.of(values[depth]) for depth in sorted(values)}
        if estimates:
            table[name] = {depth: found for depth, found in estimates.items() if found is not None}
    return table or None
