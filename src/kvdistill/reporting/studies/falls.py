"""Claims that losses fall: KV and CE, of training and of validation, and validation KV below a control's.

Source: ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import fmean

from kvdistill.records.study import FallPlan
from kvdistill.reporting.stats import Outcome, Verdict
from kvdistill.reporting.studies.claims import Question, judge, judged_comparison
from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.experiments import seeds_in_words
from kvdistill.reporting.studies.judged import Comparison, JudgedClaim, LossEnds, LossFall, Values

FALLING: tuple[str, ...] = ("kv", "ce_student", "validation_kv", "validation_ce")
"""The losses that have to fall, by their names in metrics.jsonl."""
FALL_DELTA = 0.02
"""Smallest difference to the control that matters, as a share of its validation KV loss."""
Ends = Mapping[str, Mapping[int, Mapping[str, LossEnds]]]
"""Both ends of the losses of runs that count: ``ends[arm][seed][loss]``."""


def loss_ends(values: Sequence[float]) -> LossEnds | None:
    """Means of the first and of the last tenth of a loss; at least one value each.

    Args:
        values: logged values in the order of their steps; one that is not finite makes its end not finite.

    Returns:
        Both ends; None below two values.
    """
    if len(values) < 2:
        return None
    tenth = max(1, len(values) // 10)
    return LossEnds(first=fmean(values[:tenth]), last=fmean(values[-tenth:]))


@dataclass(frozen=True, kw_only=True)
class FallingClaim:
    """A claim that the losses of arms fall in every seed, before it is judged in its family."""

    title: str
    plans: Sequence[FallPlan]
    ends: Ends
    planned: Mapping[str, Sequence[int]]
    """Seeds that each arm is to have; those held back are left out."""
    delta: float = FALL_DELTA

    def verdicts(self) -> list[Verdict | None]:
        """The test of each arm against its control; None below two common seeds."""
        return [self._test(plan) for plan in self.plans]

    def conclude(self, worst: Verdict | None, num_open: int) -> JudgedClaim:
        """The claim with its verdict.

        Args:
            worst: the test of the largest p-value, after Holm; None where one cannot be made.
            num_open: not used.
        """
        falls = [self._fall(plan) for plan in self.plans]
        outcomes = {fall.outcome for fall in falls}
        outcome: Outcome = "inconclusive"
        if "not supported" in outcomes:
            outcome = "not supported"
        elif worst is not None and outcomes == {"supported"}:
            outcome = worst.outcome
        p_value = None
        if worst is not None:
            p_value = worst.p_value
        claim = JudgedClaim(
            title=self.title,
            outcome=outcome,
            comparisons=[],
            p_value=p_value,
            further_seeds=None,
            falls=falls,
        )
        if outcome != "inconclusive":
            return claim
        wanted = [fall.below_control.further_seeds or 0 for fall in falls]
        if worst is not None:
            wanted.append(worst.further_seeds or 0)
        return replace(
            claim, further_seeds=max(wanted) or None, to_run=self._to_run(), waits_for=self._waits_for()
        )

    def _test(self, plan: FallPlan) -> Verdict | None:
        return judge(_question(plan, self.delta), self._shares(plan), {})

    def _shares(self, plan: FallPlan) -> Values:
        """Last validation KV loss of both arms as a share of the control's, over seeds that have both."""
        arm, control = (self._last(name, "validation_kv") for name in (plan.arm, plan.control))
        common = [seed for seed in arm if control.get(seed, 0.0) > 0]
        return {
            plan.arm: {"validation_kv": {seed: arm[seed] / control[seed] for seed in common}},
            plan.control: {"validation_kv": dict.fromkeys(common, 1.0)},
        }

    def _last(self, arm: str, loss: str) -> dict[int, float]:
        """The end of a loss by seed, where it is finite."""
        return {
            seed: ends[loss].last
            for seed, ends in self.ends.get(arm, {}).items()
            if loss in ends and isfinite(ends[loss].last)
        }

    def _first(self, arm: str, loss: str) -> dict[int, float]:
        """The beginning of a loss by seed, where it is finite."""
        return {
            seed: ends[loss].first
            for seed, ends in self.ends.get(arm, {}).items()
            if loss in ends and isfinite(ends[loss].first)
        }

    def _fall(self, plan: FallPlan) -> LossFall:
        own = self.ends.get(plan.arm, {})
        failed = {
            loss: [seed for seed, ends in sorted(own.items()) if loss in ends and not ends[loss].fell]
            for loss in FALLING
        }
        below = judged_comparison(
            _question(plan, self.delta), self._test(plan), self._shares(plan), self.delta
        )
        first = {loss: Estimate.of(self._first(plan.arm, loss)) for loss in FALLING}
        last = {loss: Estimate.of(self._last(plan.arm, loss)) for loss in FALLING}
        train, validation = self._last(plan.arm, "kv"), self._last(plan.arm, "validation_kv")
        gaps = {
            seed: validation[seed] / kv - 1 for seed, kv in train.items() if seed in validation and kv > 0
        }
        not_fallen = {loss: seeds for loss, seeds in failed.items() if seeds}
        return LossFall(
            arm=plan.arm,
            control=plan.control,
            outcome=self._outcome(plan, not_fallen, below),
            seeds=sorted(seed for seed, ends in own.items() if set(FALLING) <= ends.keys()),
            first={loss: estimate for loss, estimate in first.items() if estimate is not None},
            last={loss: estimate for loss, estimate in last.items() if estimate is not None},
            not_fallen=not_fallen,
            below_control=below,
            gap=Estimate.of(gaps),
        )

    def _outcome(self, plan: FallPlan, not_fallen: Mapping[str, object], below: Comparison) -> Outcome:
        if not_fallen or below.outcome == "not supported":
            return "not supported"
        missing = self._missing(plan.arm, FALLING) + self._missing(plan.control, ("validation_kv",))
        if missing:
            return "inconclusive"
        return below.outcome

    def _missing(self, arm: str, losses: Sequence[str]) -> list[tuple[int, list[str]]]:
        """Planned seeds of an arm that lack a loss, with those losses; a missing run lacks all."""
        found = []
        for seed in self.planned.get(arm, ()):
            ends = self.ends.get(arm, {}).get(seed, {})
            absent = [loss for loss in losses if loss not in ends]
            if absent:
                found.append((seed, absent))
        return found

    def _needed(self) -> dict[str, tuple[str, ...]]:
        """The losses that each arm of the claim needs."""
        needed: dict[str, tuple[str, ...]] = {plan.control: ("validation_kv",) for plan in self.plans}
        return needed | {plan.arm: FALLING for plan in self.plans}

    def _to_run(self) -> dict[str, list[int]]:
        """Planned seeds without a run that counts, by arm."""
        runs = {}
        for arm in self._needed():
            seeds = [seed for seed in self.planned.get(arm, ()) if seed not in self.ends.get(arm, {})]
            if seeds:
                runs[arm] = seeds
        return runs

    def _waits_for(self) -> list[str]:
        """What is missing: runs by arm and seed, and losses that a run did not log."""
        told = [f"runs of {arm} with seed {seeds_in_words(seeds)}" for arm, seeds in self._to_run().items()]
        for arm, losses in self._needed().items():
            for loss in losses:
                ran = self.ends.get(arm, {})
                seeds = [
                    seed for seed, absent in self._missing(arm, losses) if seed in ran and loss in absent
                ]
                if seeds:
                    told.append(f"two logged values of {loss} in {arm}, seed {seeds_in_words(seeds)}")
        return told


def _question(plan: FallPlan, delta: float) -> Question:
    return Question(plan.control, plan.arm, measure="validation_kv", delta=delta)
