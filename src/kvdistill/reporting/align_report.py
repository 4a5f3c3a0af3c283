"""The report of an alignment: what is done to each teacher, how well it fits, what its targets are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvdistill.console.wording import counted, short_number, size_text
from kvdistill.records.calibration import CalibrationRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility
from kvdistill.reporting.blocks import Block, Table, Words, percent, percent_range
from kvdistill.reporting.page import Page, Section


@dataclass(frozen=True)
class TokenTable:
    """The tokens of student and teacher in one chain of thought."""

    student: Sequence[str]
    teacher: Sequence[str]
    weights: Sequence[Sequence[float]]
    """Per student token, the share of each teacher token in its keys and values."""


def align_page(record: CalibrationRecord, step_samples: int, figures: Mapping[str, Sequence[Block]]) -> Page:
    """The report of a calibration.

    Args:
        record: the calibration.
        step_samples: training samples of one step of the run, to tell the teachers' time per step.
        figures: by teacher, the blocks after its table.

    Returns:
        A page for a screen, or for the terminal (``plain``).
    """
    lead = (
        f"How {counted(len(record.teachers), 'teacher')} will be aligned with the student, measured on "
        f"{counted(record.samples, 'training sample')} before the first step. R² and cosine are of held-out "
        "samples."
    )
    sections = [Section("Teachers", [_teachers(record, step_samples)])]
    sections += [
        Section(f"Teacher {each.teacher}", [*_steps(each), _layers(each), *figures.get(each.teacher, ())])
        for each in record.teachers
    ]
    sections.append(Section("What each target is worth", _targets(record.targets)))
    return Page("Alignment of the teachers", lead, sections)


def _teachers(record: CalibrationRecord, step_samples: int) -> Table:
    header = ["teacher", "weight", "covered", "R² keys", "R² values", "cosine", "memory", "s a step"]
    rows = []
    for each in record.teachers:
        seconds = each.seconds / max(record.samples, 1) * step_samples
        rows.append(
            [
                each.teacher,
                f"{each.weight:g}",
                percent(each.covered),
                f"{each.mean_r2('keys'):.3f}",
                f"{each.mean_r2('values'):.3f}",
                _decimal(each.mean_cosine()),
                size_text(each.memory),
                short_number(seconds),
            ]
        )
    return Table(header, rows)


def _steps(teacher: TeacherCalibration) -> list[Block]:
    """What is done, a line per step."""
    tokens = ", ".join(f"{count:,} to {part}" for part, count in teacher.tokens.items())
    told = [f"model: {teacher.source}", *teacher.steps, f"tokens: {tokens}"]
    return [Table(["", ""], [line.split(": ", 1) for line in told], words=True)]


def _layers(teacher: TeacherCalibration) -> Table:
    """R² and cosine of each student layer."""
    rows, cosines = [], teacher.attention_cosine or []
    values = {each.layer: each for each in teacher.maps if each.states == "values"}
    keys = [each for each in teacher.maps if each.states == "keys"]
    for place, each in enumerate(keys):
        cosine = None
        if place < len(cosines):
            cosine = cosines[place]
        theirs = ", ".join(map(str, each.teacher_layers))
        r2 = [f"{each.r2:.3f}", f"{values[each.layer].r2:.3f}"]
        rows.append([str(each.layer), theirs, *r2, _decimal(cosine)])
    return Table(["student layer", "teacher layers", "R² keys", "R² values", "cosine"], rows)


def _targets(targets: Sequence[TargetUtility] | None) -> list[Block]:
    if not targets:
        return [
            Words(
                "Not measured: the compressor keeps more than the student's slots, or no sample is held out."
            )
        ]
    header = ["target", "right", "95 %", "nats", "chance", "questions"]
    rows = [
        [
            each.target,
            percent(each.accuracy),
            percent_range(each.low, each.high),
            f"{each.nats:.2f}",
            percent(each.chance),
            str(each.num),
        ]
        for each in targets
    ]
    told = (
        "The student at its starting weights answers with each target in the place of its latent cache. A "
        "student that cannot reason in text yet is near chance with all of them."
    )
    return [Table(header, rows), Words(told)]


def _decimal(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}"
