"""The plan of a study as a file."""

from pathlib import Path

from kvdistill.records.study import PLAN, StudyPlan
from pico_study import plan


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = plan("e1", "rkv", grids={"m": "slots"}, delta={"accuracy": 0.05})
    written.write(tmp_path / PLAN)
    assert StudyPlan.read(tmp_path / PLAN) == written
