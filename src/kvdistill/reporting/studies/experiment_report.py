"""The experiment report: which of E1 to E5 ran, their accuracies, and the computed verdict on each claim."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvdistill.records.jsonfile import write_atomic
from kvdistill.reporting.blocks import Words
from kvdistill.reporting.page import Page, Section
from kvdistill.reporting.studies import claim_sections, learning_sections
from kvdistill.reporting.studies import sections as study_sections
from kvdistill.reporting.studies.experiments import discover
from kvdistill.reporting.studies.record import ExperimentReport, StudyRecord, summarise

NAME = "EXPERIMENT_REPORT"
DELTA = 0.02
"""Default smallest difference of accuracy that matters, as a share: two points."""


def experiment_report(base: Path, delta: float = DELTA) -> ExperimentReport:
    """Compute the numbers and verdicts of every study in a folder.

    Args:
        base: the folder that holds the runs.
        delta: smallest difference of accuracy that matters, as a share.

    Returns:
        The record that ``EXPERIMENT_REPORT.json`` holds.

    Raises:
        FileNotFoundError: if there is no such folder, or no run of a study in it.
        ValueError: if ``delta`` is not above 0.
    """
    found = discover(base)
    if not found.studies:
        message = (
            f"{base} holds no run of a study, which is a folder with a run in <experiment>/seed<number>, "
            "such as E4_rkv/seed0."
        )
        if found.others:
            message += f" Other files there belong to no study: {', '.join(found.others)}."
        raise FileNotFoundError(message)
    return ExperimentReport(
        delta=delta, studies=[summarise(study, delta) for study in found.studies], others=found.others
    )


def write_experiment_report(base: Path, delta: float = DELTA) -> Path:
    """Write ``EXPERIMENT_REPORT.txt``, ``.json`` and ``.html``, with figures in ``figures/``.

    Args:
        base: the folder that holds the runs; the report is written into it.
        delta: smallest difference of accuracy that matters, as a share.

    Returns:
        Path of the text file.

    Raises:
        FileNotFoundError: if there is no such folder, or no run of a study in it.
        ValueError: if ``delta`` is not above 0.
    """
    record = experiment_report(base, delta)
    page = _page(record, base)
    record.write(base / f"{NAME}.json")
    write_atomic(base / f"{NAME}.html", page.html())
    write_atomic(base / f"{NAME}.txt", page.plain())
    return base / f"{NAME}.txt"


def _page(record: ExperimentReport, base: Path) -> Page:
    command = shlex.join(
        ["python", "scripts/analyze_results.py", "--output_base", str(base), "--delta", f"{record.delta:g}"]
    )
    sections: list[Section] = []
    if len(record.studies) == 1:
        sections += _parts(record.studies[0], record.delta, base / "figures" / "study_", command)
    else:
        for place, study in enumerate(record.studies, start=1):
            parts = _parts(study, record.delta, base / "figures" / f"study{place}_", command)
            sections += [replace(part, title=f"{study.name}: {part.title}") for part in parts]
    if record.others:
        sections.append(Section("Not part of a study", [Words(", ".join(record.others))]))
    lead = " ".join(f"Study {study.name}: {_verdicts(study)}." for study in record.studies)
    return Page("Experiments E1 to E5", lead, sections)


def _parts(study: StudyRecord, delta: float, figures: Path, command: str) -> Sequence[Section]:
    return [
        study_sections.ran(study),
        study_sections.accuracy(study, figures),
        *learning_sections.log_probability(study),
        *learning_sections.depths(study),
        study_sections.losses(study),
        study_sections.steadiness(study, figures),
        *learning_sections.learning(study),
        *claim_sections.claims(study, delta, figures),
        claim_sections.control(study),
        study_sections.warnings(study),
        study_sections.made(study, command),
    ]


def _verdicts(study: StudyRecord) -> str:
    outcomes = [f"claim {place} {claim.outcome}" for place, claim in enumerate(study.claims, start=1)]
    return ", ".join(outcomes) + study.caveat
