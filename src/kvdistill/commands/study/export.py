"""``kvdistill study export``: the records of a study without its checkpoints, to be committed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from kvdistill.console.wording import size_text
from kvdistill.records.routing import ROUTING
from kvdistill.records.study import PLAN, StudyPlan
from kvdistill.reporting.studies.study_report import write_study_report
from kvdistill.run.folder import COMPLETED

LARGEST = 20 * 2**20
"""Most bytes of all records together."""
KEPT = ("run.json", "metrics.jsonl", "evaluation_test_*.json", ROUTING, COMPLETED)
"""What is kept of a run: all that its report and the study's read."""
OWN = (PLAN, "pilot.json")
"""What is kept of the study's folder; the report is written again."""


def export(folder: Path, output: Path, largest: int = LARGEST) -> int:
    """Copy the records of a study, and write its report there.

    Args:
        folder: the study's folder.
        output: where the records go; an earlier export there is replaced.
        largest: most bytes of all files together.

    Returns:
        Bytes of all files.

    Raises:
        FileNotFoundError: if ``folder`` holds no study.
        ValueError: if ``output`` holds something else, or the records are too large.
    """
    StudyPlan.read(folder / PLAN)
    if output.exists() and (output.resolve() == folder.resolve() or not _is_export(output)):
        raise ValueError(f"{output} holds something other than an export: choose another folder.")
    files = list(_records(folder))
    size = sum(path.stat().st_size for path in files)
    if size > largest:
        raise ValueError(
            f"The records of {folder} take {size_text(size)}, above {size_text(largest)}: raise "
            "training.logging_steps, or export fewer arms."
        )
    if output.exists():
        shutil.rmtree(output)
    for path in files:
        place = output / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    write_study_report(output)
    return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())


def _is_export(folder: Path) -> bool:
    """Whether a folder is empty, or a study without a checkpoint."""
    if not folder.is_dir():
        return False
    has_plan = (folder / PLAN).is_file() and not any(folder.rglob("checkpoint-*"))
    return has_plan or not any(folder.iterdir())


def _records(folder: Path) -> Iterator[Path]:
    """The records of complete runs, and those of the study itself."""
    yield from (folder / name for name in OWN if (folder / name).is_file())
    for completed in sorted(folder.rglob(COMPLETED)):
        for pattern in KEPT:
            yield from sorted(completed.parent.glob(pattern))
