"""Claims of a plan, judged over run folders."""

from pathlib import Path

from kvdistill.records.schema import Metrics
from kvdistill.records.study import PLAN, ClaimPlan, ComparisonPlan, FallPlan
from kvdistill.reporting.studies.arms import study_numbers
from kvdistill.reporting.studies.falls import FALLING
from pico_study import plan, write_run

FALL = [FallPlan(arm="rkv", control="e1")]
COMPARED = ComparisonPlan(first="rkv", second="e1", kind="superiority", measure="accuracy")


def write(folder: Path, seed: int) -> None:
    for arm, correct, last in (("e1", 40, 0.9), ("rkv", 60, 0.5 + seed / 1000)):
        place = folder / arm / f"seed{seed}"
        write_run(place, seed, correct + seed)
        for step, value in ((31, 1.0), (32, last)):
            losses = dict.fromkeys(FALLING, value)
            Metrics(place / "metrics.jsonl").append_row(step, losses)


def test_forms_share_a_family_and_falls_take_the_delta_of_the_claim(tmp_path: Path) -> None:
    claims = [
        ClaimPlan(title="better", comparisons=[COMPARED]),
        ClaimPlan(title="falls", comparisons=[], falls=FALL, delta=0.5),
    ]
    plan("e1", "rkv", claims=claims).write(tmp_path / PLAN)
    for seed in range(2):
        write(tmp_path, seed)
    better, falls = study_numbers(tmp_path).claims
    assert falls.falls is not None
    assert falls.falls[0].below_control.delta == 0.5
    # The two seeds' accuracies differ by the same 20 points: no spread, so that p is 1 of a family of two.
    assert (better.outcome, better.p_value) == ("inconclusive", 1.0)
    assert falls.outcome == "supported"
    assert falls.p_value == 2 * (falls.falls[0].below_control.p_value or 0)


def test_a_seed_whose_warm_start_was_too_poor_is_not_waited_for(tmp_path: Path) -> None:
    claims = [ClaimPlan(title="falls", comparisons=[], falls=FALL)]
    plan("e1", "rkv", seeds=(0, 1, 2), claims=claims).write(tmp_path / PLAN)
    for seed in range(2):
        write(tmp_path, seed)
    (waiting,) = study_numbers(tmp_path).claims
    assert waiting.to_run == {"e1": [2], "rkv": [2]}
    assert waiting.outcome == "inconclusive"
    write_run(tmp_path / "warm" / "terse" / "seed2", 2, 50, curve={50: 0.5}, task="cot")
    (claim,) = study_numbers(tmp_path).claims
    assert (claim.outcome, claim.waits_for) == ("supported", [])
