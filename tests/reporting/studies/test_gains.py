"""Relative gains against a target, from values made by hand."""

import pytest

from kvdistill.records.study import GainPlan
from kvdistill.reporting.power import seeds_needed
from kvdistill.reporting.studies.family import judge_forms
from kvdistill.reporting.studies.gains import GainClaim
from kvdistill.reporting.studies.judged import JudgedClaim

NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005, 0.001, 0.0, -0.001)


def judged(*gains: float, noise: float = 1.0, num: int = 8, others: int = 0) -> JudgedClaim:
    """``routed`` over one baseline a gain; a baseline is .5 in every seed."""
    steady = dict.fromkeys(range(num), 0.5)
    values = {"routed": {"area": {seed: 0.55 + noise * NOISE[seed] for seed in range(num)}}}
    plans = []
    for place, gain in enumerate(gains):
        name = f"base{place}"
        values[name] = {"area": dict.fromkeys(steady, 0.55 / (1 + gain))}
        plans.append(GainPlan(first="routed", second=name, measure="area"))
    waiting = [GainPlan(first="routed", second="absent", measure="area")]
    claims = [GainClaim(title="M3", plans=plans, values=values, target=(0.03, 0.05))]
    claims += [GainClaim(title="open", plans=waiting, values=values, target=(0.03, 0.05))] * others
    return judge_forms(claims)[0]


def test_a_gain_is_a_mean_of_ratios_with_a_t_interval() -> None:
    values = {
        "a": {"area": {0: 0.6, 1: 0.66, 2: 0.5}},
        "b": {"area": {0: 0.5, 1: 0.6, 2: 0.0, 3: 0.4}},
    }
    plans = [GainPlan(first="a", second="b", measure="area")]
    (claim,) = judge_forms([GainClaim(title="M3", plans=plans, values=values, target=(0.03, 0.05))])
    assert claim.gains is not None
    (gain,) = claim.gains
    # .2 and .1; seed 2 has no ratio. Half the interval is t(1) = 12.706 times .05.
    assert (gain.seeds, gain.mean) == ([0, 1], pytest.approx(0.15))
    assert (gain.low, gain.high) == (pytest.approx(-0.4853, abs=1e-4), pytest.approx(0.7853, abs=1e-4))
    assert gain.outcome == claim.outcome == "inconclusive"
    assert gain.further_seeds == seeds_needed(0.1 / 2**0.5, 0.03) - 2


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((0.1,), "target met"),
        ((0.1, 0.04), "target met"),
        ((0.02,), "gain below target"),
        ((0.1, 0.02), "gain below target"),
        ((0.0,), "no gain"),
        ((0.1, -0.1), "no gain"),
    ],
)
def test_the_worst_gain_decides(gains: tuple[float, ...], expected: str) -> None:
    claim = judged(*gains)
    assert claim.outcome == expected
    assert claim.further_seeds is None


def test_a_wide_interval_is_inconclusive_and_asks_for_seeds() -> None:
    claim = judged(0.02, noise=60.0)
    assert claim.outcome == "inconclusive"
    assert claim.gains is not None
    assert claim.gains[0].low is not None
    assert claim.gains[0].low <= 0
    assert claim.further_seeds == claim.gains[0].further_seeds
    assert judged(0.02, noise=60.0, others=1).further_seeds > claim.further_seeds  # pyright: ignore


def test_few_seeds_are_inconclusive() -> None:
    assert (judged(0.1, num=1).outcome, judged(0.1, num=1).further_seeds) == ("inconclusive", 7)
    same = judged(0.1, num=3, noise=0.0)
    assert (same.outcome, same.further_seeds, same.p_value) == ("inconclusive", 5, 1.0)


def test_holm_takes_back_what_is_too_weak_for_the_family() -> None:
    # Alone its interval is above the target; with 99 claims to come, p is 100 times as large.
    alone = judged(0.04, noise=5.0)
    assert alone.outcome == "target met"
    assert alone.p_value is not None
    among = judged(0.04, noise=5.0, others=99)
    assert among.p_value == pytest.approx(min(1, 100 * alone.p_value))
    assert among.outcome == "gain below target"
    assert judged(0.02, noise=12.0).outcome == "gain below target"
    assert judged(0.02, noise=12.0, others=99).outcome == "inconclusive"


def test_a_missing_arm_is_waited_for() -> None:
    plans = [GainPlan(first="routed", second="fixed", measure="area")]
    values = {"routed": {"area": {0: 0.5, 1: 0.5}}}
    (claim,) = judge_forms([GainClaim(title="M3", plans=plans, values=values, target=(0.03, 0.05))])
    assert (claim.outcome, claim.waits_for, claim.p_value) == ("inconclusive", ["fixed"], None)


def test_each_gain_has_its_own_verdict() -> None:
    claim = judged(0.1, 0.02, 0.0)
    assert claim.gains is not None
    assert [gain.outcome for gain in claim.gains] == ["target met", "gain below target", "no gain"]
