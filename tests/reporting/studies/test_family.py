"""Claims of any form as one family."""

from dataclasses import dataclass

import pytest

from kvdistill.reporting.stats import Claim, Verdict
from kvdistill.reporting.studies.family import judge_forms
from kvdistill.reporting.studies.judged import JudgedClaim

WEAK = Claim(name="weak").judge([0.1, 0.2, 0.3], [0.0, 0.0, 0.0])
"""Mean .2, standard error .0577, t = 3.46 on 2 degrees of freedom: p = .074."""
STRONG = Claim(name="strong").judge([0.2, 0.201, 0.199], [0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Stated:
    """A claim of given tests; its p-value and number of open claims are told in the verdict."""

    tests: tuple[Verdict | None, ...]

    def verdicts(self) -> tuple[Verdict | None, ...]:
        return self.tests

    def conclude(self, worst: Verdict | None, num_open: int) -> JudgedClaim:
        p_value = None
        if worst is not None:
            p_value = worst.p_value
        return JudgedClaim(
            title="a", outcome="inconclusive", comparisons=[], p_value=p_value, further_seeds=num_open
        )


def test_a_claim_has_the_largest_p_value_of_its_tests_after_holm_over_all_claims() -> None:
    claims = judge_forms([Stated((STRONG, WEAK)), Stated((STRONG,)), Stated((STRONG, None))])
    assert WEAK.p_value == pytest.approx(0.0742, abs=1e-4)
    # Of three claims the strongest is multiplied by 3, the next by 2; one cannot be tested.
    assert claims[0].p_value == pytest.approx(2 * WEAK.p_value)
    assert claims[1].p_value == pytest.approx(3 * STRONG.p_value)
    assert claims[2].p_value is None
    # Only the second is below .05.
    assert [claim.further_seeds for claim in claims] == [2, 2, 2]


def test_a_claim_without_tests_is_open() -> None:
    (claim,) = judge_forms([Stated(())])
    assert (claim.p_value, claim.further_seeds) == (None, 1)
