"""The summary of the demo of several teachers."""

from pathlib import Path

from kvdistill.records.schema import Bar
from kvdistill.records.teachers_demo import TeachersSummary


def test_it_survives_its_file_and_keeps_the_key_self(tmp_path: Path) -> None:
    summary = TeachersSummary(
        cot=1.0,
        direct=0.1,
        fused=0.9,
        self=0.95,
        other_text=0.1,
        e1=0.3,
        lift=0.2,
        cyclic=0.9,
        random_teacher=0.9,
        alone={"a": 0.8},
        teachers={"a": 1.0},
        fused_over_cot=0.9,
        steps_to_90_fused=None,
        steps_to_90_self=75,
        utility_fused=0.9,
        utility_self=1.0,
        utility_random=0.5,
        minutes=8.0,
        seed=0,
        bars={"minutes": Bar(value=8.0, bar=9.0, at_most=True)},
    )
    summary.write(tmp_path / "summary.json")
    assert '"self": 0.95' in (tmp_path / "summary.json").read_text()
    assert TeachersSummary.read(tmp_path / "summary.json") == summary
