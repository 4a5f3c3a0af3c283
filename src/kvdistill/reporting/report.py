"""Reports of a demo and of a training run, made from the records in their folders and nothing else."""

from pathlib import Path

from kvdistill.record import Curve, DemoSummary, EvaluationRecord, ProbesRecord
from kvdistill.reporting import results, sections
from kvdistill.reporting.page import Missing, Page, Section, percent


def write_demo_report(folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of a demo into its folder; returns the HTML file.

    Reads ``summary.json``, ``evaluation_{cot,cot_terse,direct,latent_e1,latent_kv,...}.json``, ``curve_*.json``,
    ``metrics*.jsonl``, ``probes.json`` and ``run.json``, as far as they are there. Figures go to ``figures/``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file is there and broken; the message names it.
    """
    _require(folder, "kvdistill demo")
    summary = DemoSummary.find(folder / "summary.json")
    records = {path.stem.removeprefix("evaluation_"): EvaluationRecord.read(path) for path in sorted(folder.glob("evaluation_*.json"))}
    curves = [Curve.read(path) for path in sorted(folder.glob("curve_*.json"))]
    parts = [
        results.demo_section(folder, summary, records),
        sections.bars(summary),
        sections.training(folder, summary, curves),
        sections.losses(folder, "kvdistill demo"),
        sections.methods(summary),
        sections.probes(ProbesRecord.find(folder / "probes.json"), summary),
        sections.made(folder, "kvdistill demo", summary),
    ]
    title, lead = sections.headline(summary)
    return Page(title=title, lead=lead, sections=parts).write(folder)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of a training run into its folder; returns the HTML file.

    Reads ``run.json``, ``metrics*.jsonl``, ``evaluation*.json`` and ``curve_*.json``, as far as they are there.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file is there and broken; the message names it.
    """
    _require(folder, "kvdistill train")
    rows = results.evaluated({path.stem: EvaluationRecord.read(path) for path in sorted(folder.glob("evaluation*.json"))})
    curves = [Curve.read(path) for path in sorted(folder.glob("curve_*.json"))]
    table = results.table_of_answers(folder, rows) if rows else [Missing("evaluation.json", "kvdistill evaluate")]
    parts = [Section("Answers", table), sections.losses(folder, "kvdistill train")]
    if curves:
        parts.append(sections.training(folder, None, curves))
    parts.append(sections.made(folder, "kvdistill train", None))
    best = max((row.measured for row in rows), key=lambda measured: measured.accuracy, default=None)
    lead = "Not evaluated yet." if best is None else f"Best accuracy: {percent(best.accuracy)}, {best.label}."
    return Page(title=f"Training run {folder.resolve().name}", lead=lead, sections=parts).write(folder)


def _require(folder: Path, command: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the one that `{command}` wrote.")
