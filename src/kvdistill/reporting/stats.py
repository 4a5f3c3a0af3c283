"""Statistics of paired seeds (t intervals, sign flips, Holm) and three measures of a training curve.

The unit of replication is the seed: questions are averaged within a seed, and two methods are paired by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

from kvdistill.records.intervals import Interval
from kvdistill.records.schema import Curve
from kvdistill.reporting.power import detectable_effect, seeds_needed

SIGN_FLIP_SEEDS = 6
"""Fewest seeds for the sign-flip test: below, its smallest p-value is above 0.05."""
_EXACT_SEEDS = 16
"""Most seeds for which all sign patterns are enumerated."""
_DRAWS = 65536
Outcome = Literal["supported", "not supported", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The test of a claim. Mean, sd and interval are of the unshifted differences, in the measure's unit."""

    claim: "Claim"
    num_seeds: int
    mean: float
    sd: float
    """Sample standard deviation of the differences."""
    interval: Interval
    p_value: float
    """Twice the one-sided p-value of the paired t test if the claim is false; after Holm in a family."""
    p_sign_flip: float | None
    """The same from the sign-flip test; None below six seeds."""
    outcome: Outcome
    further_seeds: int | None
    """Number of seeds to add where inconclusive, else None."""

    @property
    def detectable(self) -> float:
        """The true mean difference that this many seeds would have found with power 0.8, in the claim's
        direction: at least it (``superiority``, ``non_inferiority``), or at most it (``negligible``).
        """
        size, delta = detectable_effect(self.sd, self.num_seeds, self.claim.alpha), self.claim.delta
        return {"superiority": size, "non_inferiority": size - delta, "negligible": delta - size}[
            self.claim.kind
        ]

    def __str__(self) -> str:
        outcome: str = self.outcome
        if self.further_seeds is not None:
            outcome += f", needs {self.further_seeds} more seeds"
        spread = f"difference {self.mean:+.4g} [{self.interval.low:+.4g}, {self.interval.high:+.4g}]"
        return f"{self.claim.name}: {outcome} ({spread}, {self.num_seeds} seeds, p = {self.p_value:.2g})"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim about the difference of two methods, tested on paired seeds.

    The three kinds are one rule on shifted differences d: ``superiority`` d, ``non_inferiority`` d + delta,
    ``negligible`` delta - d. The claim is supported if the interval of the shifted mean is above 0, not
    supported if its upper end is below delta, else inconclusive.

    Source: ours.
    """

    name: str
    delta: float = 0.02
    """The smallest difference that matters, in the measure's unit: 0.02 is two points of accuracy."""
    kind: Literal["superiority", "non_inferiority", "negligible"] = "superiority"
    alpha: float = 0.05
    """One minus the confidence of the interval."""

    def __post_init__(self) -> None:
        if not 0 < self.delta < math.inf:
            raise ValueError(
                f"claim {self.name}: delta is {self.delta}. Give the smallest difference that matters, "
                "above 0."
            )

    def judge(self, first: Sequence[float], second: Sequence[float]) -> Verdict:
        """Test the claim on ``first - second``; where smaller is better, swap the two.

        Args:
            first: one value per seed, in the measure's unit.
            second: the other method's values; ``first[i]`` and ``second[i]`` come from the same seed.

        Raises:
            ValueError: if the seeds are not paired, fewer than two, or a value is not finite.
        """
        if len(first) != len(second) or len(first) < 2:
            raise ValueError(
                f"claim {self.name}: {len(first)} and {len(second)} values. Give one value a seed, same "
                "seeds, at least two."
            )
        differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
        if not np.isfinite(differences).all():
            raise ValueError(
                f"claim {self.name}: a value is not finite. Leave out the seed on both sides, and say so."
            )
        shifted = self._shift(differences)
        num, sd = len(differences), float(differences.std(ddof=1))
        outcome, p_sign_flip, further_seeds = self._outcome(shifted), None, None
        if num >= SIGN_FLIP_SEEDS:
            p_sign_flip = sign_flip(shifted.tolist())
        if outcome == "inconclusive":
            further_seeds = max(1, seeds_needed(sd, self.delta, self.alpha) - num)
        return Verdict(
            claim=self,
            num_seeds=num,
            mean=float(differences.mean()),
            sd=sd,
            interval=paired_t_interval(differences.tolist(), self.alpha),
            p_value=_p_value(shifted),
            p_sign_flip=p_sign_flip,
            outcome=outcome,
            further_seeds=further_seeds,
        )

    def _outcome(self, shifted: np.ndarray) -> Outcome:
        low, high = _limits(shifted, self.alpha)
        if low > 0:
            return "supported"
        if high < self.delta:
            return "not supported"
        return "inconclusive"

    def _shift(self, differences: np.ndarray) -> np.ndarray:
        """Shift the differences so that the claim reads "their mean is above 0", whatever its kind."""
        return {
            "superiority": differences,
            "non_inferiority": differences + self.delta,
            "negligible": self.delta - differences,
        }[self.kind]


def judge_family(verdicts: Sequence[Verdict], alpha: float = 0.05, num_untested: int = 0) -> list[Verdict]:
    """Correct the verdicts of a family of claims with Holm's method.

    A claim that is no longer supported becomes inconclusive; its further seeds are computed for Holm's
    strictest step.

    Args:
        verdicts: the claims of the family that were tested.
        alpha: level of the family.
        num_untested: claims without a verdict yet; they count with p = 1, so that testing them later cannot
            revoke a verdict.
    """
    judged = []
    p_values = holm([*(verdict.p_value for verdict in verdicts), *[1.0] * num_untested])[: len(verdicts)]
    for verdict, p_value in zip(verdicts, p_values, strict=True):
        if verdict.outcome == "supported" and p_value >= alpha:
            needed = seeds_needed(verdict.sd, verdict.claim.delta, alpha / (len(verdicts) + num_untested))
            further_seeds = max(1, needed - verdict.num_seeds)
            verdict = replace(verdict, outcome="inconclusive", further_seeds=further_seeds)
        judged.append(replace(verdict, p_value=p_value))
    return judged


def paired_t_interval(differences: Sequence[float], alpha: float = 0.05) -> Interval:
    """Student's t interval of the mean difference over seeds, in the differences' unit.

    Source: Student 1908; two-sided at confidence ``1 - alpha``.
    """
    low, high = _limits(np.asarray(differences, dtype=float), alpha)
    return Interval(low=low, high=high)


def spread_interval(values: Sequence[float], alpha: float = 0.05) -> Interval:
    """Interval of the standard deviation over seeds, for normally distributed values.

    Source: the chi-squared distribution of the sample variance; two-sided at confidence ``1 - alpha``.
    """
    free, sd = len(values) - 1, float(np.std(values, ddof=1))
    low, high = (sd * float(np.sqrt(free / chdtri(free, tail))) for tail in (alpha / 2, 1 - alpha / 2))
    return Interval(low=low, high=high)


def less_spread(first: Sequence[float], second: Sequence[float]) -> float:
    """Pitman-Morgan test: twice the one-sided p-value of "``first`` varies less over seeds than ``second``".

    Two paired variances are equal exactly if sums and differences of the pairs are uncorrelated.

    Source: Pitman 1939, A Note on Normal Correlation; Morgan 1939.
    """
    sums, gaps = np.add(first, second), np.subtract(first, second)
    sums, gaps = sums - sums.mean(), gaps - gaps.mean()
    size = float(np.linalg.norm(sums) * np.linalg.norm(gaps))
    r = float(sums @ gaps) / size if size else 0.0
    free = len(first) - 2
    return min(1.0, 2 * float(stdtr(free, r * np.sqrt(free / max(1 - r * r, 1e-12)))))


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Sign-flip test: twice the one-sided p-value of "the mean difference is above 0".

    Exact up to 16 seeds; beyond, from 65536 random sign patterns drawn with ``seed``.

    Source: Fisher 1935, The Design of Experiments, section 21.

    Raises:
        ValueError: below six seeds, where no data could reach 0.05.
    """
    num = len(differences)
    if num < SIGN_FLIP_SEEDS:
        raise ValueError(f"{num} seeds are too few for the sign-flip test: run at least {SIGN_FLIP_SEEDS}.")
    if num <= _EXACT_SEEDS:
        signs = 1 - 2 * (np.arange(2**num)[:, None] >> np.arange(num) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(2, size=(_DRAWS, num))
        signs[0] = 1  # the observed signs count as one draw, so p is never 0
    values = np.asarray(differences, dtype=float)
    sums = signs @ values
    slack = 1e-12 * np.abs(values).sum()
    return min(1.0, 2 * float((sums >= values.sum() - slack).mean()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values, valid over a family of claims, in the order given.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    order = np.argsort(p_values)
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted.tolist()


def area(curve: Curve) -> float:
    """Area under the curve by trapezoids, divided by its length in steps: the mean accuracy over training.

    A curve of a single evaluation has that accuracy.

    Source: ours.
    """
    if len(curve.steps) == 1:
        return curve.accuracy[0]
    return float(np.trapezoid(curve.accuracy, curve.steps)) / (curve.steps[-1] - curve.steps[0])


def roughness(curve: Curve) -> float:
    """Sum of all drops between neighboring evaluations, in units of accuracy; 0 for a curve that only rises.

    Source: ours.
    """
    return float(np.maximum(-np.diff(curve.accuracy), 0).sum())


def steps_to(fraction: float, curve: Curve, of: float | None = None) -> int | None:
    """First step at which a curve reaches a fraction of the accuracy ``of`` (None: of its own last one).

    None if it never does.

    Source: ours.
    """
    if of is None:
        of = curve.accuracy[-1]
    # Rounding of the product must not move the step.
    return curve.first_step(fraction * of - 1e-12)


def _limits(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """Ends of the two-sided t interval of the mean."""
    half = float(stdtrit(len(values) - 1, 1 - alpha / 2)) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _p_value(values: np.ndarray) -> float:
    """Twice the one-sided t-test p-value of "the mean is above 0"; without any spread, 0 or 1."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    if error == 0:
        return float(values.mean() <= 0)
    return min(1.0, 2 * float(stdtr(len(values) - 1, -values.mean() / error)))
