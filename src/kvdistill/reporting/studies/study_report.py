"""The report of a study: ``study.json``, ``report.html``, ``report.md`` and their figures."""

import shlex
from pathlib import Path

from kvdistill.reporting.page import Page
from kvdistill.reporting.studies import arm_claims, arm_sections
from kvdistill.reporting.studies.arms import StudyNumbers, study_numbers

NUMBERS = "study.json"


def write_study_report(folder: Path) -> Path:
    """Compute a study's numbers and verdicts, and write them as JSON and as a report.

    Args:
        folder: the study's folder; checkpoints are not needed.

    Returns:
        Path of the HTML file.

    Raises:
        FileNotFoundError: if the folder holds no study.
        ValueError: if a record in it is broken; the message names it.
    """
    numbers = study_numbers(folder)
    numbers.write(folder / NUMBERS)
    figures = folder / "figures" / "study_"
    sections = [
        arm_sections.ran(numbers),
        arm_sections.table(numbers, figures),
        *arm_sections.learning(numbers),
        *arm_sections.depths(numbers),
        *arm_claims.claims(numbers, figures),
        *arm_sections.training(numbers, figures),
        *arm_sections.warm(numbers),
        arm_sections.made(numbers, shlex.join(["kvdistill", "study", "report", str(folder)])),
    ]
    return Page(title=f"Study: {numbers.plan.name}", lead=verdicts(numbers), sections=sections).write(folder)


def verdicts(numbers: StudyNumbers) -> str:
    """One paragraph: how many runs count, and the verdict on each claim."""
    counting = sum(len(row.seeds) for row in numbers.rows.values())
    planned = sum(len(row.plan.seeds) for row in numbers.rows.values())
    told = f"{counting} of {planned} runs count."
    outcomes = [f"{claim.title}: {claim.outcome}." for claim in numbers.claims]
    return " ".join([told, *outcomes])
