"""Claims of any form, judged as one family with Holm's correction."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from kvdistill.reporting.stats import Verdict, judge_family
from kvdistill.reporting.studies.judged import JudgedClaim

ALPHA = 0.05
"""Level of the family."""


@runtime_checkable
class ClaimForm(Protocol):
    """A claim before it is judged."""

    def verdicts(self) -> Sequence[Verdict | None]:
        """The tests that all have to succeed; None for one that cannot be made yet."""
        ...

    def conclude(self, worst: Verdict | None, num_open: int) -> JudgedClaim:
        """The claim with its verdict.

        Args:
            worst: the test of the largest p-value, after Holm; None where a test cannot be made.
            num_open: claims of the family whose p-value is not below ``ALPHA`` after Holm, itself included.
        """
        ...


def judge_forms(claims: Sequence[ClaimForm]) -> list[JudgedClaim]:
    """Judge the claims of a family: a claim's p-value is the largest of its tests', corrected by Holm.

    Source: Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling (intersection-union test).

    Args:
        claims: the claims; one that cannot be tested yet counts in the family.

    Returns:
        One entry per claim, in order.
    """
    worst: dict[int, Verdict] = {}
    for place, claim in enumerate(claims):
        made = claim.verdicts()
        tested = [verdict for verdict in made if verdict is not None]
        if made and len(tested) == len(made):
            worst[place] = max(tested, key=lambda verdict: verdict.p_value)
    corrected = judge_family(list(worst.values()), num_untested=len(claims) - len(worst))
    family = dict(zip(worst, corrected, strict=True))
    num_open = len(claims) - sum(verdict.p_value < ALPHA for verdict in corrected)
    return [claim.conclude(family.get(place), num_open) for place, claim in enumerate(claims)]
