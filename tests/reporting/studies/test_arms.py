"""Numbers of a study, worked out by hand."""

from pathlib import Path

import pytest

from kvdistill.records.study import PLAN, ClaimPlan, ComparisonPlan
from kvdistill.reporting.studies.arms import StudyNumbers, by_seed, study_numbers, time_test
from pico_study import plan, write_run

E1 = {10: 0.1, 20: 0.1, 30: 0.2}
RKV = {10: 0.5, 20: 0.9, 30: 1.0}


def made(folder: Path, seeds: int = 4, **changes: object) -> StudyNumbers:
    """A study in which R-KV learns at step 20 in every seed, and E1 in none."""
    plan("e1", "rkv", seeds=tuple(range(seeds)), **changes).write(folder / PLAN)
    for seed in range(seeds):
        write_run(folder / "e1" / f"seed{seed}", seed, 20 + seed, E1)
        write_run(folder / "rkv" / f"seed{seed}", seed, 96, RKV)
    return study_numbers(folder)


def test_rows_have_means_areas_times_and_tests_against_the_baseline(tmp_path: Path) -> None:
    numbers = made(tmp_path)
    e1, rkv = numbers.rows["e1"], numbers.rows["rkv"]
    assert e1.measures["accuracy"].mean == pytest.approx((20 + 21 + 22 + 23) / 400)
    assert e1.spread == pytest.approx((5 / 3) ** 0.5 / 100)  # deviations of 1.5, .5, .5, 1.5 points
    # Trapezoids of ten steps each over twenty steps.
    assert e1.measures["area"].mean == pytest.approx((0.1 + 0.15) / 2)
    assert rkv.measures["area"].mean == pytest.approx((0.7 + 0.95) / 2)
    assert by_seed(e1, "steps_to_90") == dict.fromkeys(range(4), 30.0)
    assert [time.reached for time in e1.times.values()] == [False] * 4
    assert by_seed(rkv, "steps_to_90") == dict.fromkeys(range(4), 20.0)
    assert by_seed(rkv, "difference")[3] == pytest.approx(0.73)
    assert "difference" not in e1.measures
    assert (e1.learned, rkv.learned) == ([], [0, 1, 2, 3])
    # Of the 70 ways to pick four of eight seeds, two are as extreme.
    assert rkv.p_learned == pytest.approx(2 / 70)
    assert rkv.p_time is not None
    assert rkv.p_time < 0.01
    assert time_test(e1, e1) is None
    assert numbers.chance == pytest.approx(0.14)
    assert numbers.hours == pytest.approx(8 * 1.5 / 60)
    (claim,) = numbers.claims
    assert (claim.outcome, claim.comparisons[0].name) == ("supported", "accuracy: rkv − e1 > 0")


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    numbers = made(tmp_path)
    numbers.write(tmp_path / "study.json")
    assert StudyNumbers.read(tmp_path / "study.json") == numbers


def test_steps_are_compared_the_other_way_round_with_the_delta_of_the_claim(tmp_path: Path) -> None:
    def claim(delta: float | None) -> list[ClaimPlan]:
        kind = ComparisonPlan(
            first="rkv", second="e1", kind="superiority", measure="steps_to_90", delta=delta
        )
        return [ClaimPlan(title="R-KV learns sooner", comparisons=[kind])]

    (own,) = made(tmp_path, claims=claim(7.0)).claims
    assert (own.comparisons[0].name, own.comparisons[0].mean, own.comparisons[0].delta) == (
        "steps: e1 − rkv > 0",
        10.0,
        7.0,
    )
    (interval,) = made(tmp_path / "b", claims=claim(None)).claims
    assert interval.comparisons[0].delta == 10.0
    (given,) = made(tmp_path / "c", claims=claim(None), delta={"steps_to_90": 5.0}).claims
    assert given.comparisons[0].delta == 5.0


def test_late_claims_and_poor_warm_starts_are_warned_of(tmp_path: Path) -> None:
    assert made(tmp_path).warnings == []
    write_run(tmp_path / "warm" / "terse" / "seed0", 0, 98, curve={50: 0.98}, task="cot")
    write_run(tmp_path / "warm" / "terse" / "seed1", 1, 98, curve={50: 0.99}, task="cot")
    plan("e1", "rkv", planned="2030-01-02T00:00:01+00:00").write(tmp_path / PLAN)
    late, poor = study_numbers(tmp_path).warnings
    assert late.endswith("their verdicts describe these seeds and do not confirm.")
    assert poor.startswith("The warm start terse of seed 0 ended below accuracy 0.99")


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`kvdistill study run` writes it"):
        study_numbers(tmp_path)
