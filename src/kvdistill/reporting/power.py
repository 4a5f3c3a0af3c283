"""Power of the paired t test: the seeds that an effect needs, and the effect that given seeds can show."""

import numpy as np
from scipy.special import nctdtr, nctdtrinc, stdtrit


def seeds_needed(sd: float, delta: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Fewest seeds with which a paired t test finds a true mean difference of ``delta``.

    ``sd`` is the standard deviation of the differences, in the unit of ``delta``; the test is two-sided at
    level ``alpha``, and ``power`` is the probability that it finds the difference.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2 (noncentral t).
    """
    effect = delta / max(sd, delta / 100)  # in standard deviations; bounded where there is no spread
    num = 2
    while _power(num, effect, alpha) < power:
        num *= 2
    below = num // 2
    while num - below > 1:
        middle = (below + num) // 2
        if _power(middle, effect, alpha) >= power:
            num = middle
        else:
            below = middle
    return num


def detectable_effect(sd: float, num: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true mean difference that a paired t test finds with ``num`` seeds.

    The inverse of :func:`seeds_needed`: what the seeds at hand could have shown.

    Args:
        sd: standard deviation of the differences over seeds, in the unit of the measure.
        num: number of paired seeds, at least two.
        alpha: level of the two-sided test.
        power: probability that the test finds the difference.

    Returns:
        The difference, in the unit of ``sd``.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2 (noncentral t).
    """
    # The noncentrality whose t exceeds the critical value with this probability, in standard errors.
    noncentrality = float(nctdtrinc(num - 1, 1 - power, stdtrit(num - 1, 1 - alpha / 2)))
    return sd * noncentrality / float(np.sqrt(num))


def _power(num: int, effect: float, alpha: float) -> float:
    """Power of the two-sided t test with ``num`` seeds for a true effect in standard deviations."""
    return 1 - float(nctdtr(num - 1, effect * np.sqrt(num), stdtrit(num - 1, 1 - alpha / 2)))
