"""The report of the demo of several teachers: what its first lines say of random teachers, and its tables."""

from pathlib import Path

from kvdistill.commands.demo_teachers import summarize
from kvdistill.reporting.report import report
from kvdistill.reporting.teachers_report import lead
from pico_teachers_demo import teachers_study


def test_a_tie_with_random_teachers_is_in_the_first_lines_with_the_reason(tmp_path: Path) -> None:
    told = lead(summarize(teachers_study(tmp_path), 0, 8.0))
    assert "random weights and fitted adapters reach 95.0" in told
    assert "a tie" in told and "gold chain of thought" in told


def test_a_difference_is_told_in_points_and_with_its_direction(tmp_path: Path) -> None:
    told = lead(summarize(teachers_study(tmp_path, random_teacher=40), 0, 8.0))
    assert "56.0 points less" in told
    assert "tie" not in told


def test_the_report_has_arms_utilities_teachers_and_bars(tmp_path: Path) -> None:
    summarize(teachers_study(tmp_path), 0, 8.0).write(tmp_path / "summary.json")
    path = report(tmp_path)
    text = path.with_suffix(".md").read_text()
    for part in (
        "label of fused",
        "What each target is worth",
        "fused, random weights",
        "| gpt2 | 99.0",
        "2 x 3, ridge",
        "5 of 5 bars reached",
    ):
        assert part in text
    assert (tmp_path / "figures" / "utility.svg").is_file()
    assert (tmp_path / "figures" / "accuracy.svg").is_file()
