"""The section on a run's teachers, from a record written by hand."""

from dataclasses import replace
from pathlib import Path

from kvdistill.records.calibration import (
    CALIBRATION,
    AdapterMap,
    CalibrationRecord,
    TaskFitRecord,
    TeacherCalibration,
)
from kvdistill.records.utility import utility_of
from kvdistill.reporting.blocks import Code, Table, Words
from kvdistill.reporting.calibration_section import calibration_section
from kvdistill.reporting.report import write_report


def teacher(name: str, *r2: float) -> TeacherCalibration:
    """A teacher whose maps of keys have these R², and those of values 0.5 each."""
    maps = [
        AdapterMap(layer=layer, teacher_layers=[layer], states=states, r2=value)
        for layer, each in enumerate(r2)
        for states, value in (("keys", each), ("values", 0.5))
    ]
    return TeacherCalibration(
        teacher=name,
        source=f"models/{name}",
        weight=0.5,
        steps=["layers: 0 <- 0 (1.00)", "heads: 2 x 24 -> 4 x 16, ridge"],
        covered=0.975,
        tokens={"fit": 640, "choose": 160, "report": 200},
        maps=maps,
        memory=1024,
        seconds=0.5,
    )


def record() -> CalibrationRecord:
    targets = [
        utility_of("own cache", [True] * 4, [-0.1] * 4, chance=0.25),
        utility_of("fused", [True, True, True, False], [-0.5] * 4, chance=0.25),
    ]
    return CalibrationRecord(
        samples=512, teachers=[teacher("gpt2", 1.0, 0.5), teacher("qwen3", 0.25)], targets=targets
    )


def test_a_run_without_teachers_has_no_section() -> None:
    assert calibration_section(None) == []


def test_teachers_and_targets_are_tabled() -> None:
    """Keys of R² 1 and 0.5 are 0.75 on average; three of four right are 75 %."""
    (section,) = calibration_section(record())
    told, teachers, first, _, utility, targets = section.blocks
    assert isinstance(told, Words) and "512 training samples" in told.text
    assert isinstance(teachers, Table) and isinstance(targets, Table)
    assert [list(row) for row in teachers.rows] == [
        ["gpt2", "0.5", "97.5\N{NO-BREAK SPACE}%", "0.750", "0.500", "640"],
        ["qwen3", "0.5", "97.5\N{NO-BREAK SPACE}%", "0.250", "0.500", "640"],
    ]
    assert isinstance(first, Code) and first.text.splitlines()[0] == "gpt2: models/gpt2"
    assert [row[:2] for row in targets.rows] == [
        ["own cache", "100.0\N{NO-BREAK SPACE}%"],
        ["fused", "75.0\N{NO-BREAK SPACE}%"],
    ]
    assert isinstance(utility, Words) and "25.0" in utility.text and "4 held-out questions" in utility.text


def test_adapters_trained_on_the_answers_have_a_paragraph() -> None:
    """One of four right before, three after; the step that is kept is not the last."""
    task = TaskFitRecord(
        teachers=["gpt2", "qwen3"],
        steps=20,
        kept=15,
        held_out=[[0.0, -2.0], [20.0, -1.0]],
        before=utility_of("fused", [True, False, False, False], [-2.0] * 4),
        after=utility_of("fused", [True, True, True, False], [-0.5] * 4),
    )
    (section,) = calibration_section(replace(record(), task=task))
    told = section.blocks[4]
    assert isinstance(told, Words)
    text = told.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "of gpt2, qwen3 were then trained" in text
    assert "20 steps, of which step 15 is kept" in text
    assert "right in 25.0 % of 4 held-out questions before and 75.0 % after" in text
    assert "-2 and -0.5 nats" in text
    (section,) = calibration_section(replace(record(), task=replace(task, before=None)))
    assert "held-out question" not in getattr(section.blocks[4], "text", "")


def test_the_report_of_a_run_has_the_section(tmp_path: Path) -> None:
    record().write(tmp_path / CALIBRATION)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Teachers" in text
    assert "heads: 2 x 24 -> 4 x 16, ridge" in text
