"""The claims' sections of a study's report."""

from pathlib import Path

from kvdistill.records.study import PLAN
from kvdistill.reporting.blocks import Words
from kvdistill.reporting.studies.arm_claims import claims
from kvdistill.reporting.studies.arms import study_numbers
from pico_study import plan, write_run


def test_a_claim_has_its_verdict_and_says_what_it_waits_for(tmp_path: Path) -> None:
    plan("e1", "rkv").write(tmp_path / PLAN)
    write_run(tmp_path / "e1" / "seed0", 0, 20)
    section, how = claims(study_numbers(tmp_path), tmp_path / "study_")
    assert section.title == "Claim 1. The second helps: INCONCLUSIVE"
    assert section.blocks[1] == Words("It waits for rkv. It needs 8 more seeds.")
    assert how.title == "How verdicts are made"


def test_a_study_without_claims_has_no_such_section(tmp_path: Path) -> None:
    plan("e1", "rkv", claims=[]).write(tmp_path / PLAN)
    assert claims(study_numbers(tmp_path), tmp_path / "study_") == []
