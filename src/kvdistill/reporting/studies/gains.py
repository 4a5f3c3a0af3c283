"""Claims of a relative gain that is held against a target range.

Source: ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvdistill.records.study import GainPlan
from kvdistill.reporting.power import seeds_needed
from kvdistill.reporting.stats import Claim, Verdict
from kvdistill.reporting.studies.family import ALPHA
from kvdistill.reporting.studies.judged import (
    DEFAULT_SEEDS,
    NO_SPREAD,
    Gain,
    GainOutcome,
    JudgedClaim,
    Values,
)


@dataclass(frozen=True, kw_only=True)
class GainClaim:
    """A claim of relative gains (first - second) / second, before it is judged in its family.

    Two nested hypotheses are tested in order at the claim's level in Holm's procedure: the gain is above the
    least target, else it is above 0.

    Source: Bretz et al. 2009, A graphical approach to sequentially rejective multiple test procedures (a
    claim's level passes to other claims only once its last hypothesis is rejected).
    """

    title: str
    plans: Sequence[GainPlan]
    values: Values
    target: tuple[float, float]
    """Least and hoped-for gain, as shares."""

    def verdicts(self) -> list[Verdict | None]:
        """The test of each gain against the least target; None below two common seeds."""
        return [self._test(plan, self.target[0]) for plan in self.plans]

    def conclude(self, worst: Verdict | None, num_open: int) -> JudgedClaim:
        """The claim with its verdict.

        Args:
            worst: the test against the target of the largest p-value, after Holm; None where one cannot be
                made.
            num_open: claims of the family whose p-value is not below ``ALPHA`` after Holm, itself included.
        """
        gains = [self._gain(plan) for plan in self.plans]
        outcome = _combined(gains, worst, num_open)
        p_value = None
        if worst is not None:
            p_value = worst.p_value
        claim = JudgedClaim(
            title=self.title,
            outcome=outcome,
            comparisons=[],
            p_value=p_value,
            further_seeds=None,
            gains=gains,
            target=list(self.target),
        )
        if outcome != "inconclusive":
            return claim
        wanted = [self._further(plan, ALPHA / max(num_open, 1)) for plan in self.plans]
        missing = {name for plan in self.plans for name in _without(plan, self.values)}
        return replace(claim, further_seeds=max(wanted), waits_for=sorted(missing))

    def _by_seed(self, plan: GainPlan) -> dict[int, float]:
        """The relative gain by seed; a second value of 0 has none."""
        first, second = (self.values.get(arm, {}).get(plan.measure, {}) for arm in (plan.first, plan.second))
        common = [seed for seed in sorted(first) if second.get(seed, 0.0) > 0]
        return {seed: first[seed] / second[seed] - 1 for seed in common}

    def _test(self, plan: GainPlan, above: float) -> Verdict | None:
        """Test that a gain is above a share; gains without any spread say nothing below ``DEFAULT_SEEDS``."""
        gains = list(self._by_seed(plan).values())
        if len(gains) < 2:
            return None
        claim = Claim(name=f"{plan.first} over {plan.second}", delta=self.target[0])
        verdict = claim.judge(gains, [above] * len(gains))
        if verdict.sd < NO_SPREAD and len(gains) < DEFAULT_SEEDS:
            return replace(verdict, outcome="inconclusive", p_value=1.0, p_sign_flip=None)
        return verdict

    def _gain(self, plan: GainPlan) -> Gain:
        """A gain with its interval, judged alone."""
        by_seed = self._by_seed(plan)
        untested = Gain(
            first=plan.first,
            second=plan.second,
            measure=plan.measure,
            seeds=list(by_seed),
            outcome="inconclusive",
            further_seeds=max(1, DEFAULT_SEEDS - len(by_seed)),
        )
        above_target, above_zero = self._test(plan, self.target[0]), self._test(plan, 0.0)
        if above_target is None or above_zero is None:
            return untested
        outcome = self._outcome(above_zero)
        further_seeds = None
        if outcome == "inconclusive":
            further_seeds = self._further(plan, ALPHA)
        return replace(
            untested,
            outcome=outcome,
            further_seeds=further_seeds,
            mean=above_zero.mean,
            low=above_zero.interval.low,
            high=above_zero.interval.high,
            p_above_target=above_target.p_value,
            p_above_zero=above_zero.p_value,
        )

    def _outcome(self, above_zero: Verdict) -> GainOutcome:
        """The verdict on a gain by its interval alone."""
        low, high = above_zero.interval.low, above_zero.interval.high
        if above_zero.sd < NO_SPREAD and above_zero.num_seeds < DEFAULT_SEEDS:
            return "inconclusive"
        if low >= self.target[0]:
            return "target met"
        if low > 0:
            return "gain below target"
        if high < self.target[0]:
            return "no gain"
        return "inconclusive"

    def _further(self, plan: GainPlan, alpha: float) -> int:
        """Seeds to add until a gain of the least target would be found with power 0.8 at level ``alpha``."""
        verdict = self._test(plan, 0.0)
        if verdict is None or verdict.sd < NO_SPREAD:
            return max(1, DEFAULT_SEEDS - len(self._by_seed(plan)))
        return max(1, seeds_needed(verdict.sd, self.target[0], alpha) - verdict.num_seeds)


def _combined(gains: Sequence[Gain], worst: Verdict | None, num_open: int) -> GainOutcome:
    """The verdict of a claim from those of its gains and the tests after Holm."""
    outcomes = {gain.outcome for gain in gains}
    if "no gain" in outcomes:
        return "no gain"
    if "inconclusive" in outcomes or worst is None:
        return "inconclusive"
    if outcomes == {"target met"} and worst.p_value < ALPHA:
        return "target met"
    above_zero = max(gain.p_above_zero for gain in gains if gain.p_above_zero is not None)
    if above_zero * num_open < ALPHA:
        return "gain below target"
    return "inconclusive"


def _without(plan: GainPlan, values: Values) -> list[str]:
    """The arms of a gain without a value of its measure."""
    return [name for name in (plan.first, plan.second) if not values.get(name, {}).get(plan.measure)]
