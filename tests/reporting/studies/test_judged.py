"""Judged claims: what is derived from their numbers, and which fields old records lack."""

from kvdistill.reporting.studies.estimate import Estimate
from kvdistill.reporting.studies.judged import Comparison, Gain, JudgedClaim, LossFall

BELOW = Comparison(
    name="validation KV: b − a > 0",
    first="b",
    second="a",
    measure="validation_kv",
    kind="superiority",
    delta=0.02,
    seeds=[0],
    outcome="inconclusive",
    further_seeds=7,
)


def fall(*gaps: float) -> LossFall:
    gap = Estimate.of(dict(enumerate(gaps)))
    return LossFall(
        arm="a",
        control="b",
        outcome="inconclusive",
        seeds=[0],
        first={},
        last={},
        not_fallen={},
        below_control=BELOW,
        gap=gap,
    )


def test_a_gap_is_wide_above_three_percent() -> None:
    assert [fall(0.02, 0.04).wide, fall(0.02, 0.05).wide, fall().wide] == [False, True, False]


def test_a_gain_is_named_as_a_formula() -> None:
    gain = Gain(first="a", second="b", measure="area", seeds=[], outcome="inconclusive", further_seeds=8)
    assert gain.name == "area: a / b − 1"


def test_claims_of_comparisons_have_neither_falls_nor_gains() -> None:
    claim = JudgedClaim(title="a", outcome="supported", comparisons=[BELOW], p_value=0.01, further_seeds=None)
    assert (claim.falls, claim.gains, claim.target) == (None, None, None)
    assert not BELOW.has_interval
