"""Sections of a study's report: what their tables say."""

from dataclasses import replace
from pathlib import Path

from kvdistill.records.study import PLAN, ArmPlan
from kvdistill.reporting.blocks import Table
from kvdistill.reporting.page import Section
from kvdistill.reporting.palette import METHODS
from kvdistill.reporting.studies import arm_sections
from kvdistill.reporting.studies.arms import StudyNumbers, study_numbers
from pico_study import plan, write_run


def rows(section: Section) -> list[list[str]]:
    """The cells of a section's first table."""
    table = next(block for block in section.blocks if isinstance(block, Table))
    return [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows]


def numbers(folder: Path) -> StudyNumbers:
    """Two seeds of two arms, one of which learns in one seed; a third one has not run."""
    made = plan("e1", "rkv", "late")
    arms = made.arms | {"e1": ArmPlan(label="no KV loss", experiment="E1", seeds=[0, 1])}
    replace(made, arms=arms).write(folder / PLAN)
    for seed, right in enumerate((20, 95)):
        write_run(folder / "e1" / f"seed{seed}", seed, 20, {10: 0.1, 20: 0.2})
        write_run(folder / "rkv" / f"seed{seed}", seed, right, {10: 0.1, 20: right / 100})
    return study_numbers(folder)


def test_the_tables_of_a_small_study(tmp_path: Path) -> None:
    found = numbers(tmp_path)
    ran = rows(arm_sections.ran(found))
    assert ran[0] == ["no KV loss", "e1", "E1", "0–1", "–", "the baseline"]
    assert ran[2][3:5] == ["not run", "0–1"]
    results = arm_sections.table(found, tmp_path / "figures" / "study_")
    e1, rkv, chance = rows(results)
    assert e1[:5] == ["no KV loss", "2", "20.0 %", "20.0–20.0 %", "0.0"]
    assert rkv[:3] == ["arm rkv", "2", "57.5 %"]
    assert (rkv[4], rkv[5]) == ("53.0", "+37.5")
    assert chance[:3] == ["chance", "–", "14.0 %"]
    learning = rows(arm_sections.learning(found)[0])
    assert learning[0][:2] == ["no KV loss", "0 of 2"]
    assert learning[1][1:5] == ["1 of 2", "1.3–98.7 %", "1", "20 (1 never)"]
    assert arm_sections.depths(found) == []
    assert [section.title for section in arm_sections.training(found, tmp_path / "study_")] == [
        "Training curves"
    ]
    assert arm_sections.warm(found) == []
    facts = dict(rows(arm_sections.made(found, "kvdistill study report x")))
    assert facts["hours of training"] == "0.1"


def test_a_task_that_all_data_sets_share_is_listed_once(tmp_path: Path) -> None:
    found = numbers(tmp_path)
    task = {
        "data.train.task.trace": '"verbose"',
        "data.validation.task.trace": '"verbose"',
        "data.test.task.trace": '"verbose"',
        "data.train.task.steps": "4",
        "data.validation.task.steps": "4",
        "data.test.task.steps": "8",
        "data.train.task.filler": '"giver"',
        "loss.kv_weight": "0.0",
    }
    _, rkv, _ = rows(arm_sections.ran(replace(found, options={"rkv": task})))
    assert rkv[5] == (
        'task.trace = "verbose", data.train.task.steps = 4, data.validation.task.steps = 4, '
        'data.test.task.steps = 8, data.train.task.filler = "giver", loss.kv_weight = 0.0'
    )


def test_an_arm_has_the_color_of_its_experiment_and_its_own_label(tmp_path: Path) -> None:
    look = arm_sections.look(numbers(tmp_path), "e1")
    assert (look.label, look.tint) == ("no KV loss", METHODS["e1"].tint)


def test_depths_are_columns(tmp_path: Path) -> None:
    found = numbers(tmp_path)
    row = replace(found.rows["rkv"], by_depth={1: 1.0, 2: 0.25})
    (section,) = arm_sections.depths(replace(found, rows=found.rows | {"rkv": row}))
    assert rows(section) == [["arm rkv", "100.0 %", "25.0 %"]]
