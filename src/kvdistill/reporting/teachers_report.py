"""Report of the demo of several teachers, from the records in its folder alone."""

from functools import partial
from pathlib import Path

from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.records.intervals import Interval
from kvdistill.records.schema import EvaluationRecord
from kvdistill.records.study import PLAN, StudyPlan
from kvdistill.records.teachers_demo import TeachersSummary
from kvdistill.reporting.blocks import Block, Table, Words, percent
from kvdistill.reporting.drawing import draw
from kvdistill.reporting.figures import Measured, accuracy_bars
from kvdistill.reporting.page import Page, Section
from kvdistill.reporting.results import chance_in, row_of, table_of_answers
from kvdistill.reporting.sections import bar_table, made

STUDY = "study"
"""Folder of the demo's study in the demo's folder."""
ARMS = {
    "cot": "cot",
    "direct": "direct",
    "e1": "e1",
    "self": "step_end",
    "fused": "fused",
    "only_gpt2": "only_gpt2",
    "only_qwen3": "only_qwen3",
    "random_teacher": "random_teacher",
    "other_text": "other_text",
    "cyclic": "cyclic",
    "lift": "lift",
}
"""Arms in the order of the table -> key of their color."""
TIE = 0.05
"""Accuracies that differ by less tie."""


def write_teachers_report(folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of the demo of several teachers; returns the HTML file.

    Args:
        folder: the demo's, with ``summary.json`` and the study in ``study``.

    Raises:
        FileNotFoundError: if the summary is missing.
        ValueError: if a file is there and broken; the message names it.
    """
    summary = TeachersSummary.read(folder / "summary.json")
    plan = StudyPlan.read(folder / STUDY / PLAN)
    records = {arm: _evaluation(folder, arm, summary.seed) for arm in ARMS}
    chance = chance_in(records.values())
    rows = [row_of(record, plan.arms[arm].label, ARMS[arm]) for arm, record in records.items()]
    fused = CalibrationRecord.read(folder / STUDY / "fused" / f"seed{summary.seed}" / CALIBRATION)
    parts = [
        Section("Answers", table_of_answers(folder, rows, chance)),
        utility_section(folder, fused, summary),
        teachers_section(fused, summary),
        Section("What it had to reach", bar_table(summary.bars)),
        made(folder, "kvdistill demo-teachers", None),
    ]
    return Page("Two unlike teachers, one student", lead(summary), parts).write(folder)


def lead(summary: TeachersSummary) -> str:
    """The first paragraph: what both teachers reach, and what teachers that know nothing reach.

    Args:
        summary: the demo's summary.
    """
    text = (
        f"A student that both teachers teach answers {percent(summary.fused)} in its latent slots; alone, by "
        f"self-distillation, {percent(summary.self)}; its chains of thought are right in "
        f"{percent(summary.cot)}. "
    )
    apart = summary.fused - summary.random_teacher
    if abs(apart) <= TIE:
        return text + (
            f"The same teachers with random weights and fitted adapters reach "
            f"{percent(summary.random_teacher)}: a tie, and it is expected. All teachers read the same gold "
            "chain of thought, and in the first layer the key and value of a step's result are a function of "
            "that token alone, which the embeddings of any model tell apart. So this demo shows that the "
            "alignment works, not that the teachers know something."
        )
    return text + (
        f"The same teachers with random weights and fitted adapters reach {percent(summary.random_teacher)}, "
        f"{100 * abs(apart):.1f} points {'less' if apart > 0 else 'more'}."
    )


def utility_section(folder: Path, fused: CalibrationRecord, summary: TeachersSummary) -> Section:
    """The utility of each target before training, as a table and a picture.

    Args:
        folder: the demo's; figures are written to ``figures/`` in it.
        fused: the calibration of the arm with both teachers.
        summary: the demo's summary, for the random teachers.
    """
    measured, lines = [], []
    for target in fused.targets or []:
        interval = Interval(low=target.low, high=target.high)
        measured.append(Measured(label=target.target, accuracy=target.accuracy, interval=interval, key=None))
        lines.append([target.target, percent(target.accuracy), f"{target.nats:.2f}", str(target.num)])
    measured.append(Measured(label="fused, random weights", accuracy=summary.utility_random))
    lines.append(["fused, random weights", percent(summary.utility_random), "–", "–"])
    chance = next((target.chance for target in fused.targets or []), None)
    picture = draw(
        partial(accuracy_bars, measured, chance),
        folder / "figures" / "utility.svg",
        "Answers of the student before training, with each target in the place of its latent slots.",
    )
    told = Words(
        "Utility: a target is put in the place of the student's latent cache, before any step is trained, "
        "and the student answers questions that took no part in the fit of the adapters. Nats: "
        "log-probability of the right answer."
    )
    return Section(
        "What each target is worth",
        [told, Table(("target", "right", "nats", "questions"), lines), picture],
    )


def teachers_section(fused: CalibrationRecord, summary: TeachersSummary) -> Section:
    """What was done to each teacher's cache, and how much of the student's it explains.

    Args:
        fused: the calibration of the arm with both teachers.
        summary: the demo's summary.
    """
    header = ("teacher", "own chains right", "tokens covered", "R² of keys", "R² of values", "weight")
    lines = []
    for teacher in fused.teachers:
        r2 = [
            ", ".join(f"{each.r2:.2f}" for each in teacher.maps if each.states == states)
            for states in ("keys", "values")
        ]
        own = percent(summary.teachers[teacher.teacher])
        lines.append([teacher.teacher, own, percent(teacher.covered), *r2, f"{teacher.weight:g}"])
    blocks: list[Block] = [
        Words("R² on held-out samples, a number per layer of the student."),
        Table(header, lines),
    ]
    blocks += [Words(f"{t.teacher}: {'; '.join(t.steps)}.") for t in fused.teachers]
    return Section("The teachers", blocks)


def _evaluation(folder: Path, arm: str, seed: int) -> EvaluationRecord:
    mode = "latent"
    if arm in ("cot", "direct"):
        mode = arm
    return EvaluationRecord.read(folder / STUDY / arm / f"seed{seed}" / f"evaluation_test_{mode}.json")
