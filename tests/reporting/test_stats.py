"""Verdicts against scipy, numbers worked out by hand, and simulated seeds where nothing is true."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from kvdistill.records.schema import Curve
from kvdistill.reporting.power import detectable_effect, seeds_needed
from kvdistill.reporting.stats import (
    Claim,
    Verdict,
    area,
    holm,
    judge_family,
    less_spread,
    paired_t_interval,
    roughness,
    sign_flip,
    spread_interval,
    steps_to,
)

CLAIM = Claim(name="E4 > E1")
SPREAD = st.lists(st.integers(-1000, 1000).map(lambda value: value / 1000), min_size=6, max_size=9).filter(
    lambda values: np.std(values) > 1e-3
)


def curve(*accuracy: float) -> Curve:
    return Curve(method="kv", steps=[100 * i for i in range(1, len(accuracy) + 1)], accuracy=list(accuracy))


def judge(differences: list[float], claim: Claim = CLAIM) -> Verdict:
    return claim.judge(differences, [0.0] * len(differences))


def test_paired_t_interval_by_hand() -> None:
    # mean 0.03, sd 0.01, t of 2 degrees of freedom 4.302653: 0.03 ± 4.302653 · 0.01 / √3
    interval = paired_t_interval([0.02, 0.03, 0.04])
    assert (interval.low, interval.high) == pytest.approx((0.03 - 0.0248414, 0.03 + 0.0248414), abs=1e-6)


@given(SPREAD)
def test_interval_and_p_value_agree_with_scipy(differences: list[float]) -> None:
    verdict = judge(differences)
    reference = stats.ttest_1samp(differences, 0)
    expected = reference.confidence_interval(0.95)
    assert (verdict.interval.low, verdict.interval.high) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )
    greater = stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert verdict.p_value == pytest.approx(min(1.0, 2 * greater), abs=1e-9)
    assert (verdict.outcome == "supported") == (expected.low > 0)


@given(SPREAD)
@example([0.0, 0.0, 0.0, 0.0, 0.071, 0.511, -0.059, -0.522])
def test_sign_flip_agrees_with_scipy(differences: list[float]) -> None:
    options = {"permutation_type": "samples", "alternative": "greater", "n_resamples": np.inf}
    whole = np.round(1000 * np.array(differences))  # sums of these are exact, so scipy sees every tie
    reference = stats.permutation_test((whole,), lambda x, axis: x.sum(axis), vectorized=True, **options)
    assert sign_flip(differences) == pytest.approx(min(1.0, 2 * reference.pvalue))


def test_sign_flip_by_hand() -> None:
    assert sign_flip([0.1] * 6) == 2 / 64
    assert sign_flip([-0.1] * 6) == 1.0
    # Of 2⁷ flips only "none" and "the one fall turned up" reach the sum.
    assert sign_flip([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, -0.1]) == 2 * 2 / 128
    with pytest.raises(ValueError, match="5 seeds are too few for the sign-flip test: run at least 6"):
        sign_flip([0.1] * 5)
    assert judge([0.1] * 5).p_sign_flip is None and judge([0.1] * 6).p_sign_flip == 2 / 64


def test_many_seeds_are_drawn_and_agree_with_the_t_test() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, 20).tolist()
    assert (
        sign_flip(differences) == sign_flip(differences) == pytest.approx(judge(differences).p_value, rel=0.1)
    )


def test_the_rule_of_a_superiority_claim() -> None:
    # Three seeds with sd 0.01: half width 0.0248 about the mean; delta is 0.02.
    assert judge([0.02, 0.03, 0.04]).outcome == "supported"
    refuted = judge([-0.03, -0.02, -0.01])
    assert refuted.outcome == "not supported" and refuted.further_seeds is None
    open_claim = judge([0.0, 0.01, 0.02])
    assert open_claim.outcome == "inconclusive"
    # delta / sd = 2: five seeds find it with a chance of 80 % (four do not), three are there.
    assert open_claim.further_seeds == 2
    assert (
        str(open_claim)
        == "E4 > E1: inconclusive, needs 2 more seeds (difference +0.01 [-0.01484, +0.03484], 3 seeds, p = "
        "0.23)"
    )


@given(SPREAD, st.sampled_from([0.02, 0.3]))
def test_the_kinds_are_the_rule_on_their_own_bounds(differences: list[float], delta: float) -> None:
    low, high = (getattr(paired_t_interval(differences), name) for name in ("low", "high"))
    bounds = {
        "superiority": (low > 0, high < delta),
        "non_inferiority": (low > -delta, high < 0),
        "negligible": (high < delta, low > 0),
    }
    for kind, (holds, fails) in bounds.items():
        verdict = judge(differences, Claim(name=kind, delta=delta, kind=kind))
        expected = "supported" if holds else "not supported" if fails else "inconclusive"
        assert verdict.outcome == expected
        assert (verdict.further_seeds is not None) == (expected == "inconclusive")
        assert (verdict.interval.low, verdict.interval.high) == (low, high)


def test_pairs_are_what_counts_and_seeds_without_spread_are_judged() -> None:
    first, second = [0.50, 0.70, 0.90], [0.47, 0.67, 0.86]
    assert CLAIM.judge(first, second).outcome == "supported"
    assert CLAIM.judge(first, second[::-1]).outcome == "inconclusive"
    equal = CLAIM.judge(first, first)
    assert (equal.outcome, equal.p_value) == ("not supported", 1.0)
    assert (judge([0.5] * 3).outcome, judge([0.5] * 3).p_value) == ("supported", 0.0)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0.1, 0.2], [0.1], "E4 > E1: 2 and 1 values. Give one value a seed"),
        ([0.1], [0.1], "E4 > E1: 1 and 1 values. Give one value a seed"),
        ([0.1, float("nan")], [0.1, 0.1], "E4 > E1: a value is not finite. Leave out the seed on both sides"),
    ],
)
def test_seeds_that_are_no_pairs_are_refused(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLAIM.judge(first, second)


def test_a_claim_without_a_smallest_effect_is_refused() -> None:
    for delta in (0.0, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=rf"claim x: delta is {delta}\. Give the smallest difference that matters"
        ):
            Claim(name="x", delta=delta)


def test_a_verdict_names_the_difference_that_its_seeds_could_have_shown() -> None:
    differences = [0.02, 0.03, 0.04, 0.03]
    size = detectable_effect(judge(differences).sd, 4)
    assert judge(differences).detectable == size == pytest.approx(0.00816497 * 2.12795, rel=1e-4)
    for kind, expected in (("non_inferiority", size - 0.05), ("negligible", 0.05 - size)):
        verdict = judge(differences, Claim(name=kind, delta=0.05, kind=kind))  # pyright: ignore
        assert verdict.detectable == pytest.approx(expected)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1 is 0.03, 0.06, 0.04; a later one is never smaller: 0.03, 0.06,
    # 0.06.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_a_family_takes_back_what_does_not_survive_it() -> None:
    weak, strong = judge([0.02, 0.03, 0.045]), judge([0.03, 0.03, 0.031])
    assert weak.outcome == strong.outcome == "supported" and 0.025 < weak.p_value < 0.05
    alone, beside = judge_family([weak])[0], judge_family([weak, strong])
    assert alone == weak
    assert [verdict.outcome for verdict in beside] == ["supported", "supported"]
    crowd = judge_family([weak, weak, strong])
    assert [verdict.outcome for verdict in crowd] == ["inconclusive", "inconclusive", "supported"]
    assert crowd[0].p_value == pytest.approx(2 * weak.p_value)
    assert crowd[0].further_seeds == max(1, seeds_needed(weak.sd, 0.02, 0.05 / 3) - 3)


def test_a_family_counts_the_claims_that_were_not_tested() -> None:
    weak = judge([0.02, 0.03, 0.045])
    (padded,) = judge_family([weak], num_untested=2)
    assert padded.p_value == pytest.approx(3 * weak.p_value) and padded.outcome == "inconclusive"
    assert padded.further_seeds == max(1, seeds_needed(weak.sd, 0.02, 0.05 / 3) - 3)
    assert judge_family([], num_untested=3) == []


def test_the_interval_of_a_spread_agrees_with_scipy() -> None:
    values = [0.41, 0.44, 0.39, 0.47, 0.42]
    interval = spread_interval(values)
    ends = [np.std(values, ddof=1) * np.sqrt(4 / stats.chi2.ppf(tail, 4)) for tail in (0.975, 0.025)]
    assert (interval.low, interval.high) == pytest.approx(tuple(ends))


def test_less_spread_is_the_test_of_correlation_of_sums_and_differences() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(0.5, 0.01, 20)
    second = first + rng.normal(0, 0.01, 20)
    reference = stats.pearsonr(first + second, first - second, alternative="less").pvalue
    assert less_spread(first.tolist(), second.tolist()) == pytest.approx(2 * reference)
    assert less_spread(second.tolist(), first.tolist()) == 1.0
    assert less_spread([0.5] * 20, [0.5] * 20) == 1.0
    assert less_spread([0.5] * 20, second.tolist()) < 1e-12


@pytest.mark.parametrize(
    ("kind", "truth"), [("superiority", 0.0), ("non_inferiority", -0.02), ("negligible", 0.02)]
)
def test_a_false_claim_is_supported_no_oftener_than_its_level(kind: str, truth: float) -> None:
    claim = Claim(name=kind, kind=kind)  # pyright: ignore[reportArgumentType]
    seeds = np.random.default_rng(5).normal(truth, 0.03, (1200, 5))
    outcomes = [judge(row, claim).outcome for row in seeds.tolist()]
    # At the claim's edge the one-sided level is 0.025; three standard errors of 1200 draws are 0.0135.
    assert 0.0115 < outcomes.count("supported") / 1200 < 0.0385


def test_a_family_of_false_claims_supports_any_no_oftener_than_its_level() -> None:
    seeds = np.random.default_rng(6).normal(0, 0.03, (500, 3, 5))
    families = [judge_family([judge(row) for row in family]) for family in seeds.tolist()]
    wrong = sum(any(verdict.outcome == "supported" for verdict in family) for family in families) / 500
    assert wrong < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 500)


def test_a_true_effect_of_delta_is_called_not_supported_no_oftener_than_the_level() -> None:
    seeds = np.random.default_rng(7).normal(0.02, 0.02, (1200, 5))
    outcomes = [judge(row).outcome for row in seeds.tolist()]
    assert outcomes.count("not supported") / 1200 < 0.0385


def test_area_by_hand() -> None:
    # Trapezoids over 100..300: 100 · 0.3 + 100 · 0.6 = 90, over 200 steps.
    assert area(curve(0.2, 0.4, 0.8)) == pytest.approx(0.45)
    assert area(curve(0.7)) == 0.7
    uneven = Curve(method="kv", steps=[0, 10, 40], accuracy=[0.0, 0.6, 0.6])
    assert area(uneven) == pytest.approx((3 + 18) / 40)


def test_roughness_is_what_was_lost_on_the_way() -> None:
    assert roughness(curve(0.1, 0.5, 0.4, 0.9, 0.7)) == pytest.approx(0.3)
    assert roughness(curve(0.1, 0.5, 0.5, 0.9)) == 0.0 == roughness(curve(0.3))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_roughness_is_half_of_the_way_beyond_the_net_rise(accuracy: list[float]) -> None:
    way = sum(abs(b - a) for a, b in pairwise(accuracy))
    assert roughness(curve(*accuracy)) == pytest.approx((way - (accuracy[-1] - accuracy[0])) / 2, abs=1e-12)


def test_steps_to_a_fraction() -> None:
    rising = curve(0.2, 0.72, 0.5, 0.8)
    assert steps_to(0.9, rising) == 200
    assert steps_to(0.9, rising, of=0.85) == 400
    assert steps_to(0.9, rising, of=1.0) is None
    assert steps_to(1.0, rising, of=0.2) == 100
