"""The demo of several teachers: its summary from the study's records, its bars and its table."""

from pathlib import Path

import pytest

from kvdistill.commands import demo_teachers as demo
from kvdistill.commands.study.run import Request
from kvdistill.records.teachers_demo import TeachersSummary
from pico_teachers_demo import teachers_study


def test_the_summary_has_the_studys_numbers(tmp_path: Path) -> None:
    found = demo.summarize(teachers_study(tmp_path), 0, 8.0)
    assert (found.cot, found.fused, found.self, found.other_text) == (1.0, 0.96, 0.98, 0.14)
    assert found.alone == {"gpt2": 0.9, "qwen3": 0.97}
    assert found.teachers == {"gpt2": 0.99, "qwen3": 1.0}
    # 90 % of the chains of thought's accuracy is .9; only the last point of either curve is above.
    assert (found.steps_to_90_fused, found.steps_to_90_self) == (75, 75)
    assert (found.utility_fused, found.utility_self) == (0.9, 1.0)
    assert found.fused_over_cot == 0.96
    assert {name: bar.reached for name, bar in found.bars.items()} == dict.fromkeys(found.bars, True)
    assert found.bars["other text over fused"].value == pytest.approx(0.14 / 0.96)
    found.write(tmp_path / "summary.json")
    assert TeachersSummary.read(tmp_path / "summary.json") == found


def test_a_bar_that_is_missed_is_said(tmp_path: Path) -> None:
    found = demo.summarize(teachers_study(tmp_path), 0, 9.5)
    assert not found.bars["minutes"].reached
    told = demo.table(found).splitlines()
    assert told[-1].split() == ["minutes:", "9.50", "bar", "<=", "9", "NOT", "reached"]
    assert any(line.startswith("both teachers, fused") and line.endswith("96.0%") for line in told)


def test_a_curve_that_never_gets_there_has_no_step(tmp_path: Path) -> None:
    study = teachers_study(tmp_path)
    assert demo.steps_of(study / "lift" / "seed0", 0.9) is None
    assert demo.steps_of(study / "lift" / "seed0", 0.5) == 50


def test_the_command_runs_the_study_and_writes_summary_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Request] = []

    def run(request: Request) -> int:
        asked.append(request)
        teachers_study(tmp_path)
        return 0

    monkeypatch.setattr(demo, "run_study", run)
    demo.demo_teachers(tmp_path, 0, "study.toml", 2, "kvdistill demo-teachers")
    assert (asked[0].file, asked[0].seeds, asked[0].jobs) == ("study.toml", "0", 2)
    assert (tmp_path / "summary.json").is_file() and (tmp_path / "report.html").is_file()
    assert "Report: " in capsys.readouterr().out
    monkeypatch.setattr(demo, "run_study", lambda request: 1)
    with pytest.raises(ValueError, match="the same command continues from here"):
        demo.demo_teachers(tmp_path, 0, "study.toml", 2, "kvdistill demo-teachers")
