"""Every verdict on a claim from numbers made by hand."""

from collections.abc import Mapping
from typing import Any

import pytest

from kvdistill.reporting.stats import seeds_needed
from kvdistill.reporting.studies.claims import CLAIMS, judge_claims
from kvdistill.reporting.studies.judged import JudgedClaim, Measure

DELTAS: dict[Measure, float] = {"accuracy": 0.02, "area": 0.02, "roughness": 0.02, "steps_to_90": 100.0}
NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005, 0.0, 0.001, -0.001)
"""Added to accuracies of experiment E4, so that differences have a little spread."""
GOOD = {"E1": 0.4, "E2": 0.6, "E3": 0.5, "E4": 0.6, "E5": 0.4}
STEADY = {"area": {"E2": 0.4, "E3": 0.3, "E4": 0.5}, "roughness": {"E2": 0.2, "E3": 0.2, "E4": 0.1}}
STEADY |= {"steps_to_90": {"E2": 900.0, "E3": 800.0, "E4": 300.0}}


def table(
    accuracy: Mapping[str, float], num: int = 8, measures: Mapping[str, Mapping[str, float]] = STEADY
) -> dict[str, Any]:
    """Values as ``judge_claims`` takes them; E4's vary a little over seeds."""
    values: dict[str, Any] = {}
    for measure, means in ({"accuracy": accuracy} | dict(measures)).items():
        for name, mean in means.items():
            scale = (mean if measure == "steps_to_90" else 1.0) if name == "E4" else 0.0
            values.setdefault(name, {})[measure] = {seed: mean + scale * NOISE[seed] for seed in range(num)}
    return values


def judge(
    accuracy: Mapping[str, float], num: int = 8, measures: Mapping[str, Mapping[str, float]] = STEADY
) -> list[JudgedClaim]:
    return judge_claims(table(accuracy, num, measures), DELTAS)


def test_all_three_claims_can_be_supported() -> None:
    claims = judge(GOOD)
    assert [claim.title for claim in claims] == list(CLAIMS)
    assert [claim.outcome for claim in claims] == ["supported"] * 3
    assert all(
        claim.further_seeds is None and claim.to_run == {} and claim.waits_for == [] for claim in claims
    )
    keep = claims[0].comparisons
    assert [c.name for c in keep] == ["accuracy: E2 − E1 > 0", "accuracy: E4 − E2 > −δ"]
    assert (
        keep[0].mean == pytest.approx(0.2)
        and keep[0].seeds == list(range(8))
        and keep[0].p_sign_flip == 2 / 256
    )
    steps = claims[2].comparisons[4]
    # Where less is better, the difference is turned: E2's 900 steps less E4's 300, whose noise is 300 times
    # as large.
    assert steps.name == "steps: E2 − E4 > 0" and steps.mean == pytest.approx(600.0) and steps.delta == 100.0


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ({"E2": 0.40}, ["not supported", "supported", "supported"]),  # full KV gains nothing
        ({"E4": 0.55}, ["not supported", "supported", "supported"]),  # R-KV is five points below full KV
        ({"E4": 0.59}, ["supported"] * 3),  # one point below full KV, margin 2
        ({"E4": 0.65}, ["supported"] * 3),  # better than full KV is not inferior
        (
            {"E1": 0.60, "E5": 0.4},
            ["not supported", "not supported", "supported"],
        ),  # nothing gained over the baseline
        ({"E5": 0.60}, ["supported", "not supported", "supported"]),  # the shuffled control does as well
        ({"E5": 0.30}, ["supported"] * 3),  # a control that harms gains nothing
        ({"E5": 0.43}, ["supported", "not supported", "supported"]),  # the control gains three points
    ],
)
def test_one_comparison_decides(accuracy: dict[str, float], expected: list[str]) -> None:
    assert [claim.outcome for claim in judge(GOOD | accuracy)] == expected


def test_an_interval_across_the_margin_is_inconclusive() -> None:
    values = table(GOOD)
    # One point below full KV, give or take two.
    values["E4"]["accuracy"] = {seed: 0.59 + 30 * NOISE[seed] for seed in range(8)}
    keeps, *_ = judge_claims(values, DELTAS)
    margin = keeps.comparisons[1]
    assert margin.low is not None and margin.high is not None and margin.low < -0.02 < 0 < margin.high
    assert margin.outcome == keeps.outcome == "inconclusive"
    assert list(keeps.to_run) == ["E2", "E4"]


@pytest.mark.parametrize(
    ("measure", "means"),
    [
        ("area", {"E4": 0.4}),
        ("area", {"E3": 0.5}),
        ("roughness", {"E4": 0.2}),
        ("roughness", {"E3": 0.05}),
        ("steps_to_90", {"E4": 890.0}),
    ],
)
def test_the_steadiest_is_steadier_in_every_measure(measure: str, means: dict[str, float]) -> None:
    claims = judge(GOOD, measures=STEADY | {measure: STEADY[measure] | means})
    assert [claim.outcome for claim in claims] == ["supported", "supported", "not supported"]


def test_too_much_spread_asks_for_the_seeds_that_are_needed() -> None:
    values = table(GOOD)
    values["E1"]["accuracy"] = dict(enumerate((0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.2, 0.8)))
    claims = judge_claims(values, DELTAS)
    keeps, adds, _ = claims
    assert keeps.outcome == adds.outcome == "inconclusive"
    first = keeps.comparisons[0]
    assert first.outcome == "inconclusive" and first.sd is not None
    assert keeps.further_seeds == first.further_seeds == seeds_needed(first.sd, 0.02) - 8
    assert keeps.further_seeds is not None
    assert keeps.to_run == {name: list(range(8, 8 + keeps.further_seeds)) for name in ("E1", "E2")}
    # The largest number of the claim's comparisons, though E4 against E5 is settled.
    assert adds.further_seeds == max(c.further_seeds or 0 for c in adds.comparisons) > 0
    assert [c.further_seeds is None for c in adds.comparisons] == [False, True, False]


def test_one_seed_is_inconclusive_and_needs_the_other_seven() -> None:
    for claim in judge(GOOD, num=1):
        assert (claim.outcome, claim.further_seeds, claim.p_value, claim.waits_for) == (
            "inconclusive",
            7,
            None,
            [],
        )
        assert all(seeds == list(range(1, 8)) for seeds in claim.to_run.values()) and claim.to_run
        assert all(
            c.mean is None and c.p_value is None and c.outcome == "inconclusive" for c in claim.comparisons
        )


def test_few_seeds_without_any_spread_say_nothing_about_chance() -> None:
    few, eight = (
        {name: {m: dict.fromkeys(range(num), 0.0) for m in ("accuracy", *STEADY)} for name in GOOD}
        for num in (3, 8)
    )
    for claim in judge_claims(few, DELTAS):
        assert (claim.outcome, claim.further_seeds, claim.p_value) == ("inconclusive", 5, 1.0)
        assert all(
            (c.outcome, c.mean, c.has_interval) == ("inconclusive", 0.0, False) for c in claim.comparisons
        )
    assert [claim.outcome for claim in judge_claims(eight, DELTAS)] == ["not supported"] * 3


def test_nothing_ran() -> None:
    keeps, adds, steady = judge_claims({}, DELTAS)
    assert (keeps.outcome, keeps.further_seeds, keeps.waits_for) == ("inconclusive", 8, ["E1", "E2", "E4"])
    assert adds.waits_for == ["E1", "E4", "E5"] and steady.waits_for == ["E2", "E3", "E4"]
    assert keeps.to_run == {name: list(range(8)) for name in ("E1", "E2", "E4")}


def test_a_missing_experiment_is_waited_for_and_runs_with_the_seeds_of_the_others() -> None:
    values = table(GOOD)
    del values["E5"]
    keeps, adds, _ = judge_claims(values, DELTAS)
    assert keeps.outcome == "supported"
    assert (adds.outcome, adds.waits_for, adds.further_seeds, adds.to_run) == (
        "inconclusive",
        ["E5"],
        8,
        {"E5": list(range(8))},
    )
    # What is refuted stays refuted, whatever is still to come.
    assert (
        judge_claims({name: of for name, of in table(GOOD | {"E1": 0.6}).items() if name != "E5"}, DELTAS)[
            1
        ].outcome
        == "not supported"
    )


def test_seeds_that_one_side_has_come_first() -> None:
    values = table(GOOD, num=2)
    values["E1"]["accuracy"] |= {7: 0.4, 9: 0.4}
    del values["E2"]["accuracy"][1]
    (keeps, *_) = judge_claims(values, DELTAS)
    # Common is seed 0; of the seven further ones 1, 7, 9 are there for E1.
    assert keeps.comparisons[0].seeds == [0]
    assert keeps.to_run["E1"] == [2, 3, 4, 5] and set(keeps.to_run["E2"]) >= {1, 2, 3, 4, 5, 7, 9}


def test_holm_over_the_three_claims_takes_back_what_is_too_weak() -> None:
    values = table(GOOD, num=3)
    # Mean 0.031667, sd 0.012583: p is about 0.049, which alone would do.
    values["E1"]["accuracy"] = {0: 0.58, 1: 0.57, 2: 0.555}
    alone = judge_claims(values, DELTAS)[0]
    weak = alone.comparisons[0]
    assert weak.outcome == "supported" and weak.p_value is not None and 0.04 < weak.p_value < 0.05
    assert all(c.outcome == "supported" for c in alone.comparisons)
    assert alone.p_value is not None and alone.p_value > 0.05
    assert alone.outcome == "inconclusive" and weak.sd is not None and alone.further_seeds is not None
    assert alone.further_seeds == max(1, seeds_needed(weak.sd, 0.02, 0.05 / 3) - 3)
    assert (
        alone.to_run["E1"] == alone.to_run["E2"] == list(range(3, 3 + alone.further_seeds))
        and "E4" not in alone.to_run
    )


def test_a_claim_without_a_verdict_keeps_its_place_in_the_family() -> None:
    values = table(GOOD)
    del values["E5"], values["E3"]
    (alone, *rest) = judge_claims(values, DELTAS)
    assert [claim.p_value for claim in rest] == [None, None]
    # Three times its own p-value, not once.
    assert alone.p_value is not None and alone.p_value > 0
    assert alone.p_value == pytest.approx(3 * max(c.p_value or 0 for c in alone.comparisons))


def test_a_delta_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="delta is 0.0. Give the smallest difference that matters, above 0."):
        judge_claims(table(GOOD), {**DELTAS, "accuracy": 0.0})
