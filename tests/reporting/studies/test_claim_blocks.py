"""A study with falling losses and a relative gain, from run folders to the report."""

from pathlib import Path

from kvdistill.records.schema import Metrics
from kvdistill.records.study import PLAN, ClaimPlan, FallPlan, GainPlan, StudyPlan
from kvdistill.reporting.blocks import Words
from kvdistill.reporting.studies.arm_claims import claims
from kvdistill.reporting.studies.arms import StudyNumbers, study_numbers
from pico_reports import rows
from pico_study import plan, write_run

FALLS = ClaimPlan(title="M1", comparisons=[], falls=[FallPlan(arm="rkv", control="e1")])
GAIN = GainPlan(first="rkv", second="e1", measure="accuracy")
GAINS = ClaimPlan(title="M3", comparisons=[], gains=[GAIN], target=[0.03, 0.05])


def write(folder: Path) -> StudyNumbers:
    """Two seeds in which R-KV's losses halve, and its validation KV ends 10 % above its training KV."""
    plan("e1", "rkv", claims=[FALLS, GAINS]).write(folder / PLAN)
    for seed in range(2):
        for arm, correct, last in (("e1", 40, 0.8), ("rkv", 60, 0.55 + seed / 1000)):
            write_run(folder / arm / f"seed{seed}", seed, correct + seed)
            metrics = Metrics(folder / arm / f"seed{seed}" / "metrics.jsonl")
            train = {"kv": 1.0, "ce_student": 1.0}
            metrics.append_row(31, train | {"validation_kv": 1.0, "validation_ce": 1.0})
            metrics.append_row(
                32, {"kv": 0.5, "ce_student": 0.5, "validation_kv": last, "validation_ce": 0.5}
            )
    return study_numbers(folder)


def test_plan_and_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    numbers = write(tmp_path)
    assert StudyPlan.read(tmp_path / PLAN).claims == [FALLS, GAINS]
    numbers.write(tmp_path / "study.json")
    assert StudyNumbers.read(tmp_path / "study.json") == numbers


def test_the_sections_show_losses_control_gap_and_gains(tmp_path: Path) -> None:
    falls, gains, how = claims(write(tmp_path), tmp_path / "study_")
    assert falls.title == "Claim 1. M1: SUPPORTED"
    losses, control = rows(falls)
    assert losses[0] == ["kv", "1", "0.5", "none"]
    # (.8 - .5505) / .8
    assert control[0][:3] == ["validation KV: e1 − rkv > 0", "2", "+31.2"]
    said = [block.text for block in falls.blocks if isinstance(block, Words)]
    assert said[0].startswith("Validation over training KV loss of rkv at the end, minus 1: +10.1 % [")
    assert said[0].endswith("The gap is above 3 %.")
    assert gains.title.startswith("Claim 2. M3: ")
    assert rows(gains)[0][0][:3] == ["accuracy: rkv / e1 − 1", "2", "49.4 %"]
    assert gains.blocks[0] == Words("Target: a relative gain of 3.0–5.0\N{NO-BREAK SPACE}%.")
    assert sum("Relative gain:" in block.text for block in how.blocks if isinstance(block, Words)) == 1


def test_what_has_not_run_is_told(tmp_path: Path) -> None:
    plan("e1", "rkv", claims=[FALLS, GAINS]).write(tmp_path / PLAN)
    falls, gains, _ = claims(study_numbers(tmp_path), tmp_path / "study_")
    assert isinstance(falls.blocks[-1], Words)
    assert isinstance(gains.blocks[-1], Words)
    assert falls.blocks[-1].text.startswith(
        "It waits for runs of e1 with seed 0–1, runs of rkv with seed 0–1."
    )
    assert gains.blocks[-1].text == "It waits for e1, rkv. It needs 8 more seeds."
