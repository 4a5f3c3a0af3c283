"""Reports of a demo, a training run or a study, made from the records in their folders alone."""

from collections.abc import Sequence
from pathlib import Path

from kvdistill.records.calibration import CALIBRATION, CalibrationRecord
from kvdistill.records.example import ExampleRecord
from kvdistill.records.probes import ProbesRecord
from kvdistill.records.routing import ROUTING, RoutingRecord
from kvdistill.records.schema import Curve, DemoSummary, EvaluationRecord
from kvdistill.records.study import PLAN
from kvdistill.reporting import results, sections, training_sections
from kvdistill.reporting.blocks import Block, Missing, percent
from kvdistill.reporting.calibration_section import calibration_section
from kvdistill.reporting.depth_section import depth_section
from kvdistill.reporting.example_section import example_section
from kvdistill.reporting.layer_section import layer_section
from kvdistill.reporting.page import Page, Section
from kvdistill.reporting.routing_section import routing_section
from kvdistill.reporting.studies.experiment_report import write_experiment_report
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.study_report import write_study_report
from kvdistill.reporting.teachers_report import STUDY, write_teachers_report


def report(folder: Path) -> Path:
    """Write the report that fits a folder.

    Args:
        folder: a demo's (with summary.json), a study's (with plan.json), a run's (with run.json), or one with
            runs of E1 to E5.

    Returns:
        Path of the report: HTML, or plain text for studies.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if nothing in it can be reported on, or a file is broken; the message names it.
    """
    _require(folder, "kvdistill demo` or `kvdistill train")
    reports = (
        (f"{STUDY}/{PLAN}", write_teachers_report),
        ("summary.json", write_demo_report),
        (PLAN, write_study_report),
        ("run.json", write_report),
    )
    for file, write in reports:
        if (folder / file).is_file():
            return write(folder)
    if discover(folder).studies:
        return write_experiment_report(folder)
    raise ValueError(
        f"{folder} holds nothing to report on: name the folder of a demo (with summary.json), of a run "
        "(with run.json), or one with runs "
        "in <experiment>/seed<number>."
    )


def write_demo_report(folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of a demo into its folder; returns the HTML file.

    Reads ``summary.json``, ``evaluation_{cot,cot_terse,direct,latent_e1,latent_kv,...}.json``,
    ``curve_*.json``, ``metrics*.jsonl``, ``example.json``, ``probes.json`` and ``run.json``, where they
    exist. Figures are written to ``figures/``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file is there and broken; the message names it.
    """
    _require(folder, "kvdistill demo")
    summary = DemoSummary.find(folder / "summary.json")
    records = {
        path.stem.removeprefix("evaluation_"): EvaluationRecord.read(path)
        for path in sorted(folder.glob("evaluation_*.json"))
    }
    curves = {
        path.stem.removeprefix("curve_"): Curve.read(path) for path in sorted(folder.glob("curve_*.json"))
    }
    chance = results.chance_in(records.values())
    parts = [
        *example_section(ExampleRecord.find(folder / "example.json")),
        results.demo_section(folder, summary, records),
        *depth_section(folder, results.demo_rows(summary, records), chance),
        sections.probes(folder, ProbesRecord.find(folder / "probes.json"), summary, chance),
        training_sections.training(folder, summary, curves, chance),
        training_sections.losses(folder, "kvdistill demo"),
        sections.methods(summary),
        sections.bars(summary),
        sections.made(folder, "kvdistill demo", summary),
    ]
    title, lead = sections.headline(summary, records)
    return Page(title=title, lead=lead, sections=parts).write(folder)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of a training run into its folder; returns the HTML file.

    Reads ``run.json``, ``metrics*.jsonl``, ``evaluation*.json``, ``example.json``, ``probes.json``,
    ``calibration.json``, ``routing.json`` and ``curve_*.json``, where they exist. Figures are written to
    ``figures/``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file is there and broken; the message names it.
    """
    _require(folder, "kvdistill train")
    records = {path.stem: EvaluationRecord.read(path) for path in sorted(folder.glob("evaluation*.json"))}
    rows = results.evaluated(records)
    chance = results.chance_in(records.values())
    curves = {
        path.stem.removeprefix("curve_"): Curve.read(path) for path in sorted(folder.glob("curve_*.json"))
    }
    curves = curves or training_sections.run_curve(folder)
    table: list[Block] = [Missing("evaluation.json", "kvdistill evaluate")]
    if rows:
        table = results.table_of_answers(folder, rows, chance)
    parts = [*example_section(ExampleRecord.find(folder / "example.json")), Section("Answers", table)]
    parts += depth_section(folder, rows, chance)
    if (probes := ProbesRecord.find(folder / "probes.json")) is not None:
        parts.append(sections.probes(folder, probes, None, chance))
    parts += calibration_section(CalibrationRecord.find(folder / CALIBRATION))
    parts += routing_section(folder, RoutingRecord.find(folder / ROUTING))
    if curves:
        parts.append(training_sections.training(folder, None, curves, None))
    parts += [
        training_sections.losses(folder, "kvdistill train"),
        *layer_section(folder),
        sections.made(folder, "kvdistill train", None),
    ]
    title = f"Training run {folder.resolve().name}"
    return Page(title=title, lead=_lead(rows, chance), sections=parts).write(folder)


def _lead(rows: Sequence[results.Row], chance: float | None) -> str:
    """The first paragraph of a run's report: its best accuracy, beside chance."""
    if not rows:
        return "Not evaluated yet."
    best = max((row.measured for row in rows), key=lambda measured: measured.accuracy)
    told = f"Best accuracy: {percent(best.accuracy)}, {best.label}"
    if chance is not None:
        told += f"; always giving the most frequent answer would be right in {percent(chance)}"
    return f"{told}."


def _require(folder: Path, command: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the one that `{command}` wrote.")
