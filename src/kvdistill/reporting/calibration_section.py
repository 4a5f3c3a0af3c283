"""The section of a report on the alignment of a run's teachers."""

from collections.abc import Sequence

from kvdistill.console.wording import counted
from kvdistill.records.calibration import CalibrationRecord, TaskFitRecord, TeacherCalibration
from kvdistill.records.utility import TargetUtility
from kvdistill.reporting.blocks import Block, Code, Table, Words, percent
from kvdistill.reporting.nats import nats
from kvdistill.reporting.page import Section


def calibration_section(record: CalibrationRecord | None) -> list[Section]:
    """How each teacher was aligned before the first step, and what the targets are worth.

    Args:
        record: ``calibration.json`` of the run; None where it has none.

    Returns:
        One section; none without a record.
    """
    if record is None:
        return []
    told = (
        f"Adapters were fitted to the student's own cache on {counted(record.samples, 'training sample')}, "
        "before the first step. R² is measured on samples that took no part in the fit."
    )
    blocks: list[Block] = [Words(told), _teachers(record.teachers)]
    for teacher in record.teachers:
        steps = [f"{teacher.teacher}: {teacher.source}", *teacher.steps]
        blocks.append(Code("\n".join(steps)))
    if record.task is not None:
        blocks.append(Words(_trained(record.task)))
    if record.targets:
        blocks += _utility(record.targets)
    return [Section("Teachers", blocks)]


def _teachers(teachers: Sequence[TeacherCalibration]) -> Table:
    """One row per teacher: weight, coverage, and the mean R² over the student's layers."""
    header = ("teacher", "weight", "student tokens covered", "R² of keys", "R² of values", "tokens fitted on")
    rows = []
    for each in teachers:
        scores = [f"{each.mean_r2(states):.3f}" for states in ("keys", "values")]
        fitted = str(each.tokens.get("fit", 0))
        rows.append([each.teacher, f"{each.weight:g}", percent(each.covered), *scores, fitted])
    return Table(header, rows)


def _trained(task: TaskFitRecord) -> str:
    """Adapters that were trained by the answer's cross-entropy: steps, and utility before and after."""
    told = (
        f"The adapters of {', '.join(task.teachers)} were then trained by the cross-entropy of the right "
        f"answer, with the student frozen: {counted(task.steps, 'step')}, of which step {task.kept} is kept."
    )
    if task.before is None or task.after is None:
        return told
    return (
        f"{told} With the fused target in the place of its slots the student was right in "
        f"{percent(task.before.accuracy)} of {counted(task.before.num, 'held-out question')} before and "
        f"{percent(task.after.accuracy)} after (right answer {nats(task.before.nats)} and "
        f"{nats(task.after.nats)} nats)."
    )


def _utility(targets: Sequence[TargetUtility]) -> list[Block]:
    """Accuracy and log-probability of the untrained student behind each target."""
    rows = []
    for target in targets:
        interval = f"{percent(target.low)} to {percent(target.high)}"
        rows.append([target.target, percent(target.accuracy), interval, nats(target.nats)])
    chance = ""
    if targets[0].chance is not None:
        chance = f" Always giving the most frequent answer would be right in {percent(targets[0].chance)}."
    told = (
        "Utility: how often the student, before training, is right on "
        f"{counted(targets[0].num, 'held-out question')} with a target in the place of its slots.{chance}"
    )
    return [Words(told), Table(("target", "right", "95 % interval", "right answer in nats"), rows)]
