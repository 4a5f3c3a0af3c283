"""The plan of a study as a file."""

from pathlib import Path

from kvdistill.records.study import PLAN, StudyPlan, run_folder
from pico_study import plan


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = plan("e1", "rkv", grids={"m": "slots"}, delta={"accuracy": 0.05})
    written.write(tmp_path / PLAN)
    assert StudyPlan.read(tmp_path / PLAN) == written


def test_folders_of_runs_by_hand() -> None:
    assert run_folder("fused", 3) == "fused/seed3"
    assert run_folder("annealed", 0, warm=True) == "warm/annealed/seed0"
