"""``kvdistill demo-teachers``: two unlike teachers teach one student on the embedded task.

The runs are those of a study file: the teachers are trained, then the student's arms. Complete runs are not
trained again. This command runs the study, and sums it up in summary.json and a report.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kvdistill.commands.demo.summary import bar_lines, ratio
from kvdistill.commands.study.run import Request, run_study
from kvdistill.config import load
from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.records.schema import Bar, EvaluationRecord, Metrics
from kvdistill.records.teachers_demo import TeachersSummary
from kvdistill.records.validation import validation_curve
from kvdistill.run.provenance import record_of

TEACHERS = ("gpt2", "qwen3")


def demo_teachers(output: str | Path, seed: int, file: str, jobs: int, command: str) -> TeachersSummary:
    """Train both teachers and all arms of the student, print the table, and write summary.json and report.

    Args:
        output: folder of the demo; the study is in ``study`` in it.
        seed: seed of data, weights and order.
        file: the study file.
        jobs: runs side by side.
        command: the command line as typed, for run.json.

    Returns:
        Accuracies, steps, utilities and bars.

    Raises:
        ValueError: if the study file is missing or wrong, or a run failed.
    """
    from kvdistill.reporting.teachers_report import STUDY, write_teachers_report  # loads matplotlib, scipy

    folder, clock = Path(output), time.monotonic()
    started = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    study = folder / STUDY
    if run_study(Request(file=file, output=str(study), jobs=jobs, seeds=str(seed))):
        raise ValueError(f"A run of the demo failed; the same command continues from here. See {study}.")
    minutes = (time.monotonic() - clock) / 60
    summary = summarize(study, seed, minutes)
    summary.write(folder / "summary.json")
    config = load(str(study / "fused" / f"seed{seed}" / "config.json"))
    replace(record_of(config, started, command), seconds=60 * minutes).write(folder / "run.json")
    report = write_teachers_report(folder)
    print(table(summary))
    print(f"Report: {report}")
    return summary


def summarize(study: Path, seed: int, minutes: float) -> TeachersSummary:
    """The summary of a complete study.

    Args:
        study: the study's folder.
        seed: its seed.
        minutes: wall time of the demo.

    Returns:
        The summary with its bars.
    """

    def accuracy(arm: str, mode: str = "latent") -> float:
        return EvaluationRecord.read(study / arm / f"seed{seed}" / f"evaluation_test_{mode}.json").accuracy

    cot, fused = accuracy("cot", "cot"), accuracy("fused")
    own, other = accuracy("self"), accuracy("other_text")
    steps = {arm: steps_of(study / arm / f"seed{seed}", 0.9 * cot) for arm in ("fused", "self")}
    utility = utilities(study / "fused" / f"seed{seed}")
    random = utilities(study / "random_teacher" / f"seed{seed}")
    return TeachersSummary(
        cot=cot,
        direct=accuracy("direct", "direct"),
        fused=fused,
        self=own,
        other_text=other,
        e1=accuracy("e1"),
        lift=accuracy("lift"),
        cyclic=accuracy("cyclic"),
        random_teacher=accuracy("random_teacher"),
        alone={name: accuracy(f"only_{name}") for name in TEACHERS},
        teachers={name: accuracy(name, "cot") for name in TEACHERS},
        fused_over_cot=ratio(fused, cot) or 0.0,
        steps_to_90_fused=steps["fused"],
        steps_to_90_self=steps["self"],
        utility_fused=utility["fused"],
        utility_self=utility["own cache"],
        utility_random=random["fused"],
        minutes=minutes,
        seed=seed,
        bars={
            "fused over chain of thought": Bar(value=ratio(fused, cot), bar=0.9),
            "steps to 90 %, fused over self": Bar(
                value=ratio(steps["fused"], steps["self"]), bar=1.5, at_most=True
            ),
            "other text over fused": Bar(value=ratio(other, fused), bar=0.5, at_most=True),
            "utility, fused over self": Bar(value=ratio(utility["fused"], utility["own cache"]), bar=0.8),
            "minutes": Bar(value=minutes, bar=9.0, at_most=True, text=f"{minutes:.2f}"),
        },
    )


def steps_of(run: Path, threshold: float) -> int | None:
    """The first step at which a run's validation accuracy reached a threshold.

    Args:
        run: the run folder.
        threshold: accuracy, 0 to 1.

    Returns:
        Optimizer steps; None if it never did.
    """
    curve = validation_curve(run.parent.name, Metrics(run / "metrics.jsonl").series())
    if curve is None:
        return None
    return curve.first_step(threshold)


def utilities(run: Path) -> dict[str, float]:
    """The utility of each target of a run, before its training.

    Args:
        run: the run folder.

    Returns:
        Accuracy (0 to 1) by the target's name.
    """
    record = CalibrationRecord.read(run / CALIBRATION)
    return {target.target: target.accuracy for target in record.targets or []}


def table(summary: TeachersSummary) -> str:
    """The table that the demo prints: accuracies, then each bar.

    Args:
        summary: the demo's summary.
    """
    rows = {
        "chain of thought": summary.cot,
        "direct answers": summary.direct,
        "E1, no KV loss": summary.e1,
        "self-distillation": summary.self,
        "both teachers, fused": summary.fused,
        **{f"{name} alone": accuracy for name, accuracy in summary.alone.items()},
        "both with random weights": summary.random_teacher,
        "both, another question's chain": summary.other_text,
        "own cache through adapters": summary.cyclic,
        "lift": summary.lift,
    }
    lines = [f"{'':34}{'accuracy':>10}"]
    lines += [f"{label:34}{100 * accuracy:>9.1f}%" for label, accuracy in rows.items()]
    return "\n".join([*lines, *bar_lines(summary.bars)])
