"""Shares of few runs: an exact interval, and an exact test between two groups."""

from typing import Any

from scipy import stats
from scipy.special import betaincinv

from kvdistill.records.intervals import Interval


def exact_interval(count: int, num: int, alpha: float = 0.05) -> Interval:
    """Clopper-Pearson interval of a share, valid for any number of runs.

    Args:
        count: runs with the property.
        num: all runs, at least one.
        alpha: one minus the confidence.

    Returns:
        The ends of the interval, shares from 0 to 1.

    Source: Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404.

    Raises:
        ValueError: if there is no run, or more have the property than there are.
    """
    if num < 1 or not 0 <= count <= num:
        raise ValueError(
            f"{count} of {num} runs is no share: give at least one run, count each at most once."
        )
    low, high = 0.0, 1.0
    if count > 0:
        low = float(betaincinv(count, num - count + 1, alpha / 2))
    if count < num:
        high = float(betaincinv(count + 1, num - count, 1 - alpha / 2))
    return Interval(low=low, high=high)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Fisher's exact test: two-sided p-value of "both groups have the property equally often".

    Args:
        first: runs with the property, and all runs, of one group.
        second: the same of the other group.

    Source: Fisher 1935, The Design of Experiments, section 11.
    """
    table = [[count, num - count] for count, num in (first, second)]
    result: Any = stats.fisher_exact(table)
    return float(result.pvalue)
