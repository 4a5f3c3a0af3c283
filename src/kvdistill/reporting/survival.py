"""Steps to a goal as censored times: a run that ends below the goal is known to take longer than it was."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kvdistill.records.schema import Curve


@dataclass(frozen=True, kw_only=True)
class CensoredTime:
    """Training steps until an event, or until observation ended without it."""

    steps: int
    reached: bool
    """Whether the event came at ``steps``; otherwise it would have come later (right-censored)."""


def time_to(goal: float, curve: Curve) -> CensoredTime:
    """First evaluation at which a curve reaches a goal; censored at its last step if it never does.

    Args:
        goal: accuracy, 0 to 1, which itself counts as reached.
        curve: validation accuracy over training steps.

    Source: ours.
    """
    for step, accuracy in zip(curve.steps, curve.accuracy, strict=True):
        if accuracy >= goal - 1e-12:
            return CensoredTime(steps=step, reached=True)
    return CensoredTime(steps=curve.steps[-1], reached=False)


def median_time(times: Sequence[CensoredTime]) -> float | None:
    """Median steps by the Kaplan-Meier estimate: the first step at which half of the runs have the event.

    Args:
        times: one per run, at least one.

    Returns:
        Training steps; None where fewer than half of the runs had the event.

    Source: Kaplan and Meier 1958, Nonparametric Estimation from Incomplete Observations.
    """
    survival = stats.ecdf(_censored(times)).sf
    below = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    if not len(below):
        return None
    return float(below[0])


def log_rank(first: Sequence[CensoredTime], second: Sequence[CensoredTime]) -> float | None:
    """Log-rank test: two-sided p-value of "both have the event at the same rate", whatever the steps.

    Groups are taken as independent, so seeds that both share make the test cautious. With few events its
    normal approximation is rough.

    Args:
        first: one time per run, at least one.
        second: the same of the other group.

    Returns:
        The p-value; None where no event tells the groups apart: none came, or all at the same step.

    Source: Mantel 1966, Evaluation of Survival Data and Two New Rank Order Statistics.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value = float(stats.logrank(_censored(first), _censored(second)).pvalue)
    if not np.isfinite(p_value):
        return None
    return p_value


def _censored(times: Sequence[CensoredTime]) -> stats.CensoredData:
    return stats.CensoredData.right_censored(
        [time.steps for time in times], [not time.reached for time in times]
    )
