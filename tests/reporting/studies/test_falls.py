"""Claims that losses fall, from losses made by hand."""

import math
from collections.abc import Sequence

import pytest

from kvdistill.records.study import FallPlan
from kvdistill.reporting.studies.falls import FALLING, FallingClaim, loss_ends
from kvdistill.reporting.studies.family import judge_forms
from kvdistill.reporting.studies.judged import JudgedClaim, LossEnds

NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005, 0.001, 0.0, -0.001)


def ends(last: float = 0.5, **changes: float) -> dict[str, LossEnds]:
    return {loss: LossEnds(first=1.0, last=changes.get(loss, last)) for loss in FALLING}


def judged(
    num: int = 4, control: float = 0.6, planned: Sequence[int] = range(4), **changes: float
) -> JudgedClaim:
    """``dual`` ends at .5, its control at ``control`` with a little noise; changes are of seed 1."""
    table = {
        "dual": {seed: ends(**(changes if seed == 1 else {})) for seed in range(num)},
        "mean": {seed: ends(validation_kv=control + NOISE[seed]) for seed in range(num)},
    }
    seeds = {"dual": list(planned), "mean": list(planned)}
    claim = FallingClaim(title="M1", plans=[FallPlan(arm="dual", control="mean")], ends=table, planned=seeds)
    (found,) = judge_forms([claim])
    return found


def test_ends_are_means_of_tenths() -> None:
    values = [float(value) for value in range(20, 0, -1)]  # 20, 19, ..., 2, 1
    assert loss_ends(values) == LossEnds(first=19.5, last=1.5)
    assert loss_ends([3.0, 2.0]) == LossEnds(first=3.0, last=2.0)
    assert loss_ends([3.0]) is None
    assert not LossEnds(first=1.0, last=math.nan).fell
    assert not LossEnds(first=1.0, last=1.0).fell


def test_losses_that_fall_below_the_control_support_the_claim() -> None:
    claim = judged()
    assert (claim.outcome, claim.waits_for, claim.further_seeds) == ("supported", [], None)
    assert claim.falls is not None
    (fall,) = claim.falls
    # (.6 - .5) / .6 is a sixth, up to the noise.
    assert fall.below_control.mean == pytest.approx(1 / 6, abs=1e-3)
    assert fall.below_control.name == "validation KV: mean − dual > 0"
    assert fall.gap is not None
    assert (fall.gap.mean, fall.wide, fall.not_fallen) == (0.0, False, {})


def test_one_seed_in_which_a_loss_does_not_fall_refutes_it() -> None:
    for loss in FALLING:
        claim = judged(**{loss: 1.0})  # pyright: ignore
        assert claim.outcome == "not supported"
        assert claim.falls is not None
        assert claim.falls[0].not_fallen == {loss: [1]}


def test_a_loss_no_better_than_the_control_refutes_it() -> None:
    assert judged(control=0.5).outcome == "not supported"
    assert judged(control=0.4).outcome == "not supported"


def test_missing_runs_and_too_few_seeds_are_told() -> None:
    claim = judged(planned=range(6))
    assert (claim.outcome, claim.to_run) == ("inconclusive", {"mean": [4, 5], "dual": [4, 5]})
    assert claim.waits_for == ["runs of mean with seed 4–5", "runs of dual with seed 4–5"]
    one = judged(num=1, planned=[0])
    assert (one.outcome, one.waits_for, one.further_seeds) == ("inconclusive", [], 7)


def test_a_run_without_a_loss_is_named() -> None:
    table = {"dual": {seed: ends() for seed in range(2)}, "mean": {seed: ends(0.6) for seed in range(2)}}
    del table["dual"][1]["validation_ce"]
    seeds = {"dual": [0, 1], "mean": [0, 1]}
    plans = [FallPlan(arm="dual", control="mean")]
    (claim,) = judge_forms([FallingClaim(title="M1", plans=plans, ends=table, planned=seeds)])
    assert claim.waits_for == ["two logged values of validation_ce in dual, seed 1"]
    assert claim.outcome == "inconclusive"


def test_a_gap_above_three_percent_is_flagged() -> None:
    claim = judged(validation_kv=0.58)
    assert claim.falls is not None
    # 16 % in one of four seeds is 4 % in the mean.
    assert claim.falls[0].gap is not None
    assert claim.falls[0].gap.mean == pytest.approx(0.04)
    assert claim.falls[0].wide
