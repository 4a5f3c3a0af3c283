"""Confidence intervals over questions: of an accuracy, and of a mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Confidence interval of a measured number, in its unit."""

    low: float
    high: float


def wilson_interval(correct: int, num: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of an accuracy.

    Args:
        correct: questions answered correctly.
        num: questions asked.
        confidence: level of the interval, from 0 to 1.

    Returns:
        The ends of the interval, shares from 0 to 1.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Raises:
        ValueError: if no question was asked, or more were right than asked.
    """
    if num < 1 or not 0 <= correct <= num:
        raise ValueError(
            f"{correct} correct of {num} questions is no accuracy: evaluate at least one question, count "
            "each at most once."
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / num
    centre = (p + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * sqrt(p * (1 - p) / num + z * z / (4 * num * num))
    low, high = centre - half, centre + half
    # At 0 and num the formula gives 0 and 1 only up to rounding.
    if correct == 0:
        low = 0.0
    if correct == num:
        high = 1.0
    return Interval(low=low, high=high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of a mean over questions, by the normal approximation.

    Args:
        values: one value per question, at least two.
        confidence: level of the interval, from 0 to 1.

    Returns:
        The ends of the interval, in the unit of the values.

    Source: central limit theorem; mean plus and minus z standard errors.

    Raises:
        ValueError: if there are fewer than two values, which have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no spread: give the values of at least two questions.")
    half = NormalDist().inv_cdf((1 + confidence) / 2) * stdev(values) / sqrt(len(values))
    mean = fmean(values)
    return Interval(low=mean - half, high=mean + half)
